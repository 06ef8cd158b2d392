"""torch's losses with what a config can hold."""

import pytest
import torch
from torch import nn

from registry import LOSSES, InputError, NameNotFound
from zoo.losses import CrossEntropyLoss

LOGITS = torch.tensor([[1.0, -1.0, 0.5], [0.0, 2.0, -0.5]])
SHAPES = [(7, 4), (257, 10), (3, 5, 6, 7), (2, 40, 33, 47)]


class Counted:
    """Counts of three classes in two images of 20 pixels, the last class in one of them only."""

    def label_counts(self):
        return torch.tensor([24, 8, 4]), torch.tensor([40, 40, 20])


def sample(shape, ignored=0.2, seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=g) * 3
    target = torch.randint(shape[1], (shape[0], *shape[2:]), generator=g)
    return logits.requires_grad_(), target.masked_fill(torch.rand(target.shape, generator=g) < ignored, 255)


@pytest.mark.parametrize('reduction', ['mean', 'none'])
def test_class_weights_may_be_a_list(reduction):
    ours = LOSSES.build(dict(type='CrossEntropyLoss', weight=[1, 2, 4], ignore_index=1, reduction=reduction))
    theirs = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 4.0]), ignore_index=1, reduction=reduction)
    for target in (torch.tensor([2, 0]), torch.tensor([1, 2])):
        assert torch.equal(ours(LOGITS, target), theirs(LOGITS, target))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('ignored', [0.0, 0.2])
def test_without_weights_loss_and_gradient_are_torchs_to_the_bit(shape, ignored):
    for seed in range(5):
        logits, target = sample(shape, ignored, seed)
        found = []
        for loss in (CrossEntropyLoss(ignore_index=255), nn.CrossEntropyLoss(ignore_index=255)):
            value = loss(logits, target)
            found.append((value, torch.autograd.grad(1.7 * value, logits)[0]))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('reduction', ['mean', 'sum', 'none'])
def test_it_is_torchs(shape, smoothing, weighted, reduction):
    logits, target = sample(shape)
    weight = torch.linspace(0, 3, shape[1]) if weighted else None
    common = dict(ignore_index=255, reduction=reduction, label_smoothing=smoothing)
    ours = CrossEntropyLoss(weight.tolist() if weighted else None, **common)(logits, target)
    theirs = nn.CrossEntropyLoss(weight, **common)(logits, target)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(x.sum(), logits)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_probabilities_are_targets_too():
    target = LOGITS.softmax(1)
    assert torch.equal(CrossEntropyLoss()(LOGITS, target), nn.CrossEntropyLoss()(LOGITS, target))


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize(
    ('weight', 'target'),
    [
        (None, torch.full((2, 4, 5), 255)),
        ([1, 2, 3], torch.full((2, 4, 5), 255)),
        ([0, 2, 3], torch.zeros(2, 4, 5, dtype=torch.int64)),
        (None, torch.zeros(0, 4, 5, dtype=torch.int64)),
    ],
    ids=['all ignored', 'all ignored, weighted', 'all of weight zero', 'no sample'],
)
def test_where_nothing_counts_the_mean_is_zero_with_zero_gradients(weight, target, smoothing):
    if weight and weight[0] == 0 and smoothing:
        weight = [0, 0, 0]  # smoothing spreads a target over all classes
    logits = torch.randn(len(target), 3, 4, 5, requires_grad=True)
    loss = CrossEntropyLoss(weight, ignore_index=255, label_smoothing=smoothing)(logits, target)
    assert loss == 0
    assert torch.equal(torch.autograd.grad(loss, logits)[0], torch.zeros_like(logits))


def test_a_loss_that_diverged_stays_nan():
    assert CrossEntropyLoss()(LOGITS * torch.nan, torch.tensor([0, 1])).isnan()


@pytest.mark.parametrize(
    ('scheme', 'expected'),
    [
        ('median_frequency', [0.2 / 0.6, 1.0, 1.0]),  # frequencies 0.6, 0.2, 0.2
        ('logarithmic', (1 / torch.log(torch.tensor([1.02 + 24 / 36, 1.02 + 8 / 36, 1.02 + 4 / 36]))).tolist()),
    ],
)
def test_weights_may_be_counted_in_the_training_data(scheme, expected):
    loss = CrossEntropyLoss(scheme)
    target = torch.tensor([2, 0])
    with pytest.raises(
        InputError, match=rf"weight='{scheme}'\) has no weights yet: .* call prepare\(training_dataset\)"
    ):
        loss(LOGITS, target)
    loss.prepare(Counted())
    assert loss.weight.dtype == torch.float32
    torch.testing.assert_close(loss(LOGITS, target), nn.CrossEntropyLoss(torch.tensor(expected))(LOGITS, target))


def test_counted_weights_move_with_the_host_but_not_into_checkpoints():
    loss = CrossEntropyLoss('logarithmic').double()
    loss.prepare(Counted())
    assert loss.weight.dtype == torch.float64
    assert dict(loss.named_buffers()).keys() == {'weight'}
    assert not loss.state_dict()
    CrossEntropyLoss('logarithmic').load_state_dict(loss.state_dict())
    assert CrossEntropyLoss([1, 2]).state_dict().keys() == {'weight'}  # as torch has it, and old checkpoints


def test_weights_that_were_given_stay_as_they_are():
    loss = CrossEntropyLoss([1, 2, 3])
    loss.prepare(Counted())
    assert loss.weight.tolist() == [1, 2, 3]


def test_bad_weights():
    with pytest.raises(NameNotFound, match=r"named 'median_frequenzy'\. Did you mean 'median_frequency'"):
        LOSSES.build(dict(type='CrossEntropyLoss', weight='median_frequenzy'))
    with pytest.raises(InputError, match=r'weights of 2 classes, but the logits are of 3'):
        CrossEntropyLoss([1, 2])(LOGITS, torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r'needs a data set with label_counts\(\), which list does not have'):
        CrossEntropyLoss('logarithmic').prepare([])


def test_binary_weights_may_be_lists():
    ours = LOSSES.build(dict(type='BCEWithLogitsLoss', weight=[1, 0, 2], pos_weight=[3, 1, 1]))
    theirs = nn.BCEWithLogitsLoss(torch.tensor([1.0, 0.0, 2.0]), pos_weight=torch.tensor([3.0, 1.0, 1.0]))
    target = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    assert torch.equal(ours(LOGITS, target), theirs(LOGITS, target))


@pytest.mark.parametrize('name', ['CrossEntropyLoss', 'BCEWithLogitsLoss', 'MSELoss'])
def test_a_misspelt_argument_is_refused(name):
    with pytest.raises(InputError, match=rf"loss {name} has no argument 'reducton'\. Did you mean 'reduction'"):
        LOSSES.build(dict(type=name, reducton='none'))
