"""Encoders and decoders for volumes against their formulas, written out with torch's functions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.layers3d import Decoder3D, Encoder3D, UpStep, conv3d, post_norm, pre_norm


def convolve(conv, x):
    """A convolution after reflection, by its weights."""
    if conv.kernel_size == (3, 3, 3):
        x = F.pad(x, [1] * 6, mode='reflect')
    return F.conv3d(x, conv.weight, conv.bias, conv.stride)


def norm(x):
    mean, var = x.mean((2, 3, 4), keepdim=True), x.var((2, 3, 4), correction=0, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt()


def apply(block, x):
    """Either block: which one shows by where its convolution stands."""
    conv = next(m for m in block if isinstance(m, nn.Conv3d))
    if block[0] is conv:
        y = norm(convolve(conv, x))
        return torch.where(y > 0, y, 0.2 * y)
    y = norm(x)
    return convolve(conv, torch.where(y > 0, y, 0.2 * y))


def rise(step, x):
    x = F.interpolate(x, scale_factor=2, mode='trilinear', align_corners=True)
    return apply(step.rise, x)


@pytest.mark.parametrize('block', [post_norm, pre_norm])
def test_a_level_of_the_encoder_is_a_convolution_and_a_residual_pair(block):
    encoder = Encoder3D(2, (4, 8, 16), block).double()
    x = torch.randn(2, 2, 8, 12, 16, dtype=torch.float64)
    maps = encoder(x)
    assert [tuple(y.shape) for y in maps] == [(2, 4, 8, 12, 16), (2, 8, 4, 6, 8), (2, 16, 2, 3, 4)]
    for i, (first, pair) in enumerate(zip(encoder.first, encoder.pairs)):
        x = convolve(first, x) if isinstance(first, nn.Conv3d) else apply(first, x)
        x = x + apply(pair[1], apply(pair[0], x))
        torch.testing.assert_close(maps[i], x)
    assert isinstance(encoder.first[0], nn.Conv3d) == (block is pre_norm)


@pytest.mark.parametrize('block', [post_norm, pre_norm])
def test_a_decoder_goes_up_step_by_step(block):
    decoder = Decoder3D((2, 4, 8), 3, block).double()
    fine, middle, coarse = (torch.randn(2, 2 << i, 8 >> i, 12 >> i, 16 >> i, dtype=torch.float64) for i in range(3))
    x = coarse
    for step, skip in ((decoder.steps[1], middle), (decoder.steps[0], fine)):
        x = apply(step.out, apply(step.merge, torch.cat((skip, rise(step, x)), 1)))
    torch.testing.assert_close(decoder([fine, middle, coarse]), convolve(decoder.classify, x))


def test_a_step_up_doubles_the_size():
    step = UpStep(4, post_norm)
    assert step.up(torch.randn(1, 8, 2, 3, 4)).shape == (1, 4, 4, 6, 8)


def test_convolutions_start_as_he_proposes():
    torch.manual_seed(0)
    assert conv3d(64, 128, 3).weight.std().item() == pytest.approx((2 / (64 * 27)) ** 0.5, rel=0.01)


def test_zeros_instead_of_reflection():
    block = post_norm(2, 4, 3, padding='zeros')
    x = torch.randn(1, 2, 3, 4, 5)
    expected = F.leaky_relu(norm(F.conv3d(x, block[0].weight, block[0].bias, padding=1)), 0.2)
    torch.testing.assert_close(block(x), expected)
