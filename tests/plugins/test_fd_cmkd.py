"""FD-CMKD: its mathematics against the worked example of the specification, its losses in a host, its teacher."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from plugins import FDCMKD
from plugins.fd_cmkd import (
    band_loss,
    cut,
    frequency_split,
    high_frequency_loss,
    log_compress,
    low_frequency_loss,
    standardise,
)
from registry import PLUGINS, InputError, NameNotFound
from zoo.hosts import EncoderDecoder, LateFusion

A = torch.tensor([[0.5, -1, 2, 0, 1.5, -0.5, 3, 1]], dtype=torch.float64)
B = torch.tensor([[1, 0, -2, 0.5, 2.5, 1, 0, -1]], dtype=torch.float64)
# computed by numpy's transform, six digits
A_LOW = [-0.911612, -1.103553, 0.234835, 0.375000, -0.588388, -0.146447, 1.265165, 0.875000]
A_HIGH = [0.599112, -0.708947, 0.952665, -1.187500, 1.275888, -1.166053, 0.922335, -0.687500]
B_LOW = [0.558058, -0.493718, -1.786612, -0.088388, 2.191942, 1.243718, -0.963388, -0.661612]
B_HIGH = [0.191942, 0.243718, -0.463388, 0.338388, 0.058058, -0.493718, 0.713388, -0.588388]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found, expected, digits=1e-6):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.reshape(expected.shape).double(), expected, atol=digits, rtol=0)


# ---- the split


@pytest.mark.parametrize(('x', 'low', 'high'), [(A, A_LOW, A_HIGH), (B, B_LOW, B_HIGH)])
def test_the_parts_of_the_worked_example(x, low, high):
    found = frequency_split(x)
    near(found[0], low)
    near(found[1], high)
    near(frequency_split(x.float())[0], low, 1e-5)


def test_an_odd_width_keeps_all_its_entries():
    low, high = frequency_split(torch.tensor([1.0, 2, -1, 0, 3, 1, -2], dtype=torch.float64))
    near(low, [-0.486545, -0.331095, 0.073676, 0.422967, 0.453756, 0.142857, -0.275616])
    near(high, [0.915116, 1.759667, -1.645104, -0.994396, 1.974815, 0.285714, -2.295813])


def test_channels_of_maps_are_split_at_each_place():
    low, high = frequency_split(torch.arange(16.0, dtype=torch.float64).sin().view(1, 4, 2, 2), dim=1)
    half = torch.tensor([-0.494679, 0.214676, 0.726659, 0.570555, -0.110115, -0.689546, -0.635011, 0.003349])
    near(low, torch.cat([half, -half]).view(1, 4, 2, 2).double())
    first = torch.tensor([0.570683, 0.448087, -0.086479, -0.541536]).view(1, 1, 2, 2)
    near(high, (first * torch.tensor([1.0, -1, 1, -1]).view(1, 4, 1, 1)).double())


@pytest.mark.parametrize('width', [4, 5, 8, 31, 512])
@pytest.mark.parametrize('threshold', [0.2, 1 / 3, 0.5, 0.9])
def test_the_parts_are_orthogonal_projections_that_add_up(width, threshold):
    x = draw(3, width)
    mean = x.mean(1, keepdim=True)
    low, high = frequency_split(x, threshold)
    torch.testing.assert_close(low + high, x - mean)
    torch.testing.assert_close(sum(frequency_split(x, threshold, 'low')), x)
    again = frequency_split(low, threshold)
    torch.testing.assert_close(again[0], low)
    torch.testing.assert_close(again[1], torch.zeros_like(low), atol=1e-12, rtol=0)
    assert (low * high).sum(1).abs().max() < 1e-10
    torch.testing.assert_close(low.square().sum(1) + high.square().sum(1), (x - mean).square().sum(1))


def test_the_split_is_that_of_a_symmetric_mask_on_a_full_transform():
    x, c = draw(2, 12), cut(12)
    mask = torch.zeros(12)
    mask[1 : c + 1] = mask[12 - c :] = 1
    torch.testing.assert_close(frequency_split(x)[0], torch.fft.ifft(torch.fft.fft(x) * mask).real)


@pytest.mark.parametrize(
    ('width', 'cuts'), [(512, (128, 64, 85)), (768, (192, 96, 128)), (1280, (320, 160, 213)), (256, (64, 32, 42))]
)
def test_the_cuts_of_the_usual_widths(width, cuts):
    assert tuple(cut(width, t) for t in (1 / 2, 1 / 4, 1 / 3)) == cuts


def test_the_low_part_of_a_map_is_what_is_smooth():
    down, right = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(6, dtype=torch.float64)
    wave = torch.cos(torch.pi * down) * torch.ones_like(right)  # as fast as it goes
    smooth = torch.cos(2 * torch.pi * right / 6) * torch.ones_like(down)
    low, high = frequency_split(wave + smooth + 2, dim=(-2, -1))
    near(low, smooth)
    near(high, wave)


# ---- standardisation, logarithm, losses


def test_the_standardised_parts_and_logarithms_of_the_worked_example():
    near(
        standardise(torch.tensor([A_HIGH], dtype=torch.float64)),
        [[0.218908, -0.259040, 0.348092, -0.433897, 0.466193, -0.426061, 0.337009, -0.251204]],
    )
    near(
        log_compress(standardise(frequency_split(B)[1])),
        [[0.144352, 0.179970, -0.318385, 0.241984, 0.045902, -0.336075, 0.455631, -0.389361]],
    )
    near(
        log_compress(torch.tensor([-3, -0.5, 0, 0.1, 1, 10], dtype=torch.float64)),
        [-1.386294, -0.405465, 0, 0.095310, 0.693147, 2.397895],
    )


def test_the_slope_of_the_logarithm():
    x = torch.tensor([-3.0, -0.5, 0.0, 0.1, 1.0, 10.0], dtype=torch.float64, requires_grad=True)
    log_compress(x).sum().backward()
    near(x.grad[[0, 1, 3, 4, 5]], [0.25, 0.666667, 0.909091, 0.5, 0.090909])


@pytest.mark.parametrize(
    ('threshold', 'low', 'high', 'plain', 'unscaled_low', 'unscaled_high'),
    [
        (1 / 2, 0.371939, 0.135406, 0.190049, 3.294309, 0.456610),
        (1 / 4, 0.075840, 0.235236, 0.351753, 0.536497, 1.364093),
        (1 / 3, 0.075840, 0.235236, 0.351753, 0.536497, 1.364093),
    ],
)
def test_the_losses_of_the_worked_example(threshold, low, high, plain, unscaled_low, unscaled_high):
    for s, t in ((A, B), (torch.cat([A, B]), torch.cat([B, A]))):
        near(low_frequency_loss(s, t, threshold), low)
        near(low_frequency_loss(s, t, threshold, dc='low'), low)
        near(high_frequency_loss(s, t, threshold), high)
        near(high_frequency_loss(s, t, threshold, log=False), plain)
        near(low_frequency_loss(s, t, threshold, scale=False), unscaled_low)
        near(high_frequency_loss(s, t, threshold, scale=False), unscaled_high)
    near(low_frequency_loss(A, B, threshold, reduction='row_sum'), 8 * low, 1e-5)


def test_the_gradients_of_the_worked_example():
    for loss, expected in (
        (low_frequency_loss, [0.003867, 0.043361, 0.053349, -0.006261, -0.058098, -0.037555, 0.000881, 0.000455]),
        (high_frequency_loss, [-0.003476, -0.016425, 0.026285, -0.020328, 0.002043, 0.017858, -0.027717, 0.021761]),
    ):
        a = A.clone().requires_grad_()
        loss(a, B).backward()
        near(a.grad, [expected])
        assert a.grad.sum().abs() < 1e-12
        assert (a.grad * A).sum().abs() < 1e-12


@pytest.mark.parametrize('loss', [low_frequency_loss, high_frequency_loss])
@pytest.mark.parametrize('width', [8, 9])
def test_gradients_are_those_of_differences(loss, width):
    assert torch.autograd.gradcheck(lambda s, t: loss(s, t), (draw(3, width).requires_grad_(), draw(3, width, seed=1)))


@pytest.mark.parametrize('loss', [low_frequency_loss, high_frequency_loss])
def test_scale_and_shift_of_a_feature_do_not_count_but_the_order_of_channels_does(loss):
    s, t = draw(4, 16), draw(4, 16, seed=1)
    torch.testing.assert_close(loss(3 * s + 2, 0.1 * t - 5), loss(s, t))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    assert not torch.isclose(loss(s[:, order], t[:, order]), loss(s, t))


def test_without_scale_a_constant_apart_is_a_loss_of_its_square():
    x = draw(3, 8)
    near(low_frequency_loss(x + 1.5, x, scale=False), 2.25)
    near(high_frequency_loss(x + 1.5, x, scale=False), 0.0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('width', [768, 1283])
def test_losses_and_gradients_are_finite_in_any_precision(dtype, width):
    s = (500 * draw(4, width)).to(dtype).requires_grad_()
    t = (500 * draw(4, width, seed=1)).to(dtype)
    loss = low_frequency_loss(s, t) + high_frequency_loss(s, t)
    loss.backward()
    assert loss.dtype == torch.float32
    assert s.grad.isfinite().all()
    assert s.grad.float().abs().sum() > 0 or dtype == torch.float16  # whose smallest number is 6e-8


@pytest.mark.parametrize('loss', [low_frequency_loss, high_frequency_loss])
def test_features_that_are_alike_constant_or_not_finite_have_no_loss_and_a_finite_gradient(loss):
    x = draw(3, 8)
    alike = x.clone().requires_grad_()
    loss(alike, x).backward()
    assert alike.grad.abs().max() < 1e-12
    odd = x.clone()
    odd[0], odd[1, 2] = 4.0, torch.nan
    odd.requires_grad_()
    found = loss(odd, draw(3, 8, seed=1))
    found.backward()
    assert not odd.grad[:2].any()
    assert odd.grad[2].any()
    near(found, loss(x[2:], draw(3, 8, seed=1)[2:]) / 3)


def test_a_map_of_one_place_is_a_vector():
    s, t = draw(3, 8), draw(3, 8, seed=1)
    for loss in (low_frequency_loss, high_frequency_loss):
        near(loss(s[..., None, None], t[..., None, None], dim=1), loss(s, t))
        tokens = loss(s[:, None].expand(-1, 5, -1), t[:, None].expand(-1, 5, -1))
        near(tokens, loss(s, t))


def test_a_term_of_a_row_is_four_over_its_width_at_most():
    x = draw(1, 64)
    near(band_loss(x, -x), 4 / 64)


@pytest.mark.parametrize(
    ('call', 'error', 'words'),
    [
        (lambda: frequency_split(torch.zeros(2, 3)), InputError, r'at least 4 entries .* shape \(2, 3\)'),
        (lambda: frequency_split(torch.zeros(2, 8), 1.0), InputError, r'threshold must be in \(0, 1\), got 1.0'),
        (lambda: frequency_split(torch.zeros(2, 8, dtype=torch.int64)), InputError, r'torch.int64 of shape \(2, 8\)'),
        (lambda: frequency_split(torch.zeros(2, 8, dtype=torch.complex64)), InputError, 'complex64'),
        (lambda: frequency_split(torch.zeros(2, 8), dc='hight'), NameNotFound, 'No place of the mean'),
        (lambda: low_frequency_loss(torch.zeros(2, 8), torch.zeros(3, 8)), InputError, r'\(2, 8\) and \(3, 8\)'),
        (lambda: low_frequency_loss(A, B, reduction='sum'), NameNotFound, 'row_sum'),
    ],
)
def test_bad_input_is_one_clear_line(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ---- the plugin

NARROW = {'model': 'test_resnet', 'stem_width': 4, 'channels': (8, 8, 8, 16)}
WIDER = {'model': 'test_resnet', 'stem_width': 4, 'channels': (8, 8, 8, 24)}


def build(*modalities, seed=0, encoder=NARROW, **arguments):
    torch.manual_seed(seed)
    return LateFusion(list(modalities), num_classes=6, encoder=encoder, **arguments)


def data(*modalities, size=5):
    inputs = {m: draw(size, 3, 32, 48, seed=i).float() for i, m in enumerate(modalities)}
    return {'inputs': inputs, 'target': torch.arange(size) % 6, 'modalities': modalities}


def taught(seed=1, **arguments):
    host = build('rgb').plug(FDCMKD(teacher=build('depth', seed=seed), **arguments)).train()
    return host, host.plugins['FDCMKD']


def test_the_terms_are_those_of_features_before_the_last_activation():
    host, plugin = taught()
    batch = data('rgb', 'depth')
    losses = host(**batch, mode='loss')
    assert set(losses) == {'loss_task', 'loss_low', 'loss_high', 'loss_align', 'loss_task_low', 'loss_task_high'}

    def before(host, m):
        """The map before the last ReLU, of timm's own forward."""
        net = copy.deepcopy(host.encoders[m].model)
        net.layer4[-1].act2 = nn.Identity()
        return net.forward_features(batch['inputs'][m]).mean((2, 3))

    with host.aside():
        s, t = before(host, 'rgb'), before(plugin.teacher, 'depth')
    torch.testing.assert_close(losses['loss_low'], low_frequency_loss(s, t))
    torch.testing.assert_close(losses['loss_high'], high_frequency_loss(s, t))
    heads, target = plugin.parts['rgb'], batch['target']
    (sl, sh), (tl, th) = frequency_split(s), frequency_split(t)
    ce = [(heads.shared['low'], sl), (heads.shared['low'], tl), (heads.shared['high'], sh), (heads.shared['high'], th)]
    torch.testing.assert_close(losses['loss_align'], sum(F.cross_entropy(h(x.relu()), target) for h, x in ce))
    torch.testing.assert_close(losses['loss_task_high'], F.cross_entropy(heads.own['high'](sh.relu()), target))


def test_classifiers_of_zero_give_the_logarithms_of_the_number_of_classes():
    host, plugin = taught()
    for p in [*plugin.parameters(), *host.head.parameters()]:
        p.data.zero_()
    losses = host(**data('rgb', 'depth'), mode='loss')
    near(losses['loss_align'], 4 * math.log(6), 1e-5)
    near(losses['loss_task'] + losses['loss_task_low'] + losses['loss_task_high'], 3 * math.log(6), 1e-5)


@pytest.mark.parametrize(
    ('arguments', 'keys'),
    [
        ({'frequency': False}, {'loss_features', 'loss_align'}),
        ({'align': False}, {'loss_low', 'loss_high', 'loss_task_low', 'loss_task_high'}),
        ({'align': False, 'task_heads': 'none'}, {'loss_low', 'loss_high'}),
        ({'task_heads': 'shared'}, {'loss_low', 'loss_high', 'loss_align', 'loss_task_low', 'loss_task_high'}),
        ({'frequency': False, 'align': False, 'scale': False}, {'loss_features'}),
    ],
)
def test_ablations_leave_their_terms_out(arguments, keys):
    host, plugin = taught(**arguments)
    losses = host(**data('rgb', 'depth'), mode='loss')
    assert set(losses) == {'loss_task', *keys}
    if arguments.get('scale') is False:  # all off: the distillation of features
        with host.aside():
            outputs = host.run(host.make_batch(**data('rgb', 'depth')))
        s = plugin.pairs[0].student_place.read(outputs)
        taught_batch = plugin.teacher.make_batch(**data('rgb', 'depth'))
        t = plugin.pairs[0].teacher_place.read(plugin.teacher.run(taught_batch))
        torch.testing.assert_close(losses['loss_features'], F.mse_loss(s, t))


def test_weights_multiply_the_terms():
    reference, _ = taught()
    host, plugin = taught(lambda_low=3.0, lambda_high=5.0, weight=2.0)
    plugin.parts.load_state_dict(reference.plugins['FDCMKD'].parts.state_dict())
    found, expected = (h(**data('rgb', 'depth'), mode='loss') for h in (host, reference))
    for key, factor in (('loss_low', 6), ('loss_high', 10), ('loss_align', 2), ('loss_task_low', 2), ('loss_task', 1)):
        torch.testing.assert_close(found[key], factor * expected[key])


def test_the_teacher_is_neither_trained_nor_saved_nor_moved_and_shared_classifiers_learn_from_both():
    host, plugin = taught()
    teacher = plugin.teacher
    before = copy.deepcopy(teacher.state_dict())
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(host(**data('rgb', 'depth'), mode='loss').values()).backward()
        optimizer.step()
    assert not teacher.training
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert not any('encoders' in k for k in plugin.state_dict())
    assert all(p.grad.any() for p in plugin.parameters())


def test_samples_without_the_modality_of_the_teacher_do_not_count():
    host, plugin = taught()
    batch = data('rgb', 'depth')
    present = torch.ones(5, 2, dtype=torch.bool)
    present[1, 1] = present[3, 1] = False
    rows = [0, 2, 4]
    host.eval()  # batch statistics would mix the samples
    with torch.no_grad():
        outputs = host.run(host.make_batch(**batch, present=present))
        made = host.make_batch(**batch, present=present)
        found = plugin.on_losses(host, made, outputs, {})
        part = {m: x[rows] for m, x in batch['inputs'].items()}
        made = host.make_batch(part, target=batch['target'][rows], modalities=('rgb', 'depth'))
        expected = plugin.on_losses(host, made, host.run(made), {})
    torch.testing.assert_close(found, expected)


def test_without_any_such_sample_all_terms_are_zero_with_gradients_of_zero():
    host, plugin = taught()
    batch = data('rgb', 'depth')
    batch['inputs']['depth'][:] = torch.nan
    present = torch.tensor([[True, False]] * 5)
    losses = host(**batch, present=present, mode='loss')
    assert all(v == 0 for k, v in losses.items() if k != 'loss_task')
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in plugin.parameters())
    assert all(p.grad.isfinite().all() for p in host.parameters())


def test_a_student_whose_modality_was_dropped_is_not_compared():
    host = build('rgb', 'depth').plug(plugin := FDCMKD(teacher=build('ir', seed=1), student_modality='rgb')).eval()
    batch = data('rgb', 'depth', 'ir')
    made = host.make_batch(**batch)
    present = made.present.clone()
    present[:2, 0] = False  # as a plugin drops: the data are there
    with torch.no_grad():
        dropped = made.replace(present=present)
        found = plugin.on_losses(host, dropped, host.run(dropped), {})
        rest = made.select(torch.tensor([2, 3, 4]))
        torch.testing.assert_close(found, plugin.on_losses(host, rest, host.run(rest), {}))


def test_widths_that_differ_are_projected_on_the_side_of_the_student():
    host = build('rgb').plug(FDCMKD(teacher=build('depth', seed=1, encoder=WIDER))).train()
    assert host.plugins['FDCMKD'].parts['rgb'].project.weight.shape == (24, 16)
    assert host(**data('rgb', 'depth'), mode='loss')['loss_low'] > 0
    with pytest.raises(InputError, match="are 16 wide, the teacher's 24"):
        build('rgb').plug(FDCMKD(teacher=build('depth', seed=1, encoder=WIDER), projection='none'))


@pytest.mark.parametrize('mutual', [False, True])
def test_one_modality_of_a_host_teaches_another(mutual):
    host = build('rgb', 'depth').plug(
        plugin := FDCMKD(teacher_modality='depth', student_modality='rgb', mutual=mutual, task_heads='none')
    )
    losses = host.train()(**data('rgb', 'depth'), mode='loss')
    assert ('loss_low_depth' in losses) == mutual
    key = 'loss_low_rgb' if mutual else 'loss_low'
    host.zero_grad()
    losses[key].backward()
    assert any(p.grad is not None and p.grad.any() for p in host.encoders['rgb'].parameters())
    assert not any(p.grad is not None and p.grad.any() for p in host.encoders['depth'].parameters())
    assert set(plugin.parts) == ({'rgb', 'depth'} if mutual else {'rgb'})


def test_segmentation_compares_maps_and_has_no_classifiers():
    def make(m, seed=0, size=16):
        torch.manual_seed(seed)
        encoder = {**NARROW, 'channels': (8, 8, 8, size), 'out_indices': (2, 3, 4)}
        return EncoderDecoder([m], num_classes=4, encoder=encoder, head='FCN8s')

    host = make('rgb').plug(FDCMKD(teacher=make('depth', 1, 24), pool=(2, 3))).train()
    batch = {
        'inputs': {m: draw(2, 3, 64, 96, seed=i).float() for i, m in enumerate(('rgb', 'depth'))},
        'target': torch.zeros(2, 64, 96, dtype=torch.long),
        'modalities': ('rgb', 'depth'),
    }
    assert set(host(**batch, mode='loss')) == {'loss_task', 'loss_low', 'loss_high'}
    with pytest.raises(InputError, match='align=True needs a host that gives each sample one class'):
        make('rgb').plug(FDCMKD(teacher=make('depth', 1), align=True))


def test_attaching_changes_nothing_of_the_host_and_its_state():
    plain, host = build('rgb'), build('rgb').plug(FDCMKD(teacher=build('depth', seed=1)))
    own = {k: v for k, v in host.state_dict().items() if not k.startswith('plugins.')}
    torch.testing.assert_close(own, plain.state_dict(), rtol=0, atol=0)
    x = data('rgb')['inputs']
    torch.testing.assert_close(host.eval()(x), plain.eval()(x), rtol=0, atol=0)


def test_the_network_learns_what_is_low_in_its_teacher_and_not_what_is_high():
    """Student and teacher share what lies in the low bins only; a swapped split fails."""
    torch.manual_seed(0)
    width, n = 32, 256
    common, noise = draw(n, width, seed=1).float(), draw(n, width, seed=2).float()
    low = frequency_split(common)[0]
    view, target = low + 0.05 * noise, low + frequency_split(draw(n, width, seed=3).float())[1]
    net = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        out = net(view[:192])
        (low_frequency_loss(out, target[:192], reduction='row_sum')).backward()
        optimizer.step()
    with torch.no_grad():
        (sl, sh), (tl, th) = frequency_split(net(view[192:])), frequency_split(target[192:])
    assert F.cosine_similarity(sl, tl).mean() > 0.8
    assert F.cosine_similarity(sh, th).mean() < 0.3


@pytest.mark.parametrize(
    ('arguments', 'error', 'words'),
    [
        ({'threshold': 1.5}, InputError, r'threshold must be in \(0, 1\)'),
        ({'lambda_low': -1}, InputError, 'lambda_low must be a finite number of at least 0'),
        ({'axis': 'chanel'}, NameNotFound, 'channel'),
        ({'pool': 3}, InputError, r'pool must be two integers'),
        ({'pool': (0, 3)}, InputError, r'at least 1, got \(0, 3\)'),
        ({'thresh': 0.5}, InputError, "no argument 'thresh'"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, error, words):
    with pytest.raises(error, match=words):
        PLUGINS.build({'type': 'FDCMKD', 'teacher': build('depth'), **arguments})
