"""Concatenation with a convolution, and the mean, against torch's own layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.fusion import ConcatConv, Mean

NAMES = ['rgb', 'depth', 'ir']
FULL = torch.ones(3, 3, dtype=torch.bool)


def maps(*widths, places=(5, 7)):
    generator = torch.Generator().manual_seed(0)
    return {m: torch.randn(3, c, *places, generator=generator) for m, c in zip(NAMES, widths)}


@pytest.mark.parametrize('places', [(), (7,), (5, 7), (2, 3, 4)])
def test_it_is_a_convolution_a_norm_and_an_activation(places):
    block = ConcatConv(NAMES, {'rgb': 4, 'depth': 6, 'ir': 8}, 5)
    x = maps(4, 6, 8, places=places)
    flat = torch.cat(list(x.values()), 1).reshape(3, 18, -1)
    norm = nn.BatchNorm1d(5)
    expected = F.silu(norm(F.conv1d(flat, block.mix.weight[..., None]))).reshape(3, 5, *places)
    torch.testing.assert_close(block(x, FULL), expected)
    torch.testing.assert_close(block.norm.running_var, norm.running_var)


def test_squeeze_excitation_comes_first():
    block = ConcatConv(NAMES[:2], 8, reduction=4).eval()
    x = maps(8, 8)
    joined = torch.cat([x['rgb'], x['depth']], 1)
    pooled = joined.mean((2, 3))
    weights = block.excitation.excite(block.excitation.squeeze(pooled).relu()).sigmoid()
    mixed = F.conv2d(joined * weights[:, :, None, None], block.mix.weight[:, :, None, None])
    torch.testing.assert_close(block(x, FULL[:, :2]), F.silu(mixed / (1 + 1e-5) ** 0.5))
    assert block.excitation.squeeze.weight.shape == (4, 16)


def test_one_value_for_each_channel_uses_running_statistics():
    block = ConcatConv(NAMES[:2], 4)
    found = block({m: torch.randn(1, 4) for m in NAMES[:2]}, FULL[:1, :2])
    assert found.isfinite().all()
    assert block.norm.num_batches_tracked == 0


def test_the_mean_is_over_those_that_are_present():
    block = Mean(NAMES, 4)
    assert not list(block.parameters())
    x = maps(4, 4, 4)
    mask = torch.tensor([[True, True, True], [True, False, True], [False, False, True]])
    x['depth'][1:] = torch.nan
    found = block(x, mask)
    torch.testing.assert_close(found[0], (x['rgb'][0] + x['depth'][0] + x['ir'][0]) / 3)
    torch.testing.assert_close(found[1], (x['rgb'][1] + x['ir'][1]) / 2)
    torch.testing.assert_close(found[2], x['ir'][2])


def test_other_widths_are_projected():
    block = Mean(NAMES[:2], {'rgb': 4, 'depth': 6})
    assert block.out_channels == 6
    assert list(block.projections) == ['rgb']
    assert block(maps(4, 6), FULL[:, :2]).shape == (3, 6, 5, 7)
