"""The fidelity of fused images: golden values, borders, absent sources, bad input."""

import math

import pytest
import torch
import torch.nn.functional as F

from registry import LOSSES, InputError, NameNotFound
from zoo.losses import fidelity, laplacian


def waves():
    """Two sources of 32 x 32: a ramp, and oblique waves."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing='ij')
    return torch.stack((x / 31, 0.5 + 0.5 * torch.sin(0.3 * x + 0.2 * y)))[None]


@pytest.mark.parametrize(('pad', 'edges'), [('zeros', 0.140528), ('replicate', 0.069064)])
def test_the_mean_of_two_waves_has_known_parts(pad, edges):
    sources = waves()
    found = fidelity(sources.mean(1, keepdim=True), sources, pad=pad)
    torch.testing.assert_close(torch.cat(found), torch.tensor([0.379093, edges]), rtol=0, atol=1e-6)
    loss = LOSSES.build(dict(type='FusionFidelity', weight=2, pad=pad))(sources.mean(1, keepdim=True), sources)
    torch.testing.assert_close(loss, torch.tensor(0.379093 + 2 * edges), rtol=0, atol=2e-6)


@pytest.mark.parametrize('pad', ['zeros', 'replicate'])
def test_the_laplacian_is_a_convolution_with_eight_ones(pad):
    x = torch.randn(2, 3, 6, 9)
    kernel = torch.ones(1, 1, 3, 3)
    kernel[..., 1, 1] = -8
    padded = F.pad(x, (1, 1, 1, 1), mode='constant' if pad == 'zeros' else 'replicate').flatten(0, 1)[:, None]
    expected = F.conv2d(padded, kernel).abs().view_as(x)
    torch.testing.assert_close(laplacian(x, pad), expected, rtol=0, atol=1e-5)


def test_absent_sources_count_nowhere():
    sources, fused = torch.rand(3, 3, 6, 9), torch.rand(3, 1, 6, 9)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    holes = sources.masked_fill(~present[..., None, None], torch.nan)
    loss = LOSSES.build(dict(type='FusionFidelity', reduction='none'))
    found = loss(fused.requires_grad_(), holes, present)
    rows = zip(fused, sources, present)
    expected = torch.stack([loss(f[None], s[here][None])[0] for f, s, here in rows])
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert fused.grad.isfinite().all()
    torch.testing.assert_close(loss(fused, sources, torch.ones_like(present)), loss(fused, sources))


def test_copies_of_the_fused_image_cost_nothing():
    x = torch.rand(2, 1, 5, 8)
    assert not LOSSES.build('FusionFidelity')(x, x.expand(2, 4, 5, 8)).any()


@pytest.mark.parametrize('argument', [{'weight': -1}, {'weight': math.nan}, {'weight': '1'}])
def test_a_weight_is_a_number(argument):
    with pytest.raises(InputError, match='weight of FusionFidelity'):
        LOSSES.build(dict(type='FusionFidelity', **argument))


@pytest.mark.parametrize('argument', [{'pad': 'zero'}, {'reduction': 'sum'}])
def test_names_are_known(argument):
    with pytest.raises(NameNotFound, match='FusionFidelity'):
        LOSSES.build(dict(type='FusionFidelity', **argument))
