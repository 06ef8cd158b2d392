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


LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('block', [post_norm, pre_norm])
def test_gradients_are_those_of_finite_differences(block, layout):
    step = UpStep(2, block).double()
    fine = torch.randn(2, 2, 4, 6, 4, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    coarse = torch.randn(2, 4, 2, 3, 2, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: step.join(a, step.up(b)), (fine, coarse))


@pytest.mark.parametrize('shape', [(1, 2, 8, 6, 4), (1, 1, 8, 6, 4), (1, 2, 5, 6, 4), (2, 2, 4, 6, 4)])
@pytest.mark.parametrize(('stride', 'padding'), [(1, 'reflect'), (2, 'reflect'), (1, 'zeros'), (2, 'zeros')])
def test_a_convolution_is_that_of_torch_forward_and_backward_also_where_it_is_taken_in_halves(shape, stride, padding):
    ours = conv3d(shape[1], 4, 3, stride, padding).double()
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    pads = F.pad(x, [1] * 6, 'reflect' if padding == 'reflect' else 'constant')
    expected = F.conv3d(pads, ours.weight, ours.bias, stride)
    found, upstream, leaves = ours(x), torch.randn_like(expected), (x, *ours.parameters())
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(found, leaves, upstream), torch.autograd.grad(expected, leaves, upstream)
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('size', [1, 3])
def test_several_maps_are_taken_as_their_concatenation(size, layout):
    conv = conv3d(5, 4, size)
    a, b = (torch.randn(2, c, 4, 6, 4).contiguous(memory_format=layout) for c in (2, 3))
    torch.testing.assert_close(conv(a, b), conv(torch.cat((a, b), 1)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('size', [1, 3])
@pytest.mark.parametrize('channels', [(4,), (2, 2)])
def test_convolutions_under_autocast_give_its_type_as_those_of_torch_do(channels, size, layout):
    conv = conv3d(4, 4, size)
    maps = [torch.randn(2, c, 4, 6, 4).contiguous(memory_format=layout) for c in channels]
    with torch.autocast('cpu', torch.bfloat16):
        found = conv(*maps)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), conv(*maps), rtol=0.05, atol=0.1)


def test_one_tensor_of_each_block_is_kept_for_the_backward_pass():
    step, kept = UpStep(2, post_norm), {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.numel()
        return x

    fine, coarse = torch.randn(1, 2, 8, 8, 8), torch.randn(1, 4, 4, 4, 4)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        step.join(fine, step.up(coarse))
    volumes = sorted(count for count in kept.values() if count >= coarse.numel())
    assert volumes == [coarse.numel(), *[fine.numel()] * 4]  # what came in, and what each of three blocks gave


def test_one_voxel_can_not_be_normalised():
    with pytest.raises(ValueError, match='more than one voxel'):
        post_norm(1, 2, 1)(torch.randn(2, 1, 1, 1, 1))
