"""How far predictions move: against single passes, and where a host is known to look."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from plugins import RPAN
from plugins.explanation import default_block, movements, region_maps
from plugins.explanation.explain import one_draw
from plugins.explanation.explanation import Explanation, leaning
from plugins.explanation.movement import MASKS
from plugins.masks import intervention_masks
from zoo import MultimodalHost, Outputs
from zoo.hosts import MAIL, LateFusion

NARROW = {'model': 'test_resnet', 'stem_width': 4, 'channels': (8, 8, 8, 16)}
SMALL = {'type': 'ERLAEncoder', 'depths': (1, 1), 'widths': (4, 8), 'stem_width': 4}


class Peephole(MultimodalHost):
    """Sees one place of the first of its modalities."""

    def __init__(self, place, modalities=('a', 'b', 'c')):
        super().__init__(modalities)
        self.place = place
        self.unused = nn.Parameter(torch.zeros(()))
        self.in_chans = dict.fromkeys(self.modalities, 2)

    def encode(self, batch):
        pairs = zip(self.modalities, batch.present.unbind(1))
        return {m: self.encode_rows(nn.Identity(), batch.inputs[m], rows) for m, rows in pairs}

    def fuse(self, features, mask):
        return features[self.modalities[0]][(..., *self.place)].where(mask[:, :1], 0)

    def decode(self, fused, features):
        return Outputs(fused, features, {})


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generator():
    return torch.Generator().manual_seed(0)


@torch.no_grad()
@pytest.mark.parametrize(('size', 'place'), [((20, 28), (5, 17)), ((7, 9), (3, 4)), ((5, 6, 9), (2, 3, 4))])
def test_the_map_of_a_host_that_sees_one_place_peaks_there_and_that_of_others_is_zero(size, place):
    host = Peephole(place).eval()
    inputs = {m: 1 + draw(1, 2, *size, seed=i).abs() for i, m in enumerate('abc')}
    maps = region_maps(host, host.make_batch(inputs), 64, generator(), batch_size=10)
    assert {m: tuple(x.shape) for m, x in maps.items()} == dict.fromkeys('abc', size)
    assert maps['a'][place] == maps['a'].max() > 0
    assert (maps['a'] == 0).double().mean() > 0.5
    assert not maps['b'].any()
    assert not maps['c'].any()


@torch.no_grad()
def test_the_value_of_a_place_is_the_mean_over_draws_that_hide_it_minus_that_over_all():
    host = Peephole((5, 17), ('a', 'b')).eval()
    batch = host.make_batch({m: 1 + draw(1, 2, 20, 28, seed=i).abs() for i, m in enumerate('ab')})
    moved = batch.inputs['a'][0, :, 5, 17].mean()  # to 0
    value = region_maps(host, batch, 64, generator(), block=6, batch_size=64)['a'][5, 17]
    kept = intervention_masks(
        {'a': (20, 28), 'b': (20, 28)}, torch.ones(64, 2).bool(), generator(), 6, kind='random', **MASKS
    )
    hidden = int((~kept['a'][:, 0, 5, 17]).sum())
    assert hidden > 1
    torch.testing.assert_close(value, moved * (1 - hidden / 64) * hidden / (hidden + 1))


@torch.no_grad()
def test_inputs_of_other_sizes_and_kinds_have_maps_of_their_own_or_none():
    host = Peephole((5, 17), ('a', 'fine', 'vector', 'sound', 'lost')).eval()
    inputs = {'a': draw(1, 2, 20, 28), 'fine': draw(1, 2, 40, 56), 'vector': draw(1, 2), 'sound': draw(1, 2, 30)}
    inputs['lost'] = torch.full((1, 2, 20, 28), torch.nan)
    batch = host.make_batch(inputs, torch.tensor([[True, True, True, True, False]]))
    assert default_block(host, batch) == 5
    maps = region_maps(host, batch, 16, generator())
    assert {m: tuple(x.shape) for m, x in maps.items()} == {'a': (20, 28), 'fine': (40, 56)}
    assert all(x.isfinite().all() for x in maps.values())
    found = movements(host, batch, generator())
    assert [float(found[f'without {m}']) for m in ('fine', 'vector', 'sound')] == [0, 0, 0]
    assert found['without lost'].isnan()


@torch.no_grad()
@pytest.mark.parametrize('separable', [True, False])
def test_movements_are_those_of_single_passes(separable):
    host = LateFusion(['rgb', 'ir', 'depth'], num_classes=5, encoder=NARROW).eval()
    host.separable = separable
    inputs = {m: draw(4, 3, 32, 48, seed=i) for i, m in enumerate(host.modalities)}
    present = torch.tensor([[True, True, True], [True, False, False], [False, True, True], [True, True, False]])
    for x, here in zip(inputs.values(), present.T):
        x[~here] = torch.nan
    found = movements(host, host.make_batch(inputs, present), generator())
    clean = host(inputs, present)
    for i, m in enumerate(host.modalities):
        for row in range(4):
            value = found[f'without {m}'][row]
            less = present[row : row + 1].clone()
            less[0, i] = False
            if not present[row, i] or not less.any():
                assert value.isnan()
                continue
            other = host({k: x[row : row + 1] for k, x in inputs.items()}, less)
            expected = F.kl_div(other.log_softmax(1), clean[row : row + 1].softmax(1), reduction='batchmean')
            torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-6)
    for kind in ('random', 'complementary'):
        assert (found[f'{kind} masks'] > 0).all()


@torch.no_grad()
def test_several_tasks_move_by_their_weighted_sum():
    host = MAIL(('rgb', 'ir'), {'x': 3, 'y': 2}, SMALL).eval()
    inputs = {m: draw(2, 3, 32, 48, seed=i) for i, m in enumerate(host.modalities)}
    target = {'x': torch.tensor([0, 1]), 'y': torch.tensor([-1, 1])}
    found = movements(host, host.make_batch(inputs, target=target), generator())
    clean, other = host(inputs), host({'ir': inputs['ir']})
    kl = [F.kl_div(other[t].log_softmax(1), clean[t].softmax(1), reduction='none').sum(1) for t in 'xy']
    torch.testing.assert_close(found['without rgb'], sum(kl) / 2, rtol=1e-3, atol=1e-6)


def test_a_random_host_is_one_draw():
    host = MAIL(('rgb', 'depth'), 3, SMALL).plug(RPAN(resample='forward')).train()
    inputs = {m: draw(2, 3, 32, 48, seed=i) for i, m in enumerate(host.modalities)}
    batch = host.make_batch(inputs)
    found = []
    for _ in range(2):
        with one_draw(host, 3), torch.inference_mode():
            found.append(movements(host, batch, generator(), again=True))
    assert host.training
    assert found[0]['another draw'].tolist() == [0, 0]
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0, equal_nan=True)


def test_figures_sum_up_samples_that_count():
    nan = torch.nan
    lost = {'without a': torch.tensor([1.0, nan, 3.0, 0.0]), 'without b': torch.tensor([2.0, nan, 1.0, 0.0])}
    result = Explanation.of({**lost, 'random masks': torch.full((4,), 0.5)}, ['a', 'b'], {})
    a, b, masks = result.rows
    half = 4.302653 * lost['without a'][[0, 2, 3]].std() / 3**0.5  # Student's t of 2 degrees of freedom
    assert a['mean'] == pytest.approx(4 / 3)
    assert (a['low'], a['high']) == (0, pytest.approx(4 / 3 + float(half)))
    assert (a['most'], b['most'], masks['most']) == (pytest.approx(1 / 3), pytest.approx(1 / 3), None)
    assert (a['samples'], masks['samples']) == (3, 4)
    assert masks['low'] == masks['high'] == 0.5


def test_nobody_leans_on_a_modality_that_nobody_has():
    assert leaning(torch.tensor([[torch.nan], [torch.nan]])) == [None, None]
