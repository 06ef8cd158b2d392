"""Squeeze-excitation and addition, against the formula of the paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from registry import FUSIONS
from zoo.fusion import SEAdd

NAMES = ['rgb', 'depth', 'ir']
PLACES = {'vector': (), 'sequence': (7,), 'map': (3, 5), 'volume': (2, 3, 5)}


def numbers(parameters):
    return sum(p.numel() for p in parameters)


@pytest.mark.parametrize(
    ('channels', 'published'),
    [(64, 1160), (128, 4368), (256, 16_928), (512, 66_624), (1024, 264_320), (2048, 1_052_928)],
)
def test_the_published_parameters_are_there_to_the_unit(channels, published):
    block = FUSIONS.build('SEAdd', modalities=['rgb', 'depth'], channels=channels)
    assert block.out_channels == channels
    assert numbers(block.parameters()) == published
    assert [numbers(block.branch(m)) for m in ('rgb', 'depth')] == [published // 2] * 2


def excited(layer, x):
    """Squeeze-excitation on maps, by 1x1 convolutions and out of place."""
    to_map = lambda w: w[:, :, None, None]  # noqa: E731
    w = F.adaptive_avg_pool2d(x, 1)
    w = torch.relu(F.conv2d(w, to_map(layer.squeeze.weight), layer.squeeze.bias))
    return x * torch.sigmoid(F.conv2d(w, to_map(layer.excite.weight), layer.excite.bias))


@pytest.mark.parametrize('count', [1, 2, 3])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_the_formula(count, layout):
    names = NAMES[:count]
    block = SEAdd(names, 20, reduction=4).double()
    x = {m: torch.randn(2, 20, 3, 5).double().contiguous(memory_format=layout).requires_grad_() for m in names}
    tensors = [*x.values(), *block.parameters()]
    found = block.merge(x, torch.ones(2, count, dtype=torch.bool))
    expected = sum(excited(block.excitations[m], x[m]) for m in names)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=layout)
    weights = torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), tensors), torch.autograd.grad((expected * weights).sum(), tensors)
    )


@pytest.mark.parametrize('places', PLACES.values(), ids=PLACES)
def test_features_of_zero_add_zero_bit_for_bit(places):
    block = SEAdd(['rgb', 'depth'], {'rgb': 16, 'depth': 4})
    for p in block.parameters():
        nn.init.normal_(p)
    x = {'rgb': torch.randn(2, 16, *places), 'depth': torch.zeros(2, 4, *places)}
    mask = torch.ones(2, 2, dtype=torch.bool)
    assert torch.equal(block(x, mask), block.contribution('rgb', x['rgb'])[0])
    assert not block({'rgb': torch.zeros(2, 16, *places), 'depth': x['depth']}, mask).any()


def test_only_a_width_of_its_own_is_projected_before_the_excitation():
    block = SEAdd(NAMES, {'rgb': 16, 'depth': 4, 'ir': 16}, out_channels=16)
    assert list(block.projections) == ['depth']
    x = torch.randn(2, 4, 3, 5)
    projected = torch.einsum('dc,bchw->bdhw', block.projections['depth'].weight, x)
    found, columns = block.contribution('depth', x)
    torch.testing.assert_close(found, excited(block.excitations['depth'], projected))
    assert columns == slice(None)


def test_branches_are_disjoint_and_are_all_there_is():
    block = SEAdd(NAMES, {'rgb': 16, 'depth': 4, 'ir': 8})
    parts = [{id(p) for p in block.branch(m)} for m in NAMES]
    assert set().union(*parts) == {id(p) for p in block.parameters()}
    assert sum(map(len, parts)) == len(list(block.parameters()))
    assert [len(p) for p in parts] == [4, 5, 5]


@pytest.mark.parametrize(('channels', 'hidden'), [(64, 4), (20, 1), (3, 1)])
def test_the_hidden_layer_is_a_sixteenth_and_at_least_one(channels, hidden):
    assert SEAdd(['rgb'], channels).excitations['rgb'].squeeze.out_features == hidden


def test_he_initialisation_leaves_what_comes_before_the_sigmoid():
    torch.manual_seed(3)
    block = SEAdd(['rgb'], 512, he_init=True)
    layer = block.excitations['rgb']
    assert layer.squeeze.weight.std().item() == pytest.approx((2 / 32) ** 0.5, rel=0.05)
    assert not layer.squeeze.bias.any()
    assert layer.excite.weight.abs().max() <= 32**-0.5  # torch's own: uniform within this
    assert layer.excite.bias.any()


def test_no_product_is_kept_for_the_backward_pass():
    block = SEAdd(['rgb', 'depth'], 16)
    x = {m: torch.randn(2, 16, 24, 40, requires_grad=True) for m in ('rgb', 'depth')}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        block.merge(x, torch.ones(2, 2, dtype=torch.bool))
    large = [p for p in kept if p in {f.data_ptr() for f in x.values()}]
    assert set(large) == {f.data_ptr() for f in x.values()}


def test_mixed_precision_works():
    block = SEAdd(['rgb', 'depth'], {'rgb': 16, 'depth': 4})
    x = {'rgb': torch.randn(2, 16, 3, 5), 'depth': torch.randn(2, 4, 3, 5)}
    mask = torch.ones(2, 2, dtype=torch.bool)
    for first in (torch.float32, torch.bfloat16):
        with torch.autocast('cpu', torch.bfloat16):
            found = block({**x, 'rgb': x['rgb'].to(first)}, mask)
        torch.testing.assert_close(found.float(), block(x, mask), rtol=0.05, atol=0.05)
