"""RFNet beyond the contract: published sizes, a literal reference of its fusion, what absent modalities do."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from registry import HOSTS, InputError, NameNotFound
from zoo.hosts import RFNet
from zoo.hosts.rfnet import RegionFusion
from zoo.layers3d import NamedConv3d

MODALITIES = ('flair', 't1ce', 't1', 't2')


def build(modalities=MODALITIES, seed=0, **arguments):
    torch.manual_seed(seed)
    return RFNet(modalities, **{**dict(num_classes=3, widths=(4, 8, 16), hidden=8), **arguments})


def data(modalities=MODALITIES, size=3, shape=(8, 12, 16), classes=3):
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(size, 1, *shape, generator=generator) for m in ('flair', 't1ce', 't1', 't2', 'pd')}
    target = torch.randint(0, classes, (size, *shape), generator=generator)
    return {'inputs': {m: inputs[m] for m in modalities}, 'target': target}


def count(*parts):
    return sum(p.numel() for part in parts for p in part.parameters())


# ---- published sizes


def test_the_published_network_has_its_published_size():
    with torch.device('meta'):
        host = RFNet(MODALITIES, 4)
    d = host.decoder
    assert [count(e) for e in host.encoders.values()] == [1_466_496] * 4
    assert count(d) == 2_532_588
    assert [count(f) for f in d.fusions] == [52_064, 133_296, 392_528, 1_298_064]
    assert [count(r) for r in d.regions] == [1_372, 4_164, 14_260, 50_452]
    assert [[count(p) for p in (s.rise, s.merge, s.out)] for s in d.steps] == [
        [13_840, 13_840, 272],
        [55_328, 55_328, 1_056],
        [221_248, 221_248, 4_160],
    ]
    assert count(d.classify) == 68
    assert sum(p.numel() for p in host.training_only()) == 586_388
    assert count(host) == 8_984_960
    with torch.device('meta'):
        assert count(RFNet(MODALITIES, 5)) == 9_132_790
        assert count(RFNet(MODALITIES, 4, aux_heads=False)) == 8_398_572


@pytest.mark.parametrize(('side', 'total', 'training'), [(80, 101.786, 201.925), (128, 416.912, 827.082)])
def test_the_published_network_has_its_published_cost(side, total, training):
    """Within 0.5 %; ours also counts the products of the region fusion."""
    with torch.device('meta'):
        host = RFNet(MODALITIES, 4)
        x = {m: torch.zeros(1, 1, side, side, side) for m in MODALITIES}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        outputs = host.run(host.make_batch(x))
    assert counter.get_total_flops() / 2e9 == pytest.approx(total, rel=0.005)
    with torch.no_grad(), FlopCounterMode(display=False) as aux:
        host.unimodal(outputs)
    assert (counter.get_total_flops() + aux.get_total_flops()) / 2e9 == pytest.approx(training, rel=0.005)


def test_parts_have_their_published_cost_at_80():
    with torch.device('meta'):
        host = RFNet(MODALITIES, 4)
        x = torch.zeros(1, 1, 80, 80, 80)
    with torch.no_grad(), FlopCounterMode(display=False) as encoder:
        maps = host.encoders['flair'](x)
    assert encoder.get_total_flops() / 2e9 == pytest.approx(15.041, rel=1e-4)
    with torch.no_grad(), FlopCounterMode(display=False) as decoder:
        fused, _ = host.decoder([[m] * 4 for m in maps])
        host.decoder.classify(fused)
    # the products of each map with each region, for the means and for the sums, are in no published figure
    products = sum(2 * 16 * (80 >> i) ** 3 * (16 << i) for i in range(4))
    assert decoder.get_total_flops() / 2e9 == pytest.approx(41.624 + products / 1e9, rel=1e-4)


# ---- fusion by regions


def literal(block, y, p):
    """Region by region and modality by modality, with full tensors."""
    w, total = block.weigh, []
    q = p.mean((2, 3, 4)) + 1e-7
    for r in range(p.shape[1]):
        parts = [y[:, i] * p[:, r, None] for i in range(y.shape[1])]
        means = [part.mean((2, 3, 4)) / q[:, r, None] for part in parts]
        hidden = w.bias[r] + q[:, r, None] * w.of_size[r]
        for m, g in zip(w.modalities, means):
            hidden = hidden + g @ w.of_mean[m][r].T
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
        weights = [torch.sigmoid(hidden @ w.out[m][r] + w.out_bias[m][r]) for m in w.modalities]
        total.append(sum(k[:, None, None, None, None] * part for k, part in zip(weights, parts)))
    regions = torch.cat(total, 1)
    return torch.cat((block.by_region(regions), block.short_cut(block.squeeze(*y.unbind(1)))), 1)


@pytest.mark.parametrize(('count_of', 'classes'), [(1, 2), (4, 4), (3, 5)])
def test_fusion_by_regions_equals_its_definition_forward_and_backward(count_of, classes):
    torch.manual_seed(0)
    block = RegionFusion(MODALITIES[:count_of], 4, classes, 6).double()
    y = torch.randn(2, count_of, 4, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    p = torch.randn(2, classes, 3, 4, 5, dtype=torch.float64).softmax(1).requires_grad_()
    leaves = [y, p, *block.parameters()]
    found, expected = torch.cat(block(y.unbind(1), p), 1), literal(block, y, p)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    upstream = torch.randn_like(found)
    gradients = zip(torch.autograd.grad(found, leaves, upstream), torch.autograd.grad(expected, leaves, upstream))
    for a, b in gradients:
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_regions_of_many_voxels_are_averaged_in_float32_under_autocast():
    """Their sums, here 1e5, are more than float16 holds."""
    block = RegionFusion(MODALITIES[:1], 2, 2, 4)
    y, p = torch.full((1, 2, 32, 64, 32), 2.0), torch.tensor([0.9, 0.1]).view(1, 2, 1, 1, 1).expand(1, 2, 32, 64, 32)
    seen = []
    block.weigh.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad(), torch.autocast('cpu', torch.float16):
        merged = block.merge([y], p, block.by_region[0][0])
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], torch.full((1, 2, 1, 2), 2.0), rtol=1e-4, atol=0)
    assert merged.isfinite().all()


def test_a_convolution_by_name_is_that_of_the_concatenation():
    conv = NamedConv3d(('a', 'b', 'c'), 2, 5)
    x = torch.randn(2, 3, 2, 3, 4, 5)
    slices = [torch.einsum('oi,bidhw->bodhw', conv.weight[m][..., 0, 0, 0], x[:, i]) for i, m in enumerate('abc')]
    torch.testing.assert_close(conv(*x.unbind(1)), sum(slices) + conv.bias.view(-1, 1, 1, 1))


def test_maps_of_regions_learn_from_their_own_labels_only():
    host = build()
    batch = host.make_batch(**data())
    outputs = host.run(batch)
    host.losses(outputs, batch)['loss_task'].backward()
    heads = [p for r in host.decoder.regions for p in r.parameters()]
    assert all(p.grad is None or not p.grad.any() for p in heads)


# ---- outputs


def test_shapes_and_names_of_all_outputs():
    host, batch = build(), data(shape=(16, 8, 24))
    batch = host.make_batch(**batch)
    outputs = host.run(batch)
    assert outputs.prediction.shape == (3, 3, 16, 8, 24)
    assert [tuple(z.shape[2:]) for z in outputs.extras['side']] == [(16, 8, 24), (8, 4, 12), (4, 2, 6)]
    alone = host.unimodal(outputs)
    assert {m: tuple(z.shape) for m, z in alone.items()} == dict.fromkeys(MODALITIES, (3, 3, 16, 8, 24))
    sides, aux = [f'loss_side_{n}' for n in (1, 2, 4)], [f'loss_aux_{m}' for m in MODALITIES]
    assert list(host.losses(outputs, batch)) == ['loss_task', *sides, *aux]


@pytest.mark.parametrize('names', [MODALITIES[:1], MODALITIES[:2], (*MODALITIES, 'pd')], ids=len)
def test_any_number_of_modalities_and_odd_sizes_work_when_padded(names):
    host = build(names, pad_to=4, num_classes=2)
    batch = data(names, shape=(11, 9, 5), classes=2)
    losses = host(**batch, mode='loss')
    assert all(v.isfinite() for v in losses.values())
    assert host.eval()(batch['inputs']).shape == (3, 2, 11, 9, 5)


def test_sizes_that_do_not_fit_are_refused():
    host = build()
    with pytest.raises(InputError, match='multiples of 4 and at least 8, got 9x8x8'):
        host(data(shape=(9, 8, 8))['inputs'])


@pytest.mark.parametrize(('shape', 'pad_to'), [((96, 80, 112), None), ((75, 83, 77), 8)], ids=str)
def test_the_published_network_takes_other_sizes(shape, pad_to):
    with torch.device('meta'):
        host = RFNet(MODALITIES, 4, pad_to=pad_to)
    outputs = host.run(host.make_batch({m: torch.zeros(1, 1, *shape, device='meta') for m in MODALITIES}))
    assert outputs.prediction.shape == (1, 4, *shape)
    assert host.unimodal(outputs)['t2'].shape == (1, 4, *shape)


def test_every_spatial_convolution_can_pad_with_zeros():
    host = build(conv_padding='zeros')
    spatial = [c for c in host.modules() if isinstance(c, torch.nn.Conv3d) and c.kernel_size == (3, 3, 3)]
    assert {c.padding_mode for c in spatial} == {'zeros'}
    with pytest.raises(NameNotFound, match=r"conv_padding.*[Dd]id you mean 'reflect'"):
        build(conv_padding='reflec')


def test_it_can_be_exported():
    host = build(MODALITIES[:2], encode_on='dense', widths=(4, 8)).eval()
    x, present = data(MODALITIES[:2], size=2, shape=(4, 8, 6))['inputs'], torch.tensor([[True, False], [True, True]])
    program = torch.export.export(host, (x, present))
    torch.testing.assert_close(program.module()(x, present), host(x, present))


# ---- absent modalities


SUBSETS = torch.tensor([[(i >> k) & 1 for k in range(4)] for i in range(1, 16)]).bool()


def test_all_subsets_from_one_encoding_equal_a_run_of_each():
    host, batch = build(window=(8, 8, 8)).eval(), data(size=2, shape=(8, 8, 12))
    calls = []
    for encoder in host.encoders.values():
        encoder.register_forward_hook(lambda *_: calls.append(1))
    batch = host.make_batch(batch['inputs'])
    with torch.no_grad():
        found = list(host.run_subsets(batch, SUBSETS))
        assert len(calls) == 4 * 2
        for mask, outputs in zip(SUBSETS, found):
            expected = host.run(batch.restrict(mask)).prediction
            torch.testing.assert_close(outputs.prediction, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('fill', [1e6, torch.nan, torch.inf])
def test_what_absent_modalities_hold_changes_no_bit(fill):
    host, batch = build().eval(), data(size=15, shape=(8, 8, 8))
    clean = {m: x.where(h.view(-1, 1, 1, 1, 1), 0) for (m, x), h in zip(batch['inputs'].items(), SUBSETS.T)}
    filled = {m: x.where(h.view(-1, 1, 1, 1, 1), fill) for (m, x), h in zip(batch['inputs'].items(), SUBSETS.T)}
    with torch.no_grad():
        assert torch.equal(host(filled, SUBSETS), host(clean, SUBSETS))


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (dict(), {'loss_task': False, 'loss_aux_t1': False}),
        (dict(encode_on='all'), {'loss_task': False, 'loss_aux_t1': False}),
        (dict(encode_on='all', aux_on='all'), {'loss_task': False, 'loss_aux_t1': True}),
    ],
    ids=str,
)
def test_where_the_gradient_of_a_dropped_modality_comes_from(arguments, expected):
    host, batch = build(**arguments), data()
    batch = host.make_batch(**batch)
    dropped = batch.replace(present=torch.tensor([[1, 1, 0, 1]] * 3).bool(), available=batch.available)
    losses = host.losses(host.run(dropped), dropped)
    parameters = list(host.branch('t1'))
    for key, moves in expected.items():
        grads = torch.autograd.grad(losses[key], parameters, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.any() for g in grads) == moves, key
    others = torch.autograd.grad(losses['loss_aux_t2'], list(host.branch('t2')), retain_graph=True)
    assert any(g.any() for g in others)


def test_the_auxiliary_decoder_runs_on_present_rows_only():
    host, batch = build(), data()
    present = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1], [1, 0, 1, 0]]).bool()
    seen = []
    host.aux['shared'].register_forward_pre_hook(lambda _, args: seen.append(len(args[0][0])))
    outputs = host.run(host.make_batch(batch['inputs'], present))
    alone = host.unimodal(outputs)
    assert seen == [3, 1, 1, 2]
    assert not alone['t1ce'][1:].any()


def test_the_order_of_the_modalities_does_not_matter():
    host, other = build().eval().double(), build(MODALITIES[::-1], seed=1).eval().double()
    other.load_state_dict(host.state_dict())
    x = {m: v.double() for m, v in data()['inputs'].items()}
    present = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]).bool()
    with torch.no_grad():
        torch.testing.assert_close(other(x, present.flip(1)), host(x, present), rtol=1e-9, atol=1e-9)


def test_samples_do_not_depend_on_their_companions():
    host, x = build().eval().double(), {m: v.double() for m, v in data()['inputs'].items()}
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        whole = host(x)
        torch.testing.assert_close(host({m: v[order] for m, v in x.items()}), whole[order], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(host({m: v[1:2] for m, v in x.items()}), whole[1:2], rtol=1e-9, atol=1e-9)


# ---- training


def test_it_learns_which_modality_carries_the_label():
    torch.manual_seed(0)
    host = build(('flair', 't1'), num_classes=2, widths=(4, 8))
    optimizer = torch.optim.Adam(host.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        target = torch.randint(0, 2, (4, 2, 2, 2), generator=generator)
        target = target.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
        inputs = {
            'flair': target[:, None].float() + 0.1 * torch.randn(4, 1, 8, 8, 8, generator=generator),
            't1': torch.randn(4, 1, 8, 8, 8, generator=generator),
        }
        losses = host(inputs, target=target, mode='loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    host.eval()
    with torch.no_grad():
        both = host(inputs).argmax(1)
        own = host(inputs, torch.tensor([[True, False]] * 4)).argmax(1)
    assert (both == target).float().mean() > 0.9
    assert (own == target).float().mean() > 0.9


def test_without_an_auxiliary_decoder_nothing_is_offered_or_kept():
    host = build(aux_heads=False)
    assert 'unimodal' not in host.offers
    assert host.unimodal(host.run(host.make_batch(**data()))) is None
    assert not list(host.training_only())


@pytest.mark.parametrize(
    'arguments', [dict(widths=(4, 8, 8)), dict(widths=(3, 6)), dict(num_classes=0), dict(window=(8, 8, 9))]
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(InputError):
        build(**arguments)


def test_it_is_built_by_name():
    host = HOSTS.build(dict(type='RFNet', modalities=['flair'], num_classes=2, widths=(4, 8)))
    assert host.multiple == 2
    assert host.task == 'segmentation'
