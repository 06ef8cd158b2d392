"""Dice and weighted cross-entropy against their formulas, written out."""

import pytest
import torch
import torch.nn.functional as F

from registry import LOSSES, InputError
from zoo.datasets import IGNORE
from zoo.losses import DiceWCE

SHAPE = (3, 4, 5, 6, 7)


def sample(seed=0):
    generator = torch.Generator().manual_seed(seed)
    p = torch.randn(SHAPE, generator=generator, dtype=torch.float64).softmax(1)
    return p, torch.randint(0, 4, (3, 5, 6, 7), generator=generator)


def literal(p, labels, floor=0.0):
    """The official way: one-hot labels, loops over classes."""
    t = F.one_hot(labels, p.shape[1]).movedim(-1, 1).double()
    share = t.sum((2, 3, 4)) / t.sum((1, 2, 3, 4))[:, None]
    entropy, dice = 0, 0
    for c in range(p.shape[1]):
        weight = 1 - share[:, c, None, None, None]
        entropy = entropy - (weight * t[:, c] * p[:, c].clamp(floor, 1).log()).mean()
        dice = dice + 2 * (p[:, c] * t[:, c]).sum() / (p[:, c].sum() + t[:, c].sum() + 1e-7)
    return entropy + 1 - dice / p.shape[1]


@pytest.mark.parametrize('floor', [0.0, 0.005, 0.2])
def test_it_is_the_formula(floor):
    p, labels = sample()
    torch.testing.assert_close(DiceWCE(floor)(p.log(), labels), literal(p, labels, floor), rtol=1e-12, atol=1e-12)


def test_a_class_that_the_batch_lacks_costs_its_share():
    p, labels = sample()
    labels = labels.clamp(max=2)
    torch.testing.assert_close(DiceWCE()(p.log(), labels), literal(p, labels), rtol=1e-12, atol=1e-12)


def test_logits_and_log_probabilities_are_one():
    p, labels = sample()
    torch.testing.assert_close(DiceWCE()(p.log() + 3, labels), DiceWCE()(p.log(), labels))


def test_what_is_ignored_might_as_well_not_be_there():
    p, labels = sample()
    covered = labels.clone()
    covered[:, :2] = IGNORE
    torch.testing.assert_close(DiceWCE()(p.log(), covered), literal(p[:, :, 2:], labels[:, 2:]))
    other = p.clone()
    other[:, :, :2] = other[:, :, :2].flip(1)
    assert DiceWCE()(other.log(), covered) == DiceWCE()(p.log(), covered)


def test_nothing_labelled_is_a_loss_of_zero():
    logits = torch.randn(SHAPE, requires_grad=True)
    loss = DiceWCE()(logits, torch.full((3, 5, 6, 7), IGNORE))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


@pytest.mark.parametrize(('floor', 'moves'), [(0.0, True), (0.005, False)])
def test_voxels_that_are_wrong_with_confidence_have_a_gradient_without_a_floor(floor, moves):
    p = torch.tensor([[1e-4, 1 - 1e-4], [0.5, 0.5]]).T.view(1, 2, 1, 1, 2)
    logits = p.log().requires_grad_()
    labels = torch.tensor([[[[0, 1]]]])
    gradient = torch.autograd.grad(DiceWCE(floor)(logits, labels), logits)[0][0, 0, 0, 0, 0].abs()
    assert (gradient > 0.1) == moves


def test_it_computes_in_float32_under_autocast():
    p, labels = sample()
    half = p.log().bfloat16()
    torch.testing.assert_close(DiceWCE()(half, labels), DiceWCE()(half.float(), labels))


@pytest.mark.parametrize('wrong', [-1, 3])
def test_a_label_that_is_no_class_is_refused_where_one_can_look_and_else_gives_nan(wrong, monkeypatch):
    target = torch.tensor([[[0, 2], [IGNORE, wrong]]])
    with pytest.raises(InputError, match=rf'Label {wrong} is out of range, expected 0\.\.2, or 255'):
        DiceWCE()(torch.randn(1, 3, 2, 2), target)
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    assert DiceWCE()(torch.randn(1, 3, 2, 2), target).isnan()


def test_it_is_registered_and_refuses_bad_floors():
    assert LOSSES.build(dict(type='DiceWCE', floor=0.005)).floor == 0.005
    with pytest.raises(InputError, match=r'floor of DiceWCE must be in \[0, 1\), got 1'):
        DiceWCE(1)
