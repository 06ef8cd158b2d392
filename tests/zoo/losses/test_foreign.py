"""Losses of smp and mmseg by name, on masks with ignored pixels."""

import pytest
import torch
import torch.nn.functional as F

from registry import LOSSES, InputError, NameNotFound

pytestmark = pytest.mark.filterwarnings('ignore')  # mmseg says what it would like to be installed

K = 4
MULTI = dict(mode='multiclass')
LOSSES_OF_MASKS = [
    dict(type='smp.DiceLoss', **MULTI),
    dict(type='smp.DiceLoss', log_loss=True, classes=[0, 2], **MULTI),
    dict(type='smp.JaccardLoss', class_weights=[1, 2, 3, 4], **MULTI),
    dict(type='smp.TverskyLoss', alpha=0.3, beta=0.7, **MULTI),
    dict(type='smp.LovaszLoss', **MULTI),
    dict(type='smp.FocalLoss', **MULTI),
    dict(type='smp.SoftCrossEntropyLoss', smooth_factor=0.1),
    dict(type='smp.SoftCrossEntropyLoss'),
    dict(type='mmseg.DiceLoss'),
    dict(type='mmseg.DiceLoss', use_sigmoid=False, naive_dice=True),
    dict(type='mmseg.LovaszLoss'),
    dict(type='mmseg.LovaszLoss', per_image=True),
    dict(type='mmseg.FocalLoss'),
    dict(type='mmseg.FocalLoss', reduction='none', class_weight=[1.0, 2.0, 0.5, 1.0]),
    dict(type='mmseg.TverskyLoss'),
    dict(type='mmseg.CrossEntropyLoss', class_weight=[1.0, 2.0, 0.5, 1.0], avg_non_ignore=False),
    dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True),
    dict(type='mmseg.OhemCrossEntropy', min_kept=10),
]


@pytest.fixture(autouse=True)
def _without_gpu(monkeypatch):
    """Where there is one, mmseg's FocalLoss wants the operators of a full mmcv, which the docs say."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)


def name(cfg):
    return ' '.join(str(v) for v in cfg.values())


@pytest.fixture
def logits():
    return torch.randn(2, K, 6, 9, requires_grad=True)


@pytest.fixture
def target():
    target = torch.randint(K, (2, 6, 9))
    target[:, :2] = 255
    target[1, :, 5] = 255
    return target


@pytest.mark.parametrize('cfg', LOSSES_OF_MASKS, ids=name)
def test_ignored_pixels_have_no_influence(cfg, logits, target):
    loss = LOSSES.build(cfg)
    value = loss(logits, target)
    assert value.shape == ()
    assert value > 0
    (gradient,) = torch.autograd.grad(value, logits)
    ignored = (target == 255)[:, None].expand_as(logits)
    assert not gradient[ignored].any()
    assert gradient[~ignored].abs().sum() > 0
    other = torch.where(ignored, torch.randn_like(logits) * 5, logits)
    torch.testing.assert_close(loss(other, target), value)


@pytest.mark.parametrize('cfg', [c for c in LOSSES_OF_MASKS if 'per_image' not in c], ids=name)
def test_where_all_is_ignored_the_loss_is_zero_with_zero_gradients(cfg, logits, target):
    value = LOSSES.build(cfg)(logits, torch.full_like(target, 255))
    assert value.shape == ()
    assert value == 0
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.equal(gradient, torch.zeros_like(logits))


@pytest.mark.parametrize('cfg', LOSSES_OF_MASKS, ids=name)
def test_a_descent_along_the_gradient_lowers_the_loss(cfg, logits, target):
    loss = LOSSES.build(cfg)
    before = loss(logits, target)
    (gradient,) = torch.autograd.grad(before, logits)
    assert loss(logits - gradient / gradient.norm() * 0.1, target) < before


def valid_rows(logits, target):
    """(N, K) logits and (N,) classes of the pixels that count."""
    counts = target != 255
    return logits.movedim(1, -1)[counts], target[counts]


def test_dice_of_smp_is_that_of_the_pixels_that_count(logits, target):
    p, y = valid_rows(logits, target)
    p, y = p.softmax(1), F.one_hot(y, K)
    expected = (1 - 2 * (p * y).sum(0) / (p.sum(0) + y.sum(0))).mean()
    torch.testing.assert_close(LOSSES.build(LOSSES_OF_MASKS[0])(logits, target), expected)


@pytest.mark.parametrize('sigmoid', [True, False])
def test_dice_of_mmseg_is_that_of_the_pixels_that_count(logits, target, sigmoid):
    loss = LOSSES.build(dict(type='mmseg.DiceLoss', use_sigmoid=sigmoid, eps=1e-3))
    expected = []
    for z, t in zip(logits, target):  # of each image, over all classes at once, squares below (V-Net)
        z, y = valid_rows(z[None], t[None])
        p, y = z.sigmoid() if sigmoid else z.softmax(1), F.one_hot(y, K)
        expected.append(1 - 2 * (p * y).sum() / ((p * p).sum() + (y * y).sum() + 2e-3))
    torch.testing.assert_close(loss(logits, target), torch.stack(expected).mean())


@pytest.mark.parametrize('cfg', [dict(type='smp.LovaszLoss', **MULTI), dict(type='mmseg.LovaszLoss')], ids=name)
def test_lovasz_of_a_sure_prediction_is_one_minus_its_mean_iou(cfg, target):
    guess = torch.randint(K, target.shape)
    logits = F.one_hot(guess, K).movedim(-1, 1) * 200.0
    counts = target != 255
    iou = []
    for k in range(K):
        a, b = (guess == k) & counts, target == k
        iou.append((a & b).sum() / (a | b).sum())
    torch.testing.assert_close(LOSSES.build(cfg)(logits, target), 1 - torch.stack(iou).mean())


def focal(logits, target, alpha, gamma=2.0):
    """(N, K): of each pixel that counts and class."""
    z, y = valid_rows(logits, target)
    y = F.one_hot(y, K).bool()
    p = torch.where(y, z.sigmoid(), 1 - z.sigmoid())
    return -torch.where(y, alpha, 1 - alpha) * (1 - p) ** gamma * p.log()


def test_focal_loss_of_smp_is_that_of_the_pixels_that_count(logits, target):
    loss = LOSSES.build(dict(type='smp.FocalLoss', alpha=0.25, **MULTI))
    torch.testing.assert_close(loss(logits, target), focal(logits, target, 0.25).mean())


def test_focal_loss_of_mmseg_is_averaged_over_all_pixels(logits, target):
    loss = LOSSES.build(dict(type='mmseg.FocalLoss', alpha=0.25))
    torch.testing.assert_close(loss(logits, target), focal(logits, target, 0.25).sum() / logits.numel())


def test_binary_focal_loss_of_mmseg():
    logits, target = torch.randn(2, 1, 3, 5), torch.randint(2, (2, 3, 5))
    target[0, 0] = 255
    z, y = valid_rows(logits, target)
    expected = F.binary_cross_entropy_with_logits(z[:, 0], y.float(), reduction='none')
    expected = (0.5 * (1 - (-expected).exp()) ** 2 * expected).sum() / target.numel()
    torch.testing.assert_close(LOSSES.build('mmseg.FocalLoss')(logits, target), expected)


@pytest.mark.parametrize('mode', ['binary', 'multilabel'])
def test_other_modes_of_smp(mode):
    logits = torch.randn(2, 1 if mode == 'binary' else 3, 4, 5, requires_grad=True)
    target = torch.randint(2, logits.shape)
    value = LOSSES.build(dict(type='smp.DiceLoss', mode=mode))(logits, target)
    assert torch.autograd.grad(value, logits)[0].abs().sum() > 0


def test_what_smp_ignores_can_be_chosen(logits, target):
    loss = LOSSES.build(dict(type='smp.DiceLoss', ignore_index=3, **MULTI))
    counted = LOSSES.build(dict(type='smp.DiceLoss', **MULTI))
    target[target == 255] = 3
    torch.testing.assert_close(loss(logits, target), counted(logits, target.masked_fill(target == 3, 255)))
    every = LOSSES.build(dict(type='smp.DiceLoss', ignore_index=None, **MULTI))
    assert every(logits, target) == counted(logits, target)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(type='smp.DiceLos', **MULTI), r"No loss in smp named 'DiceLos'\. Did you mean 'DiceLoss'"),
        (dict(type='mmseg.LovaszLos'), r"No loss in mmseg named 'LovaszLos'\. Did you mean 'LovaszLoss'"),
        (dict(type='smp.DiceLoss', mode='multiclas'), r"named 'multiclas'\. Did you mean 'multiclass'"),
    ],
)
def test_unknown_names(cfg, message):
    with pytest.raises(NameNotFound, match=message):
        LOSSES.build(cfg)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(type='smp.DiceLoss', smoth=1, **MULTI), r"no argument 'smoth'\. Did you mean 'smooth'"),
        (dict(type='smp.DiceLoss'), "can not be built: missing a required argument: 'mode'"),
        (dict(type='smp.DiceLoss', mode='binary', class_weights=[1]), "'smp.DiceLoss' can not be built: class_weights"),
        (dict(type='mmseg.LovaszLoss', clases='all'), r"no argument 'clases'\. Did you mean 'classes'"),
        (dict(type='mmseg.LovaszLoss', reduction='mean'), r"should be 'none' when per_image is False\.$"),
        (dict(type='mmseg.FocalLoss', gamma='two'), "'mmseg.FocalLoss' can not be built: .*gamma should be"),
    ],
)
def test_bad_arguments(cfg, message):
    with pytest.raises(InputError, match=message) as caught:
        LOSSES.build(cfg)
    assert '\n' not in str(caught.value)
