"""Fusion blocks: values by hand, and what all of them promise for vectors, sequences, maps and volumes."""

import math

import pytest
import torch
from torch import nn

from registry import FUSIONS, InputError
from zoo.fusion import Attention, Concat, Exchange, Gated, MeanVariance, Pointwise, Sum
from zoo.heads import LinearHead

WIDTHS = {'rgb': 3, 'depth': 5, 'ir': 4}
MASK = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
PLACES = {'vector': (), 'sequence': (7,), 'map': (3, 5), 'volume': (2, 3, 5)}
BLOCKS = sorted(n for n, c in FUSIONS.module_dict.items() if c.__module__.startswith('zoo.'))
# of vectors and maps, see test_emcam and test_cfi
PLANAR = [n for n in BLOCKS if n == 'CFI' or issubclass(FUSIONS.get(n), Exchange)]
BLOCKS_AND_PLACES = [
    pytest.param(n, p, id=f'{n}-{kind}')
    for n in BLOCKS
    for kind, p in PLACES.items()
    if n not in PLANAR or kind in ('vector', 'map')
]


def features(places=(), size=3, widths=WIDTHS):
    return {m: torch.randn(size, c, *places) for m, c in widths.items()}


def build(name, widths=WIDTHS, **arguments):
    return FUSIONS.build({'type': name, **arguments}, modalities=list(widths), channels=widths)


# ---- values by hand

TWO = {'rgb': torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 'depth': torch.tensor([[5.0], [math.nan]])}
TWO_MASK = torch.tensor([[True, True], [True, False]])


def test_concat_joins_channels_and_fills_zeros():
    block = Concat(['rgb', 'depth'], {'rgb': 2, 'depth': 1})
    assert block.out_channels == 3
    assert block(TWO, TWO_MASK).tolist() == [[1, 2, 5], [3, 4, 0]]


def test_attention_takes_no_shortcut_in_eval_mode(monkeypatch):
    """On a GPU torch's computes another GELU."""

    def never(*_):
        raise AssertionError('the fast path')

    monkeypatch.setattr(torch, '_transformer_encoder_layer_fwd', never)
    block = build('Attention', out_channels=8).eval()
    x = features((3, 5))
    with torch.no_grad():
        found = block(x, MASK)
    torch.testing.assert_close(found, block(x, MASK))


def test_concat_mixes_to_a_width():
    block = Concat(['rgb', 'depth'], {'rgb': 2, 'depth': 1}, out_channels=1)
    with torch.no_grad():
        block.mix.weight.copy_(torch.tensor([[1.0, 10.0, 100.0]]))
        block.mix.bias.fill_(0.5)
    assert block(TWO, TWO_MASK).tolist() == [[1 + 20 + 500 + 0.5], [3 + 40 + 0.5]]


def test_mean_and_variance_are_those_of_the_modalities_that_are_there():
    block = MeanVariance(['rgb', 'depth', 'ir'], 1)
    x = {m: torch.tensor([[v], [v], [v]]) for m, v in (('rgb', 1.0), ('depth', 4.0), ('ir', 7.0))}
    x['depth'][1] = math.nan
    mask = torch.tensor([[True, True, True], [True, False, True], [False, False, True]])
    assert block.out_channels == 2
    assert block(x, mask).tolist() == [[4, 6], [4, 9], [7, 0]]


def test_sum_adds_projections_and_no_bias_of_an_absent_one():
    block = Sum(['rgb', 'depth'], {'rgb': 2, 'depth': 1}, out_channels=2)
    with torch.no_grad():
        block.projections['rgb'].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        block.projections['rgb'].bias.copy_(torch.tensor([0.5, 0.0]))
        block.projections['depth'].weight.copy_(torch.tensor([[2.0], [3.0]]))
        block.projections['depth'].bias.copy_(torch.tensor([10.0, 20.0]))
    assert block(TWO, TWO_MASK).tolist() == [[3.5 + 10 + 10, -1 + 15 + 20], [7.5, -1]]


def test_gated_weighs_by_a_softmax_over_those_present():
    block = Gated(['rgb', 'depth'], {'rgb': 2, 'depth': 1}, out_channels=1)
    with torch.no_grad():
        block.projections['rgb'].weight.copy_(torch.tensor([[1.0, 1.0]]))
        block.projections['depth'].weight.copy_(torch.tensor([[2.0]]))
        block.gate.weight.zero_()
        block.gate.weight[0, 2] = math.log(3) / 5  # depth = 5 gives the gates log 3 and 0: weights 3/4 and 1/4
        for bias in (block.projections['rgb'].bias, block.projections['depth'].bias, block.gate.bias):
            bias.zero_()
    expected = torch.tensor([[0.75 * 3 + 0.25 * 10], [7.0]])
    torch.testing.assert_close(block(TWO, TWO_MASK), expected)


def test_attention_is_a_transformer_over_the_query_and_those_present():
    """With one head and one layer, written out with torch's functions for a single sample."""
    torch.manual_seed(3)
    block = Attention(['rgb', 'depth', 'ir'], WIDTHS, out_channels=8, heads=1).eval()
    nn.init.normal_(block.query)
    x = features()
    layer = block.layers[0]
    for row, names in ((0, ['rgb', 'depth', 'ir']), (1, ['rgb', 'ir']), (2, ['depth'])):
        tokens = [block.query] + [block.projections[m](x[m][row]) + block.names[m] for m in names]
        tokens = torch.stack(tokens)
        q, k, v = nn.functional.linear(
            layer.norm1(tokens), layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias
        ).chunk(3, -1)
        attended = (q @ k.T / math.sqrt(8)).softmax(-1) @ v
        tokens = tokens + layer.self_attn.out_proj(attended)
        tokens = tokens + layer.linear2(nn.functional.gelu(layer.linear1(layer.norm2(tokens))))
        expected = block.norm(tokens[0])
        torch.testing.assert_close(block(x, MASK)[row], expected, rtol=1e-4, atol=1e-5)


def test_attention_of_a_masked_modality_equals_the_block_without_it():
    whole = Attention(list(WIDTHS), WIDTHS, out_channels=8, depth=2).eval()
    names = ['rgb', 'ir']
    part = Attention(names, WIDTHS, out_channels=8, depth=2).eval()
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if '.depth.' not in k and k != 'names.depth'})
    x = features((3, 5))
    found = whole(x, torch.tensor([[True, False, True]] * 3))
    expected = part({m: x[m] for m in names}, torch.ones(3, 2, dtype=torch.bool))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('channels', 'heads', 'width'), [(8, 4, 8), (5, 4, 8), (9, 2, 10), (7, 1, 7)])
def test_the_width_of_attention_is_rounded_up_to_its_heads(channels, heads, width):
    block = Attention(['rgb', 'depth'], channels, heads=heads)
    assert block.out_channels == width
    assert block({m: torch.randn(2, channels) for m in ('rgb', 'depth')}, MASK[:2, :2]).shape == (2, width)


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(InputError, match='out_channels of Attention must be a multiple of heads=4, got 6'):
        Attention(['rgb'], 8, out_channels=6)


@pytest.mark.parametrize(
    ('places', 'conv'),
    [((7,), nn.Conv1d), ((3, 5), nn.Conv2d), ((2, 3, 5), nn.Conv3d)],
)
def test_pointwise_is_a_convolution_of_size_one(places, conv):
    block, reference = Pointwise(4, 6), conv(4, 6, 1)
    reference.weight.data.copy_(block.weight.view_as(reference.weight))
    reference.bias.data.copy_(block.bias)
    x = torch.randn(2, 4, *places)
    torch.testing.assert_close(block(x), reference(x))
    torch.testing.assert_close(block(x).flatten(2)[..., 3], block(x.flatten(2)[..., 3]))


# ---- what all of them promise


@pytest.mark.parametrize(('name', 'places'), BLOCKS_AND_PLACES)
def test_every_position_is_fused_like_a_vector(name, places):
    block = build(name).eval()
    x = features(places)
    if name == 'SEAdd':  # its weights are of the whole map
        x = {m: f.view(3, -1, *[1] * len(places)).expand_as(x[m]) for m, f in features().items()}
    found = block(x, MASK)
    assert found.shape == (3, block.out_channels, *places)
    if places and name not in PLANAR:  # whose attention is of the neighbourhood
        for i in (0, -1):
            vectors = {m: f.flatten(2)[..., i] for m, f in x.items()}
            torch.testing.assert_close(found.flatten(2)[..., i], block(vectors, MASK), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(('name', 'places'), BLOCKS_AND_PLACES)
def test_what_an_absent_modality_holds_has_no_influence(name, places, training):
    block = build(name).train(training)
    clean = {m: x.requires_grad_() for m, x in features(places).items()}
    results = []
    for fill in (0.0, 1e4, math.nan):
        block.zero_grad()
        x = {m: f.masked_fill(~here.view(-1, *[1] * (f.ndim - 1)), fill) for (m, f), here in zip(clean.items(), MASK.T)}
        for f in x.values():
            f.retain_grad()
        fused = block(x, MASK)
        fused.square().sum().backward()
        for f, here in zip(x.values(), MASK.T):
            assert not f.grad[~here].any()
            assert f.grad.isfinite().all()
        results.append([fused, *(p.grad.clone() for p in block.parameters())])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize('name', BLOCKS)
def test_a_row_with_nothing_is_finite_and_so_are_its_gradients(name):
    block = build(name)
    x = {m: (f * math.nan).requires_grad_() for m, f in features((3, 5)).items()}
    fused = block(x, torch.zeros(3, 3, dtype=torch.bool))
    fused.square().sum().backward()
    assert fused.isfinite().all()
    assert not any(f.grad.any() for f in x.values())
    if name not in ('Attention', 'CFI'):  # there the query answers, and the bias of a convolution
        assert not fused.any()
    for n, p in block.named_parameters():
        assert p.grad is not None, n
        assert p.grad.isfinite().all(), n


@pytest.mark.parametrize('name', BLOCKS)
def test_out_channels_and_unequal_widths_are_obeyed(name):
    block = build(name, out_channels=12)
    assert block.out_channels == 12
    assert block(features((3, 5)), MASK).shape == (3, 12, 3, 5)
    with pytest.raises(InputError, match=f'channels of {name} lacks ir'):
        FUSIONS.build(name, modalities=['rgb', 'ir'], channels={'rgb': 2})


@pytest.mark.parametrize('name', BLOCKS)
def test_one_modality_is_enough(name):
    block = build(name, {'rgb': 4})
    assert block({'rgb': torch.randn(2, 4)}, torch.ones(2, 1, dtype=torch.bool)).shape == (2, block.out_channels)


@pytest.mark.parametrize('places', PLACES.values(), ids=PLACES)
@pytest.mark.parametrize('name', BLOCKS)
def test_an_additive_block_is_the_sum_of_its_contributions(name, places):
    block = build(name)
    if not block.additive:
        with pytest.raises(InputError, match=f'{name} does not add'):
            block.contribution('rgb', torch.zeros(3, 3))
        return
    x = features(places)
    total = torch.zeros(3, block.out_channels, *places)
    for m in WIDTHS:
        term, columns = block.contribution(m, x[m])
        total[:, columns] += term
    torch.testing.assert_close(total, block(x, torch.ones_like(MASK)))


@pytest.mark.parametrize('name', ['Concat', 'Sum'])
def test_the_shares_of_a_linear_head_sum_to_the_prediction(name):
    block = build(name)
    assert block.additive
    head = LinearHead(block.out_channels, 6)
    x = features()
    parts = [block.contribution(m, x[m]) for m in WIDTHS]
    shares = [head.share(term, columns, len(WIDTHS)) for term, columns in parts]
    torch.testing.assert_close(sum(shares), head(block(x, torch.ones_like(MASK))))
    assert shares[0].shape == (3, 6)


def test_a_concat_that_mixes_is_not_additive():
    assert not build('Concat', out_channels=4).additive


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize('name', BLOCKS)
def test_every_precision_works(name, dtype):
    block = build(name).to(dtype)
    fused = block({m: x.to(dtype) for m, x in features((3, 5)).items()}, MASK)
    assert fused.dtype == dtype
    assert fused.isfinite().all()
