import pytest
import torch

from registry import FUSIONS, InputError, NameNotFound
from zoo.blocks import cosine_matrix
from zoo.fusion import EMCAM, EMSCA, MFIFA

NAMES = ('rgb', 'depth', 'ir', 'flair')


def block(count=2, channels=24, kind='EMCAM', **arguments):
    torch.manual_seed(0)
    return FUSIONS.build(dict(type=kind, modalities=NAMES[:count], channels=channels, **arguments))


def maps(count=2, channels=24, size=(7, 5), batch=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(batch, channels, *size, generator=generator).relu() for m in NAMES[:count]}


def everybody(x):
    return torch.ones(len(next(iter(x.values()))), len(x), dtype=torch.bool)


def refine(fusion, x, mask=None):
    return fusion.forward_each(x, everybody(x) if mask is None else mask)


@pytest.mark.parametrize('count', [1, 2, 3, 4])
@pytest.mark.parametrize(
    'arguments',
    [
        {},
        {'pool': 'global', 'share_weights': True},
        {'pool': 'same', 'pairing': 'ring', 'dct': 'spatial', 'invert': True},
        {'pairing': 'mean', 'dct': 'none', 'gate': False, 'mode': 'cascade', 'rescale': True},
    ],
    ids=str,
)
def test_maps_keep_their_shape_and_every_parameter_trains(count, arguments):
    fusion, x = block(count, **arguments), maps(count)
    refined = refine(fusion, x)
    assert {m: y.shape for m, y in refined.items()} == {m: y.shape for m, y in x.items()}
    sum(y.square().sum() for y in refined.values()).backward()
    assert not [n for n, p in fusion.named_parameters() if not (p.grad.isfinite().all() and p.grad.any())]
    assert all(y.isfinite().all() for y in refine(fusion.eval(), maps(count, batch=1, size=(1, 1))).values())


@pytest.mark.parametrize(('channels', 'size'), [(64, 26_114), (128, 94_210), (256, 356_354), (512, 1_384_450)])
def test_it_has_the_published_size(channels, size):
    with torch.device('meta'):
        assert sum(p.numel() for p in block(channels=channels).parameters()) == size


def fill(parameters, value):
    for p in parameters.values():
        torch.nn.init.constant_(p, value)


def test_gates_of_known_weights_give_known_multiples():
    fusion, x = block(), maps()
    fill(fusion.weights, 0)
    assert all(torch.equal(y, 0.5 * x[m]) for m, y in refine(fusion, x).items())
    fill(fusion.scales, 2)
    assert all(torch.equal(y, x[m]) for m, y in refine(fusion, x).items())
    fill(fusion.scales, 1)
    fill(fusion.weights, 1)
    fill(fusion.mfifa.modulation, 0)
    fill(fusion.emsca.modulation, 0)
    for m, y in refine(fusion, x).items():
        torch.testing.assert_close(y, 0.731058578630 * x[m])  # the sigmoid of 0.5 + 0.5
    fill(fusion.scales, 0)
    assert not any(y.any() for y in refine(fusion, x).values())


def test_partners_are_symmetric():
    fusion, x = block(3, share_weights=True), maps(3)
    refined = refine(fusion, x)
    other = refine(fusion, dict(zip(x, reversed(x.values()))))
    for a, b in zip(refined.values(), reversed(other.values())):
        torch.testing.assert_close(a, b)
    same = refine(block(), dict.fromkeys(NAMES[:2], x['rgb']))
    assert torch.equal(same['rgb'], same['depth'])


def test_the_frequency_map_is_that_of_the_equations():
    fusion, x = block(kind='MFIFA'), maps()
    total = 0
    for m, y in x.items():
        p = fusion.modulation[m].data.copy_(torch.randn(3, 24))
        alpha, phi, gamma = p[:, :, None, None]
        u = torch.einsum('kc,bchw->bkhw', cosine_matrix(24), y)
        pooled = (u.amin((2, 3)), u.mean((2, 3)), u.amax((2, 3)))
        l1, l2, h3 = (fusion.gates[m](v).sigmoid()[..., None, None] for v in pooled)
        low, high = l1 + l2, (u - l1) + (u - l2) + h3
        total = total + alpha * low + phi * high + gamma * (high - low)
    torch.testing.assert_close(fusion.attention(x, everybody(x)), total.sigmoid())


def test_three_modulations_are_two():
    fusion, x = block(kind='MFIFA'), maps()
    for p in fusion.modulation.values():
        p.data.normal_()
    before = fusion.attention(x, everybody(x))
    for p in fusion.modulation.values():
        alpha, phi, gamma = p.data.clone()
        p.data.copy_(torch.stack([alpha - gamma, phi + gamma, torch.zeros_like(gamma)]))
    torch.testing.assert_close(fusion.attention(x, everybody(x)), before)


@pytest.mark.parametrize('size', [(8, 12), (7, 5)])
def test_the_map_of_places_is_that_of_the_equations(size):
    fusion, x = block(3, kind='EMSCA'), maps(3, size=size)

    def pooled(m, y):
        y = fusion.scales[m](y)
        pools = torch.nn.functional.avg_pool2d, torch.nn.functional.max_pool2d
        return sum(pool(y, 2, ceil_mode=True) for pool in pools)

    def up(y, times):  # each place has the value of the cell that was pooled over it
        return y.repeat_interleave(times, 2).repeat_interleave(times, 3)[..., : size[0], : size[1]]

    base = {m: pooled(m, y) for m, y in x.items()}
    total = 0
    for m, partner in zip(NAMES[:3], ('ir', 'depth', 'rgb')):
        weight = fusion.modulation[m].data.normal_()[:, None, None]
        total = total + weight * (up(base[m] + base[partner], 2) + up(pooled(m, base[m]), 4))
    for m, y in fusion.exchange(x, everybody(x)).items():
        torch.testing.assert_close(y, x[m] * total.sigmoid())


def test_the_places_are_not_shuffled():
    assert block(kind='EMSCA', channels=32).scales['rgb'].shuffle_groups == 1


def test_a_cascade_is_one_block_after_the_other():
    fusion, x = block(mode='cascade'), maps()
    for p in fusion.scales.values():
        p.data.normal_()
    by_hand = fusion.emsca.exchange(fusion.mfifa.exchange(x, everybody(x)), everybody(x))
    for m, y in refine(fusion, x).items():
        torch.testing.assert_close(y, by_hand[m] * fusion.scales[m][:, None, None])


@pytest.mark.parametrize(
    'arguments',
    [{'gate': False}, {'dct': 'none'}, {'dct': 'spatial'}, {'invert': True}, {'spatial_sigmoid': False},
     {'pool': 'same'}, {'pool': 'global'}, {'mode': 'cascade'}, {'use_mfifa': False}, {'use_emsca': False}],
    ids=str,
)  # fmt: skip
def test_every_option_changes_the_result(arguments):
    default, other, x = block(), block(**arguments), maps()
    other.load_state_dict(default.state_dict(), strict=False)
    assert not torch.allclose(refine(default, x)['rgb'], refine(other, x)['rgb'], atol=1e-4)


# ---- absent modalities


@pytest.mark.parametrize('arguments', [{}, {'pairing': 'mean'}, {'pairing': 'ring', 'rescale': True}], ids=str)
def test_a_mask_that_lets_all_through_is_none_bit_for_bit(monkeypatch, arguments):
    fusion, x = block(3, **arguments), maps(3)
    plain = refine(fusion, x)
    blind(monkeypatch)
    assert all(torch.equal(y, plain[m]) for m, y in refine(fusion, x).items())


def blind(monkeypatch):
    """As on a GPU with a mask that nobody knows on the CPU."""
    monkeypatch.setattr('zoo.fusion.fusion.readable', lambda mask: False)
    monkeypatch.setattr('zoo.fusion.attention_maps.on_cpu', lambda mask: None)


@pytest.mark.parametrize(
    ('pairing', 'seen'), [('mirror', True), ('ring', True), ('mean', True), ('mirror', False), ('mean', False)]
)
def test_a_row_without_a_modality_is_a_block_without_it(monkeypatch, pairing, seen):
    if not seen:
        blind(monkeypatch)
    whole, x = block(3, pairing=pairing), maps(3)
    mask = everybody(x)
    mask[1, 1:] = False
    x['depth'][1], x['ir'][1] = torch.nan, 1e4
    refined = refine(whole, x, mask)
    assert not refined['depth'][1].any()
    assert not refined['ir'][1].any()
    alone = block(1)
    state = whole.state_dict()
    alone.load_state_dict({k: state[k] for k in alone.state_dict()})
    torch.testing.assert_close(refined['rgb'][1:2], refine(alone, {'rgb': x['rgb'][1:2]})['rgb'])
    sum(y.sum() for y in refined.values()).backward()
    assert all(p.grad.isfinite().all() for p in whole.parameters())


def test_what_is_absent_everywhere_gets_no_gradient():
    fusion, x = block(), maps()
    mask = everybody(x)
    mask[:, 1] = False
    sum(y.sum() for y in refine(fusion, x, mask).values()).backward()
    assert not [n for n, p in fusion.named_parameters() if ('depth' in n.split('.')) == bool(p.grad.any())]


def test_sums_can_be_rescaled_to_the_number_of_modalities():
    x = maps(1)
    x['depth'] = x['rgb']
    mask = torch.tensor([[True, False]] * 3)
    fusion = block(share_weights=True, rescale=True)
    both, one = refine(fusion, x), refine(fusion, x, mask)
    torch.testing.assert_close(one['rgb'], both['rgb'])


# ---- as any other fusion block


@pytest.mark.parametrize(('reduce', 'width'), [('sum', 8), ('mean', 8), ('concat', 16)])
def test_any_host_can_have_the_sum_the_mean_or_all_of_them(reduce, width):
    fusion, x = block(channels=8, reduce=reduce), maps(channels=8)
    assert fusion.out_channels == width
    mask = everybody(x)
    mask[0, 1] = False
    refined = list(refine(fusion, x, mask).values())
    by_hand = torch.cat(refined, 1) if reduce == 'concat' else sum(refined)
    if reduce == 'mean':
        by_hand = by_hand / torch.tensor([1, 2, 2])[:, None, None, None]
    torch.testing.assert_close(fusion(x, mask), by_hand)
    vectors = {m: y[..., 0, 0] for m, y in x.items()}
    assert fusion(vectors, mask).shape == (3, width)


def test_other_widths_are_brought_to_one():
    for arguments, width, out in (
        ({}, 8, 8),
        ({'out_channels': 6}, 6, 6),
        ({'out_channels': 6, 'reduce': 'concat'}, 8, 6),
    ):
        fusion = block(channels={'rgb': 8, 'depth': 4}, **arguments)
        x = {'rgb': torch.randn(2, 8, 4, 6), 'depth': torch.randn(2, 4, 4, 6)}
        assert (fusion.width, fusion.out_channels) == (width, out)
        assert fusion(x, everybody(x)).shape == (2, out, 4, 6)


def test_half_precision_goes_in_and_comes_out():
    fusion, x = block(), maps()
    with torch.autocast('cpu', torch.bfloat16):
        refined = refine(fusion, {m: y.bfloat16() for m, y in x.items()})
        attention = fusion.attention(x, everybody(x))
    assert {y.dtype for y in refined.values()} == {torch.bfloat16}
    assert attention.dtype == torch.float32


def test_what_does_not_fit_is_told():
    x = maps(channels=8)
    with pytest.raises(InputError, match=r'EMCAM takes vectors.*rgb \(3, 8, 4, 7, 5\)'):
        refine(block(channels=8), {m: y[:, :, None].expand(-1, -1, 4, -1, -1) for m, y in x.items()})
    with pytest.raises(InputError, match=r'of one size in all.*rgb \(3, 8, 7, 5\), depth \(3, 8, 7, 4\)'):
        refine(block(channels=8), {**x, 'depth': x['depth'][..., :4]})
    with pytest.raises(InputError, match='a cascade both'):
        EMCAM(['rgb'], 8, mode='cascade', use_emsca=False)
    for kind, arguments in ((EMCAM, {'mode': 'serial'}), (MFIFA, {'dct': 'fft'}), (EMSCA, {'pool': 'max'}),
                            (EMSCA, {'pairing': 'all'}), (EMCAM, {'reduce': 'max'})):  # fmt: skip
        with pytest.raises(NameNotFound, match='Known: '):
            kind(['rgb'], 8, **arguments)
