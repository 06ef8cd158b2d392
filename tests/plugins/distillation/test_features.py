"""Losses of features against literal ones."""

import numpy as np
import pytest
import torch

from plugins.distillation.attention_features import StageAttention, attention_loss, attention_maps
from plugins.distillation.c2kd import kendall_tau, without_target
from plugins.distillation.ofd import negative_margin, ofd_loss
from plugins.distillation.pkd import pkd_loss


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize('shape', [(6, 4), (3, 4, 2, 5)])
def test_pkd_is_one_minus_the_correlation_of_each_channel(shape):
    s, t = draw(*shape), draw(*shape, seed=1)
    columns = zip(s.transpose(0, 1).flatten(1).numpy(), t.transpose(0, 1).flatten(1).numpy())
    expected = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in columns])
    assert float(pkd_loss(s, t)) == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda x: pkd_loss(x, t), s.requires_grad_())


def test_pkd_of_one_vector_is_zero_with_a_finite_gradient():
    s = draw(1, 4).requires_grad_()
    loss = pkd_loss(s, draw(1, 4, seed=1))
    loss.backward()
    assert loss == 0
    assert not s.grad.any()


@pytest.mark.parametrize('shape', [(6, 3), (2, 3, 4, 5)])
def test_ofd_is_the_literal_partial_distance(shape):
    s, t = draw(*shape), draw(*shape, seed=1)
    t[:, 2] = t[:, 2].abs()  # a channel without a negative value
    margins = [0.0] * 3
    for c in range(3):
        negative = [v for v in t[:, c].flatten().tolist() if v < 0]
        margins[c] = sum(negative) / len(negative) if negative else 0.0
    total = 0.0
    for c in range(3):
        for a, b in zip(s[:, c].flatten().tolist(), t[:, c].flatten().tolist()):
            target = max(b, margins[c])
            total += 0 if a <= target <= 0 else (a - target) ** 2
    np.testing.assert_allclose(negative_margin(t), margins)
    assert float(ofd_loss(s, t)) == pytest.approx(total / s.numel())


def test_attention_maps_have_length_one_and_show_places_not_channels():
    x = draw(2, 3, 4, 5)
    whole, half = attention_maps(x, [(4, 5), (2, 3)])
    assert half.shape == (2, 6)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(attention_maps(-2 * x[:, [2, 0, 1]], [(4, 5)])[0], whole)


def test_attention_weighs_pairs_of_stages():
    student = [draw(2, 3, 8, 12), draw(2, 5, 4, 6, seed=1)]
    teacher = [draw(2, 4, 4, 6, seed=2), draw(2, 6, 2, 3, seed=3), draw(2, 6, 2, 3, seed=4)]
    weights = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = 0.0
    for i, t in enumerate(teacher):
        for j, s in enumerate(student):
            sized = torch.nn.functional.adaptive_avg_pool2d(s.square().mean(1), t.shape[2:])
            for b in range(2):
                a, c = sized[b].flatten(), t[b].square().mean(0).flatten()
                expected += float(weights[b, i, j] * (a / a.norm() - c / c.norm()).square().mean()) / 2
    assert float(attention_loss(student, teacher, weights)) == pytest.approx(expected)
    attention = StageAttention([3, 5], [4, 6, 6], 8).double()(student, teacher)
    torch.testing.assert_close(attention.sum(2), torch.ones(2, 3, dtype=torch.float64))


def test_rank_correlations_are_those_of_scipy():
    from scipy.stats import kendalltau

    x, y = draw(6, 5), draw(6, 5, seed=1)
    expected = [kendalltau(a, b).statistic for a, b in zip(x.numpy(), y.numpy())]
    np.testing.assert_allclose(kendall_tau(x, y), expected)


def test_the_target_is_set_to_zero():
    assert without_target(torch.tensor([[1.0, 2, 3]]), torch.tensor([1])).tolist() == [[1, 0, 3]]
