"""Dice and HD95: by hand, against scikit-learn and a brute-force distance, a case at a time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score

from registry import METRICS, InputError, NameNotFound
from zoo import Batch, Outputs
from zoo.metrics import MeanDice
from zoo.metrics.mean_dice import hausdorff_95

SIZE = (5, 6, 7)
REGIONS = {'WT': (1, 2, 3), 'TC': (1, 3), 'ET': (3,)}


def given(prediction, target):
    present = torch.ones(len(prediction), 1, dtype=torch.bool)
    return Outputs(prediction, {}, {}), Batch({'a': torch.zeros(len(prediction), 1)}, present, ('a',), target)


def scored(*pairs, **arguments):
    metric = METRICS.build(dict(type='MeanDice', **arguments))
    for prediction, target in pairs:
        metric.update(*given(prediction, target))
    return metric.compute()


def as_logits(labels, classes=4):
    """Logits whose largest is that of ``labels`` (B, ...)."""
    return F.one_hot(torch.as_tensor(labels), classes).movedim(-1, 1).float()


def line(*labels):
    """One volume (1, 1, 1, W) of labels."""
    return torch.tensor(labels)[None, None, None]


@pytest.mark.parametrize('size', [SIZE, (8, 9)])
def test_it_agrees_with_scikit_learn_case_by_case(size):
    batches = [(torch.randn(n, 4, *size), torch.randint(0, 4, (n, *size))) for n in (3, 2)]
    found = scored(*batches)
    for name, classes in REGIONS.items():
        cases = [
            f1_score(np.isin(t.ravel(), classes), np.isin(z.argmax(0).ravel(), classes))
            for logits, targets in batches
            for z, t in zip(logits, targets)
        ]
        assert float(found[f'Dice_{name}']) == pytest.approx(100 * np.mean(cases))
    assert float(found['Dice']) == pytest.approx(np.mean([float(found[f'Dice_{r}']) for r in REGIONS]))


def test_regions_by_hand():
    target, guess = line(0, 1, 2, 2, 3, 3), line(0, 3, 2, 0, 3, 0)
    found = scored((as_logits(guess), target))
    assert float(found['Dice_WT']) == pytest.approx(100 * 2 * 3 / (5 + 3))
    assert float(found['Dice_TC']) == pytest.approx(100 * 2 * 2 / (3 + 2))
    assert float(found['Dice_ET']) == pytest.approx(100 * 2 * 1 / (2 + 2))


def test_cases_count_alike_whatever_their_size():
    target = torch.cat([line(1, 1, 1, 1, 1, 1), line(0, 0, 0, 0, 0, 1)])
    guess = torch.cat([line(1, 1, 1, 1, 1, 1), line(1, 0, 0, 0, 0, 0)])
    assert float(scored((as_logits(guess), target))['Dice_WT']) == 50


def test_a_region_that_is_nowhere_scores_100_and_a_wrong_one_0():
    target = torch.cat([line(0, 0, 2, 2), line(0, 0, 2, 2)])
    found = scored((as_logits(torch.cat([line(0, 0, 2, 2), line(0, 0, 2, 3)])), target))
    assert float(found['Dice_ET']) == 50
    assert float(found['Dice_WT']) == 100


def test_a_small_enhancing_tumour_is_dropped_case_by_case():
    target = torch.cat([line(0, 0, 2, 2, 2), line(0, 0, 3, 3, 3)])
    guess = torch.cat([line(0, 0, 3, 3, 2), line(0, 0, 3, 3, 3)])
    plain, cleaned = (scored((as_logits(guess), target), et_min=n) for n in (0, 3))
    assert float(plain['Dice_ET']) == 50
    assert float(cleaned['Dice_ET']) == 100
    for name in ('Dice_WT', 'Dice_TC'):  # what was ET counts as core
        assert cleaned[name] == plain[name]
    assert float(scored((as_logits(guess), target), et_min=4)['Dice_ET']) == 50  # the second case lost its own
    assert MeanDice(et_min=3).settings == {'et_min': 3}


def test_ignored_voxels_count_nowhere():
    target = line(0, 1, 255, 255, 2)
    found = scored((as_logits(line(0, 1, 3, 1, 2)), target), hd95=True)
    assert [float(found[f'Dice_{r}']) for r in REGIONS] == [100, 100, 100]
    assert float(found['HD95']) == 0


def test_without_regions_every_class_has_a_score():
    target, guess = line(0, 0, 1, 2, 2), line(0, 1, 1, 2, 0)
    found = scored((as_logits(guess, 3), target), regions=None)
    expected = [100 * 2 / 4, 100 * 2 / 3, 100 * 2 / 3]
    assert found['Dice_class'].tolist() == pytest.approx(expected)
    assert float(found['Dice']) == pytest.approx(np.mean(expected[1:]))
    assert MeanDice(regions=None).also == ()


def test_regions_may_be_given():
    target, guess = line(0, 4, 1, 2, 2), line(0, 4, 1, 1, 0)
    metric = MeanDice(regions={'all': [1, 2, 4], 'two': [2]})
    assert metric.also == ('Dice_all', 'Dice_two')
    metric.update(*given(as_logits(guess, 5), target))
    found = metric.compute()
    assert float(found['Dice_all']) == pytest.approx(100 * 2 * 3 / (4 + 3))
    assert float(found['Dice_two']) == 0


def test_label_maps_score_as_their_logits():
    target, guess = torch.randint(0, 4, (2, *SIZE)), torch.randint(0, 4, (2, *SIZE))
    torch.testing.assert_close(scored((guess, target), num_classes=4), scored((as_logits(guess), target)))
    with pytest.raises(InputError, match='needs num_classes'):
        scored((guess, target))
    with pytest.raises(InputError, match=r'label map has the shape \(2, 5, 6, 7\), its target \(2, 5, 6, 6\)'):
        scored((guess, target[..., :-1]), num_classes=4)


def test_targets_of_different_sizes_come_as_a_list():
    logits = torch.randn(2, 4, *SIZE)
    targets = [torch.randint(0, 4, SIZE), torch.randint(0, 4, (10, 9, 8))]
    resized = F.interpolate(logits[1:], (10, 9, 8), mode='trilinear', align_corners=False)
    expected = scored((logits[:1], targets[0][None]), (resized, targets[1][None]))
    torch.testing.assert_close(scored((logits, targets)), expected)


def brute_hd95(guess, truth, spacing):
    """All distances between surface voxels, those with a face neighbour outside."""

    def surface(mask):
        inside = {tuple(v) for v in np.argwhere(mask)}
        steps = [s * e for e in np.eye(mask.ndim, dtype=int) for s in (-1, 1)]
        return np.array([v for v in inside if any(tuple(np.add(v, s)) not in inside for s in steps)])

    a, b = surface(guess) * spacing, surface(truth) * spacing
    gaps = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return max(np.percentile(gaps.min(1), 95), np.percentile(gaps.min(0), 95))


@pytest.mark.parametrize('spacing', [(1.0, 1.0, 1.0), (1.0, 2.5, 0.5)])
def test_hd95_agrees_with_all_pairs_of_surface_voxels(spacing):
    rng = np.random.default_rng(0)
    for _ in range(5):
        guess, truth = np.zeros((2, 10, 9, 11), bool)
        for mask in (guess, truth):
            start, stop = rng.integers(0, 4, 3), rng.integers(5, 9, 3)
            mask[tuple(slice(a, b) for a, b in zip(start, stop))] = True
            mask &= rng.random(mask.shape) < 0.9
        found = hausdorff_95(torch.from_numpy(guess), torch.from_numpy(truth), spacing)
        assert found == pytest.approx(brute_hd95(guess, truth, spacing))


def test_hd95_of_shifted_cubes_is_the_shift():
    mask = torch.zeros(12, 12, 12, dtype=torch.bool)
    mask[2:6, 2:6, 2:6] = True
    assert hausdorff_95(mask, mask) == 0
    assert hausdorff_95(mask, mask.roll(3, 0)) == 3
    assert hausdorff_95(mask, mask.roll(3, 0), spacing=2) == 6


def test_hd95_of_empty_regions():
    none, some = torch.zeros(2, 3, 4, dtype=torch.bool), torch.ones(2, 3, 4, dtype=torch.bool)
    assert hausdorff_95(none, none) == 0
    assert hausdorff_95(none, some) == hausdorff_95(some, none) == 373.13
    assert hausdorff_95(none, some, empty=9) == 9


def test_hd95_is_a_mean_over_cases_and_regions():
    target = torch.cat([line(0, 0, 2, 2, 0, 0), line(0, 1, 0, 0, 0, 3)])
    guess = torch.cat([line(0, 0, 2, 2, 0, 0), line(0, 0, 0, 1, 0, 3)])
    found = scored((as_logits(guess), target), hd95=True)
    assert float(found['HD95_ET']) == 0
    assert float(found['HD95_WT']) == pytest.approx((0 + 2 * 0.95) / 2)  # of two voxels one is 2 away
    assert float(found['HD95']) == pytest.approx(float(found['HD95_WT'] + found['HD95_TC']) / 3)
    dropped = scored((as_logits(guess), target), hd95=True, et_min=2)
    assert float(dropped['HD95_ET']) == pytest.approx(373.13 / 2)


def test_without_a_case_everything_is_nan():
    found = scored(hd95=True)
    assert set(found) == {f'{k}{r}' for k in ('Dice', 'HD95') for r in ('', '_WT', '_TC', '_ET')}
    assert all(v.isnan() for v in found.values())
    assert scored(regions=None)['Dice'].isnan()


@pytest.mark.parametrize('wrong', [-7, 4, 300])
def test_labels_that_no_class_has_are_refused(wrong):
    with pytest.raises(InputError, match=r'^1 voxels have labels that are neither'):
        scored((torch.randn(1, 4, 1, 1, 3), line(0, wrong, 255)))


@pytest.mark.parametrize('target', [torch.tensor([1, 2]), torch.zeros(2, *SIZE), [{'boxes': 1}], {'labels': 1}])
def test_a_target_that_is_no_mask_is_refused(target):
    with pytest.raises(InputError, match='MeanDice scores masks'):
        MeanDice().update(Outputs(torch.randn(2, 4, *SIZE), {}, {}), Batch({}, torch.ones(2, 1).bool(), ('a',), target))


def test_a_region_beyond_the_classes_is_refused():
    with pytest.raises(InputError, match=r'has the class 3, the prediction only 0\.\.2'):
        scored((torch.randn(1, 3, *SIZE), torch.zeros(1, *SIZE, dtype=torch.int64)))


@pytest.mark.parametrize('arguments', [{'regions': {}}, {'regions': {'a': []}}, {'regions': {'a': [-1]}}])
def test_wrong_regions_are_refused(arguments):
    with pytest.raises(InputError, match='MeanDice'):
        MeanDice(**arguments)


@pytest.mark.parametrize('spacing', [0, -1.0, 'mm', True, [1, 0, 1]])
def test_a_voxel_has_a_size(spacing):
    with pytest.raises(InputError, match='spacing of MeanDice is a size in millimetres'):
        MeanDice(hd95=True, spacing=spacing)


def test_sizes_of_a_voxel_are_as_many_as_the_axes():
    with pytest.raises(InputError, match='spacing of MeanDice has 2 sizes, the targets 3 axes'):
        scored((as_logits(line(0, 1)), line(0, 1)), hd95=True, spacing=(1, 2))


def test_wrong_arguments_are_refused():
    with pytest.raises(NameNotFound, match="regions of MeanDice named 'brat'"):
        MeanDice(regions='brat')
    for arguments in ({'et_min': -1}, {'et_min': 5, 'regions': None}, {'et_min': 5, 'regions': {'a': [1]}}):
        with pytest.raises(InputError, match='et_min is a number of voxels'):
            MeanDice(**arguments)


SCRIPT = """
from zoo import Batch, Outputs
from zoo.metrics import MeanDice

generator = torch.Generator().manual_seed(0)
logits, target = torch.randn(3, 4, 3, 5, 6, generator=generator), torch.randint(0, 4, (3, 3, 5, 6), generator=generator)
shared, lone = MeanDice(hd95=True), MeanDice(regions=None)
for i in range(rank, 3, world):
    batch = Batch({'a': torch.zeros(1, 1)}, torch.ones(1, 1, dtype=torch.bool), ('a',), target[i : i + 1])
    outputs = Outputs(logits[i : i + 1], {}, {})
    shared.update(outputs, batch)
    if i == 0:  # the other process sees nothing of this subset
        lone.update(outputs, batch)
out = [shared.compute(), shared.compute(), lone.compute(), MeanDice().compute()]
"""


def test_two_processes_get_what_one_gets_also_where_one_of_them_saw_nothing(ranks):
    alone, *both = ranks(SCRIPT)
    assert 0 < alone[0]['Dice'] < 100
    for found in both:
        torch.testing.assert_close(found, alone, rtol=1e-12, atol=0, equal_nan=True)
