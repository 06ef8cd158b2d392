"""BrainPhantoms: the same volumes each time, and each sequence shows what it should."""

import numpy as np
import pytest
import torch

from registry import InputError, NameNotFound
from zoo.datasets import BrainPhantoms

REGIONS = {'WT': (1, 2, 3), 'TC': (1, 3), 'ET': (3,)}


def same(a, b):
    return torch.equal(a['target'], b['target']) and all(torch.equal(x, b['inputs'][m]) for m, x in a['inputs'].items())


def test_a_phantom_is_the_same_each_time_and_others_differ():
    data = BrainPhantoms(size=16)
    assert same(data[3], BrainPhantoms(size=16, count=4)[3])
    others = [data[4], BrainPhantoms('val', size=16)[3], BrainPhantoms(size=16, seed=1)[3]]
    assert not any(same(data[3], other) for other in others)


def test_the_first_phantom_is_as_recorded():
    sample = BrainPhantoms(size=16)[0]
    assert sample['target'].flatten().bincount(minlength=4).tolist() == [3989, 9, 72, 26]


def test_shapes_and_types():
    data = BrainPhantoms('test', modalities=['t2', 'flair'], size=(20, 16, 24))
    sample = data[5]
    assert len(data) == 48
    assert list(sample['inputs']) == ['t2', 'flair']
    assert {x.shape for x in sample['inputs'].values()} == {(1, 20, 16, 24)}
    assert sample['target'].shape == (20, 16, 24)
    assert sample['present'].tolist() == [True, True]
    assert torch.equal(sample['inputs']['flair'], BrainPhantoms('test', size=(20, 16, 24))[5]['inputs']['flair'])


def test_every_phantom_has_a_tumour_and_some_lack_the_rim():
    data = BrainPhantoms(size=24)
    counts = torch.stack([data[i]['target'].flatten().bincount(minlength=4) for i in range(40)])
    assert (counts[:, 1:3] > 0).all()
    without = (counts[:, 3] == 0).float().mean()
    assert 0.05 < without < 0.4


def test_each_sequence_is_standardised_in_the_head_and_constant_outside():
    for x in BrainPhantoms(size=24)[0]['inputs'].values():
        outside = x == x.flatten()[0]
        assert outside.float().mean() > 0.3
        assert float(x[~outside].mean()) == pytest.approx(0, abs=1e-4)
        assert float(x[~outside].std()) == pytest.approx(1, abs=1e-2)


def best_dice(truth, values):
    """The largest Dice that can be had from the brightness of single voxels."""
    bins = np.digitize(values, np.quantile(values, np.linspace(0, 1, 33)[1:-1]))
    hits, number = np.bincount(bins, truth, minlength=32), np.bincount(bins, minlength=32)
    order = np.argsort(-hits / number.clip(1))
    return (2 * hits[order].cumsum() / (number[order].cumsum() + truth.sum())).max()


def test_flair_shows_the_whole_tumour_best_and_t1ce_its_core():
    data = BrainPhantoms(size=24)
    samples = [data[i] for i in range(12)]
    found = {}
    for m in BrainPhantoms.all_modalities:
        x = torch.stack([s['inputs'][m][0] for s in samples])
        head = x != x[:, :1, :1, :1]
        labels = torch.stack([s['target'] for s in samples])[head].numpy()
        found[m] = {r: best_dice(np.isin(labels, c), x[head].numpy()) for r, c in REGIONS.items()}
    best = {region: max(found, key=lambda m: found[m][region]) for region in REGIONS}
    assert best == {'WT': 'flair', 'TC': 't1ce', 'ET': 't1ce'}
    assert all(min(found, key=lambda m: found[m][region]) == 't1' for region in ('TC', 'ET'))
    assert all(0.1 < score < 0.95 for scores in found.values() for score in scores.values())


@pytest.mark.parametrize(
    'arguments',
    [{'size': 15}, {'size': (16, 16)}, {'seed': -1}, {'count': 0}, {'noise': -1}, {'noise': float('nan')}],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InputError):
        BrainPhantoms(**arguments)


def test_an_unknown_split_is_refused():
    with pytest.raises(NameNotFound, match="split of BrainPhantoms named 'trian'"):
        BrainPhantoms('trian')
