"""Learned upsampling, against enlarging the map and filtering it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from registry import NameNotFound
from zoo.heads.upsampling import KINDS, LearnedUpsampling, make_upsampling

PADDINGS = ('zeros', 'replicate')


def trained(padding, channels=3):
    module = LearnedUpsampling(channels, padding)
    for p in module.parameters():
        nn.init.normal_(p)
    return module


def plain(module, x):
    """The published order of operations."""
    pad = 'constant' if module.padding == 'zeros' else 'replicate'
    enlarged = F.pad(x.repeat_interleave(2, 2).repeat_interleave(2, 3), (1, 1, 1, 1), mode=pad)
    return F.conv2d(enlarged, module.weight, module.bias, groups=len(module.bias))


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_doubles_both_sides(kind):
    assert make_upsampling(kind, 3)(torch.randn(2, 3, 5, 7)).shape == (2, 3, 10, 14)


def test_the_fixed_kinds_are_torchs():
    x = torch.randn(2, 3, 5, 7)
    assert torch.equal(make_upsampling('nearest', 3)(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    bilinear = F.interpolate(x, (10, 14), mode='bilinear', align_corners=False)
    assert torch.equal(make_upsampling('bilinear', 3)(x), bilinear)


@pytest.mark.parametrize(('channels', 'published'), [(40, 400), (128, 1280), (512, 5120)])
def test_the_published_parameters_are_there_to_the_unit(channels, published):
    assert sum(p.numel() for p in LearnedUpsampling(channels).parameters()) == published


def test_it_starts_with_a_constant_interior_and_dims_the_border_to_nine_sixteenths_in_corners():
    found = LearnedUpsampling(2)(torch.full((1, 2, 4, 5), 16.0))
    assert (found[:, :, 1:-1, 1:-1] == 16).all()
    corners = found[:, :, :: found.shape[2] - 1, :: found.shape[3] - 1]
    assert (corners == 9).all()
    assert (found[:, :, 0, 1:-1] == 12).all()


def test_replicated_borders_keep_constants():
    assert (LearnedUpsampling(2, 'replicate')(torch.full((1, 2, 4, 5), 16.0)) == 16).all()


def test_it_starts_as_bilinear_inside():
    x = torch.randn(1, 2, 5, 7)
    expected = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
    torch.testing.assert_close(LearnedUpsampling(2, 'replicate')(x), expected)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('size', [(5, 7), (1, 1), (1, 4)])
@pytest.mark.parametrize('padding', PADDINGS)
def test_values_and_gradients_are_those_of_the_published_order(padding, size, layout):
    module = trained(padding).double()
    x = torch.randn(2, 3, *size).double().contiguous(memory_format=layout).requires_grad_()
    tensors = [x, *module.parameters()]
    found, expected = module(x), plain(module, x)
    torch.testing.assert_close(found, expected)
    assert x.is_contiguous() or found.is_contiguous(memory_format=layout)
    weights = torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), tensors), torch.autograd.grad((expected * weights).sum(), tensors)
    )


@pytest.mark.parametrize('frozen', ['x', 'weight', 'bias'])
def test_what_needs_no_gradient_stops_nobody(frozen):
    module = trained('zeros').double()
    x = torch.randn(2, 3, 2, 3, dtype=torch.double, requires_grad=True)
    tensors = {'x': x, **dict(module.named_parameters())}
    expected = torch.autograd.grad(plain(module, x).square().sum(), list(tensors.values()))
    expected = dict(zip(tensors, expected))
    tensors[frozen].requires_grad_(False)
    rest = [name for name in tensors if name != frozen]
    found = torch.autograd.grad(module(x).square().sum(), [tensors[n] for n in rest])
    torch.testing.assert_close(found, tuple(expected[n] for n in rest))


@pytest.mark.parametrize('padding', PADDINGS)
def test_first_and_second_derivatives_agree_with_finite_differences(padding):
    module = trained(padding, 2).double()
    x = torch.randn(1, 2, 2, 3, dtype=torch.double, requires_grad=True)

    def call(x, weight, bias):
        return torch.func.functional_call(module, {'weight': weight, 'bias': bias}, (x,))

    inputs = (x, module.weight.detach().requires_grad_(), module.bias.detach().requires_grad_())
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_nothing_of_the_large_size_is_kept():
    x = torch.randn(2, 8, 16, 24, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        LearnedUpsampling(8)(x)
    assert max(sizes) == x.numel()


def test_it_costs_the_products_of_the_published_order():
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device('meta'), torch.no_grad(), FlopCounterMode(display=False) as counter:
        LearnedUpsampling(40)(torch.zeros(1, 40, 15, 20))
    assert counter.get_total_flops() == 2 * 9 * 40 * 30 * 40


@pytest.mark.parametrize('padding', PADDINGS)
def test_mixed_precision_works_forth_and_back(padding):
    module = trained(padding)
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        found = module(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), module(x), rtol=0.05, atol=0.1)
    found.float().sum().backward()
    assert x.grad.dtype == module.weight.grad.dtype == torch.float32


def test_another_kind_is_answered_with_the_nearest():
    with pytest.raises(NameNotFound, match=r"No upsampling named 'learned-3x3-zero'.*'learned-3x3-zeropad'"):
        make_upsampling('learned-3x3-zero', 3)
