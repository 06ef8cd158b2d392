"""mmFormer beyond the contract: published sizes, its layouts of tokens, what absent modalities do."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from registry import HOSTS, InputError, NameNotFound
from zoo.hosts import MMFormer
from zoo.hosts.mmformer import BetweenModalities, TransformerLayer, tokens_to_maps

MODALITIES = ('flair', 't1ce', 't1', 't2')
OFFICIAL = dict(token_layout='official', absent_tokens='zero_pos')


def build(modalities=MODALITIES, seed=0, **arguments):
    torch.manual_seed(seed)
    small = dict(num_classes=3, widths=(4, 8, 16), train_size=(8, 8, 12), dim=16, heads=4, mlp=24)
    host = MMFormer(modalities, **{**small, **arguments})
    for encoder in host.encoders.values():
        torch.nn.init.normal_(encoder.positions)  # zeros would hide what they do
    return host


def data(modalities=MODALITIES, size=3, shape=(8, 12, 16), classes=3):
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(size, 1, *shape, generator=generator) for m in ('flair', 't1ce', 't1', 't2', 'pd')}
    target = torch.randint(0, classes, (size, *shape), generator=generator)
    return {'inputs': {m: inputs[m] for m in modalities}, 'target': target}


def count(*parts):
    return sum(p.numel() for part in parts for p in part.parameters())


def gmacs(function, *args):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = function(*args)
    return counter.get_total_flops() / 2e9, out


# ---- published sizes


def test_the_published_network_has_its_published_size():
    with torch.device('meta'):
        host = MMFormer(MODALITIES, 4)
        smaller = MMFormer(MODALITIES, 4, train_size=(80, 80, 80))
        five = MMFormer(MODALITIES, 5)
    for encoder in host.encoders.values():
        assert count(encoder.levels) == 1_473_216
        assert count(encoder.project) == 66_048
        assert count(encoder.layers) == 5_250_048
        assert encoder.positions.numel() == 262_144
    assert count(host.between.layers) == 5_250_048
    assert count(host.between.out) == 1_049_088
    layer = host.between.layers[0]
    assert count(layer.qkv) == 786_432
    assert count(layer.project) == 262_656
    assert count(layer.norm, layer.mlp[0]) == 2_048
    assert count(*layer.mlp[1:]) == 4_198_912
    assert count(host.decoder) == 1_293_444
    assert [count(f) for f in host.decoder.fusions] == [2_072, 8_240, 32_864, 131_264, 524_672]
    assert [count(h) for h in host.decoder.sides] == [68, 132, 260, 516]
    assert count(host.decoder.classify) == 36
    assert count(host.aux) == 593_356
    never_called = 262_656  # four convolutions of the official class
    assert count(host) == 36_654_416 - never_called
    assert count(smaller) == 35_861_840 - never_called
    assert count(five) == 36_654_678 - never_called


@pytest.mark.parametrize(('absent_tokens', 'expected'), [('masked', 7_051_456), ('zero_pos', 6_789_312)])
def test_branches_have_their_published_size(absent_tokens, expected):
    with torch.device('meta'):
        host = MMFormer(MODALITIES, 4, absent_tokens=absent_tokens)
    assert [sum(p.numel() for p in host.branch(m)) for m in MODALITIES] == [expected] * 4


@pytest.mark.parametrize(('side', 'total'), [(80, 30.292), (128, 128.133)])
@pytest.mark.parametrize('arguments', [dict(), OFFICIAL], ids=['ours', 'official'])
def test_the_published_network_has_its_published_cost(side, total, arguments):
    with torch.device('meta'):
        host = MMFormer(MODALITIES, 4, train_size=(side,) * 3, **arguments).eval()
        x = {m: torch.zeros(1, 1, side, side, side) for m in MODALITIES}
    found, outputs = gmacs(lambda: host.run(host.make_batch(x)))
    assert outputs.prediction.shape == (1, 4, side, side, side)
    assert found == pytest.approx(total, rel=0.005)


def test_parts_have_their_published_cost_at_128():
    with torch.device('meta'):
        host = MMFormer(MODALITIES, 4)
        x = torch.zeros(1, 1, 128, 128, 128)
        tokens = torch.zeros(1, 512, 512)
        sequence = torch.zeros(1, 2048, 512)
    encoder = host.encoders['flair']
    found, maps = gmacs(encoder.levels, x)
    assert found == pytest.approx(16.194, rel=1e-3)
    assert gmacs(encoder.layers[0], tokens)[0] == pytest.approx(2.953, rel=1e-3)
    assert gmacs(host.between.layers[0], sequence)[0] == pytest.approx(15.032, rel=1e-3)
    assert 4 * gmacs(host.aux['shared'], maps)[0] == pytest.approx(109.991, rel=1e-3)


# ---- tokens


def test_aligned_tokens_stand_at_their_own_place():
    x = torch.randn(2, 3 * 24, 5)
    maps = tokens_to_maps(x, 3, (2, 3, 4), 'aligned')
    assert maps.shape == (2, 15, 2, 3, 4)
    for k in range(3):
        for place in range(24):
            d, h, w = place // 12, place // 4 % 3, place % 4
            assert torch.equal(maps[:, 5 * k : 5 * k + 5, d, h, w], x[:, 24 * k + place])


def test_the_official_layout_gives_rows_of_the_grid_to_modalities():
    modality = torch.arange(4).repeat_interleave(512).view(1, 2048, 1).expand(1, 2048, 6)
    maps = tokens_to_maps(modality, 4, (8, 8, 8), 'official')
    assert maps.shape == (1, 24, 8, 8, 8)
    for row, m in enumerate([0, 0, 1, 1, 2, 2, 3, 3]):
        assert (maps[:, :, row] == m).all()
    index = tokens_to_maps(torch.arange(2048).view(1, 2048, 1), 4, (8, 8, 8), 'official')
    assert index[0, :, 0, 0, 1].tolist() == [4, 5, 6, 7]  # four neighbours become channels


def test_a_transformer_layer_is_what_its_formula_says():
    torch.manual_seed(0)
    layer, x = TransformerLayer(6, 2, 10, 0.1).eval().double(), torch.randn(2, 5, 6, dtype=torch.float64)
    q, k, v = layer.qkv(layer.norm(x)).chunk(3, 2)
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / 3**0.5).softmax(2)
        heads.append(weights @ v[..., part])
    y = x + layer.project[0](torch.cat(heads, 2))
    norm, first, _, _, second, _ = layer.mlp
    torch.testing.assert_close(layer(x), y + second(F.gelu(first(norm(y)))))


@pytest.mark.parametrize('depth', [1, 2])
def test_masked_tokens_might_as_well_not_be_there(depth):
    torch.manual_seed(0)
    block = BetweenModalities(('a', 'b', 'c'), 4, 'aligned', dim=8, heads=2, mlp=12, depth=depth, dropout=0.0)
    tokens = torch.randn(2, 3, 8, 2, 3, 2)
    tokens[:, 1] = 0
    positions = [torch.randn(1, 12, 8) for _ in range(3)]
    mask = torch.tensor([[True, False, True]] * 2)
    x = tokens[:, [0, 2]].flatten(3).transpose(2, 3).flatten(1, 2)
    for layer in block.layers:
        x = layer(x + torch.cat([positions[0], positions[2]], 1))
    kept = x.unflatten(1, (2, 12))
    x = torch.stack((kept[:, 0], torch.zeros_like(kept[:, 0]), kept[:, 1]), 1).flatten(1, 2)
    maps = tokens_to_maps(x, 3, (2, 3, 2), 'aligned')
    expected = [conv(*maps.chunk(3, 1)) for conv in block.out.values()]
    torch.testing.assert_close(block(tokens, torch.cat(positions, 1), mask), expected, rtol=1e-5, atol=1e-5)


def test_positions_are_resized_for_other_sizes():
    encoder = build(('flair',)).encoders['flair']
    torch.testing.assert_close(encoder.positions_for((2, 2, 3))[0].T, encoder.positions.flatten(2)[0])
    ramp = torch.arange(3.0).expand(1, 16, 2, 2, 3)
    encoder.positions.data.copy_(ramp)
    resized = encoder.positions_for((2, 2, 6)).detach()
    assert resized.shape == (1, 24, 16)
    expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.0])  # centres of half cells, clamped at the ends
    torch.testing.assert_close(resized[0, :6, 0], expected)


# ---- outputs


def test_shapes_and_names_of_all_outputs():
    host = build()
    batch = host.make_batch(**data(shape=(16, 8, 24)))
    outputs = host.run(batch)
    assert outputs.prediction.shape == (3, 3, 16, 8, 24)
    assert outputs.features['t1'][-1].shape == (3, 16, 4, 2, 6)
    assert [tuple(z.shape[2:]) for z in outputs.extras['side']] == [(8, 4, 12), (4, 2, 6)]
    assert list(host.unimodal(outputs)) == list(MODALITIES)
    sides, aux = [f'loss_side_{n}' for n in (2, 4)], [f'loss_aux_{m}' for m in MODALITIES]
    assert list(host.losses(outputs, batch)) == ['loss_task', *sides, *aux]
    assert host.eval().run(batch).extras['side'] == []


@pytest.mark.parametrize('names', [MODALITIES[:1], MODALITIES[:2], (*MODALITIES, 'pd')], ids=len)
@pytest.mark.parametrize('arguments', [dict(), OFFICIAL], ids=['ours', 'official'])
def test_any_number_of_modalities_and_odd_sizes_work_when_padded(names, arguments):
    host = build(names, pad_to=4, num_classes=2, **arguments)
    batch = data(names, shape=(11, 9, 5), classes=2)
    losses = host(**batch, mode='loss')
    assert all(v.isfinite() for v in losses.values())
    assert host.eval()(batch['inputs']).shape == (3, 2, 11, 9, 5)


@pytest.mark.parametrize(('shape', 'pad_to'), [((96, 80, 112), None), ((75, 83, 77), 16)], ids=str)
def test_the_published_network_takes_other_sizes(shape, pad_to):
    with torch.device('meta'):
        host = MMFormer(MODALITIES, 4, pad_to=pad_to)
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


@pytest.mark.parametrize('arguments', [dict(), OFFICIAL], ids=['ours', 'official'])
def test_all_subsets_from_one_encoding_equal_a_run_of_each(arguments):
    host, x = build(window=(8, 8, 8), **arguments).eval(), data(size=2, shape=(8, 8, 12))['inputs']
    calls = []
    for encoder in host.encoders.values():
        encoder.register_forward_hook(lambda *_: calls.append(1))
    batch = host.make_batch(x)
    with torch.no_grad():
        found = list(host.run_subsets(batch, SUBSETS))
        assert len(calls) == 4 * 2
        for mask, outputs in zip(SUBSETS, found):
            expected = host.run(batch.restrict(mask)).prediction
            torch.testing.assert_close(outputs.prediction, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('fill', [1e6, torch.nan, torch.inf])
@pytest.mark.parametrize('arguments', [dict(), OFFICIAL], ids=['ours', 'official'])
def test_what_absent_modalities_hold_changes_no_bit(fill, arguments):
    host, x = build(**arguments).eval(), data(size=15, shape=(8, 8, 8))['inputs']
    clean = {m: v.where(h.view(-1, 1, 1, 1, 1), 0) for (m, v), h in zip(x.items(), SUBSETS.T)}
    filled = {m: v.where(h.view(-1, 1, 1, 1, 1), fill) for (m, v), h in zip(x.items(), SUBSETS.T)}
    with torch.no_grad():
        assert torch.equal(host(filled, SUBSETS), host(clean, SUBSETS))


@pytest.mark.parametrize(('absent_tokens', 'moves'), [('masked', False), ('zero_pos', True)])
def test_positions_of_an_absent_modality_act_only_where_they_are_left_in(absent_tokens, moves):
    host, x = build(absent_tokens=absent_tokens), data()
    batch = host.make_batch(x['inputs'], torch.tensor([[1, 1, 0, 1]] * 3).bool(), x['target'])
    losses = host.losses(host.run(batch), batch)
    sum(losses.values()).backward()
    encoder = host.encoders['t1']
    assert bool(encoder.positions.grad.any()) == moves
    assert not any(p.grad.any() for p in host.branch('t1'))
    with torch.no_grad():
        before = host.eval()(x['inputs'], batch.present)
        encoder.positions.mul_(-3)
        assert torch.equal(host(x['inputs'], batch.present), before) != moves


@pytest.mark.parametrize(('aux_on', 'moves'), [('present', False), ('all', True)])
def test_auxiliary_losses_train_convolutions_but_no_transformer(aux_on, moves):
    host = build(encode_on='all', aux_on=aux_on)
    batch = host.make_batch(**data())
    dropped = batch.replace(present=torch.tensor([[1, 1, 0, 1]] * 3).bool(), available=batch.available)
    losses = host.losses(host.run(dropped), dropped)

    def moved(key, module):
        grads = torch.autograd.grad(losses[key], list(module.parameters()), retain_graph=True, allow_unused=True)
        return any(g is not None and bool(g.any()) for g in grads)

    absent, here = host.encoders['t1'], host.encoders['t2']
    assert moved('loss_aux_t1', absent.levels) == moves
    assert moved('loss_aux_t2', here.levels)
    assert not moved('loss_aux_t2', here.layers)
    assert not moved('loss_task', absent)
    assert moved('loss_task', here.layers)


def test_the_order_of_the_modalities_does_not_matter():
    host, other = build().eval().double(), build(MODALITIES[::-1], seed=1).eval().double()
    other.load_state_dict(host.state_dict())
    x = {m: v.double() for m, v in data()['inputs'].items()}
    present = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]).bool()
    with torch.no_grad():
        torch.testing.assert_close(other(x, present.flip(1)), host(x, present), rtol=1e-9, atol=1e-9)


def test_samples_do_not_depend_on_their_companions():
    host, x = build().eval().double(), {m: v.double() for m, v in data()['inputs'].items()}
    present = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 1, 0]]).bool()
    with torch.no_grad():
        whole = host(x, present)
        for i in range(3):
            alone = host({m: v[i : i + 1] for m, v in x.items()}, present[i : i + 1])
            torch.testing.assert_close(alone, whole[i : i + 1], rtol=1e-9, atol=1e-9)


# ---- training and arguments


def test_the_order_of_side_heads_and_what_inference_does_without():
    host = build()
    training_only = {id(p) for p in host.training_only()}
    assert training_only == {id(p) for part in (host.aux, host.decoder.sides) for p in part.parameters()}
    assert 'unimodal' not in build(aux_heads=False).offers


def test_it_learns_which_modality_carries_the_label():
    torch.manual_seed(0)
    host = build(('flair', 't1'), num_classes=2, widths=(4, 8))
    optimizer = torch.optim.Adam(host.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    for step in range(40):
        target = torch.randint(0, 2, (4, 2, 2, 2), generator=generator)
        target = target.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
        inputs = {
            'flair': target[:, None].float() + 0.1 * torch.randn(4, 1, 8, 8, 8, generator=generator),
            't1': torch.randn(4, 1, 8, 8, 8, generator=generator),
        }
        optimizer.zero_grad()
        present = torch.tensor([[True, step % 2 == 0]] * 4)
        sum(host(inputs, present, target, mode='loss').values()).backward()
        optimizer.step()
    host.eval()
    with torch.no_grad():
        both, own = (host(inputs, torch.tensor([[True, t1]] * 4)).argmax(1) for t1 in (True, False))
    assert (both == target).float().mean() > 0.9
    assert (own == target).float().mean() > 0.9


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(widths=(4, 8, 8)), 'each twice the one before'),
        (dict(train_size=(8, 8)), r'train_size must be three numbers of voxels \(D, H, W\), each at least 4'),
        (dict(train_size=(8, 8, 3)), 'each at least 4'),
        (dict(heads=3), 'dim must be a multiple of heads, got 16 and 3'),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build(**arguments)


@pytest.mark.parametrize('arguments', [dict(token_layout='aligne'), dict(absent_tokens='mask')])
def test_unknown_choices_are_refused_with_the_nearest(arguments):
    with pytest.raises(NameNotFound, match=rf'{next(iter(arguments))}.*[Dd]id you mean'):
        build(**arguments)


def test_it_is_built_by_name():
    host = HOSTS.build(
        dict(type='MMFormer', modalities=['flair'], num_classes=2, widths=(4, 8), train_size=(8, 8, 8), dim=8, mlp=8)
    )
    assert host.multiple == 2
