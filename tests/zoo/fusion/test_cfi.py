"""CFI: golden values, its two extremes, attention by hand, absent modalities, other dimensions."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from registry import FUSIONS, InputError

NAMES = ('rgb', 'depth', 'ir', 'flair')


def block(count=2, channels=6, training=False, **arguments):
    torch.manual_seed(0)
    fusion = FUSIONS.build(dict(type='CFI', modalities=NAMES[:count], channels=channels, **arguments))
    return fusion.train(training)


def maps(count=2, channels=6, size=(13, 9), batch=3):
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(batch, channels, *size, generator=generator) for m in NAMES[:count]}


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (4, 3)])
def test_attention_gets_the_strides_that_gpu_kernels_take(size, monkeypatch):
    strides = []

    def attend(*args, **kwargs):
        strides.extend((x.stride(), x.shape) for x in args)
        return attention(*args, **kwargs)

    attention = F.scaled_dot_product_attention
    monkeypatch.setattr(F, 'scaled_dot_product_attention', attend)
    x = maps(channels=8, size=size)
    block(channels=8)(x, everybody(x))
    block(channels=8)({m: f.to(memory_format=torch.channels_last) for m, f in x.items()}, everybody(x))
    # also along an axis of one, which torch takes for contiguous with any stride
    assert all(stride == (n * c, n * c, c, 1) for stride, (_, _, n, c) in strides)
    assert len(strides) == 12


def everybody(x):
    return torch.ones(len(next(iter(x.values()))), len(x), dtype=torch.bool)


def golden():
    """The block and the maps of the golden values: C = 4, weights 0.5 sin(1), 0.5 sin(2), ..."""
    fusion = block(channels=4)
    for layer in fusion.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            values = 0.5 * torch.sin(torch.arange(1.0, layer.weight.numel() + 1))
            layer.weight.data.copy_(values.view_as(layer.weight))
            layer.bias.data.zero_()
    i = torch.arange(4 * 12 * 12.0).view(1, 4, 12, 12)
    return fusion, {'rgb': torch.sin(0.1 * i), 'depth': torch.cos(0.07 * i)}


def test_known_weights_give_known_values():
    fusion, x = golden()
    with torch.no_grad():
        fused, gate = fusion.forward_with_gate(x, everybody(x))
    found = torch.stack([fused.mean(), fused[0, 1, 3, 5], gate.mean(), gate[0, 0, 0, 0]])
    expected = torch.tensor([0.178912, 0.187599, 0.514832, 0.499942])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert gate.shape == (1, 1, 12, 12)
    assert sum(p.numel() for p in fusion.parameters()) == 357


def test_with_equal_projections_the_two_may_change_places():
    fusion, x = golden()
    swapped = {'rgb': x['depth'], 'depth': x['rgb']}
    torch.testing.assert_close(fusion(swapped, everybody(x)), fusion(x, everybody(x)))


def test_it_has_the_published_size():
    assert sum(p.numel() for p in block(channels=32).parameters()) == 20_321


def by_hand(fusion, x, present):
    """Theta_c (C, h, w) of one sample by softmax over explicit scores, for the modalities that are present."""
    parts = {m: f for m, f in x.items() if present[m]}
    if len(parts) < 2:
        return torch.zeros_like(next(iter(x.values())))
    total = 0
    for m, f in parts.items():
        q = fusion.queries[m](f[None])[0].flatten(1)  # (C, places)
        grids = [
            [F.adaptive_avg_pool2d(layer[n](g[None]), fusion.pool)[0].flatten(1) for n, g in parts.items() if n != m]
            for layer in (fusion.keys, fusion.values)
        ]
        k, v = (torch.cat(g, 1) for g in grids)
        scores = (q.T @ k / math.sqrt(len(q))).softmax(1)
        total = total + (v @ scores.T).view_as(f)
    return total


@pytest.mark.parametrize('count', [2, 3, 4])
def test_attention_is_a_softmax_over_the_others_that_are_present(count):
    fusion, x = block(count, pool=3), maps(count)
    mask = everybody(x)
    mask[1, 0] = False
    mask[2, 1:] = False
    zeroed = {m: f * here[:, None, None, None] for (m, f), here in zip(x.items(), mask.T)}
    with torch.no_grad():
        found = fusion.attended(zeroed, list(mask.T))
        for row in range(3):
            present = dict(zip(x, mask[row].tolist()))
            expected = by_hand(fusion, {m: f[row] for m, f in x.items()}, present)
            torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-5)
        dense = fusion.attended(x, [None] * count)
        torch.testing.assert_close(dense, fusion.attended(x, list(everybody(x).T)), rtol=0, atol=1e-5)


@pytest.mark.parametrize('count', [2, 3])
@pytest.mark.parametrize('bias', [-1e4, 1e4])
def test_the_gate_chooses_between_attention_and_sum(count, bias):
    fusion, x = block(count), maps(count)
    fusion.gate[-1].bias.data.fill_(bias)
    fused, gate = fusion.forward_with_gate(x, everybody(x))
    assert (gate == (bias > 0)).all()
    chosen = fusion.attended(x, [None] * count) if bias > 0 else sum(x.values())
    torch.testing.assert_close(fused, fusion.refine(chosen))


def test_one_modality_that_is_left_takes_the_path_without_attention():
    fusion, x = block(3), maps(3)
    mask = torch.tensor([[True, True, True], [False, True, False], [True, False, True]])
    x['rgb'][1], x['ir'][1], x['depth'][2] = torch.nan, 1e4, torch.nan
    fused, gate = fusion.forward_with_gate(x, mask)
    assert gate[[0, 2]].ne(0).all()
    assert not gate[1].any()
    torch.testing.assert_close(fused[1:2], fusion.refine(x['depth'][1:2]))
    assert fused.isfinite().all()


def test_the_general_form_with_two_present_is_the_one_of_two():
    fusion, x = block(3), maps(3)
    pair = FUSIONS.build(dict(type='CFI', modalities=('rgb', 'ir'), channels=6)).eval()
    pair.load_state_dict({k: v for k, v in fusion.state_dict().items() if 'depth' not in k})
    mask = everybody(x)
    mask[:, 1] = False
    two = {m: x[m] for m in ('rgb', 'ir')}
    torch.testing.assert_close(fusion(x, mask), pair(two, everybody(two)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ('size', 'dims'), [((), 1), ((), 2), ((11,), 1), ((37, 53), 2), ((1, 1), 2), ((3, 5, 4), 3)], ids=str
)
@pytest.mark.parametrize('count', [1, 2, 3])
def test_vectors_sequences_maps_and_volumes_keep_their_size(size, dims, count):
    fusion = block(count, channels=dict(zip(NAMES, (4, 6, 5))), training=True, pool=3, dims=dims)
    x = {m: torch.randn(2, c, *size) for m, c in zip(NAMES, (4, 6, 5)[:count])}
    fused, gate = fusion.forward_with_gate(x, everybody(x))
    assert fused.shape == (2, 4 if count == 1 else 6, *size)
    assert gate.shape == (2, 1, *size)
    fused.square().sum().backward()
    assert not [n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_a_batch_without_a_pair_trains_too():
    fusion, x = block(training=True), maps()
    mask = everybody(x)
    mask[:, 1] = False
    x['depth'].fill_(torch.nan)
    fusion(x, mask).square().sum().backward()
    assert not [n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not any(p.grad.any() for p in (*fusion.queries.parameters(), *fusion.values.parameters()))


@pytest.mark.parametrize('arguments', [{'pool': 0}, {'pool': 2.5}, {'dims': 4}], ids=str)
def test_what_it_can_not_be_is_refused(arguments):
    with pytest.raises(InputError, match='CFI takes pool'):
        block(**arguments)


def test_features_that_do_not_fit_are_refused():
    x = maps()
    with pytest.raises(InputError, match=r'depth \(3, 6, 4, 9\)'):
        block()({**x, 'depth': x['depth'][:, :, :4]}, everybody(x))
    with pytest.raises(InputError, match=r'CFI\(dims=1\)'):
        block(dims=1)(x, everybody(x))
