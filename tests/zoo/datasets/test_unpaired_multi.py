"""Unpaired sets as one set of several modalities and tasks."""

import pickle
from collections import Counter
from typing import ClassVar

import pytest
import torch
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.batch import Batch
from zoo.datasets import UNLABELLED, MultimodalDataset, UnpairedMulti
from zoo.engine.data import build_dataloader

CELLS, SKIN = 6, 20  # images; cells have 3 classes, skin 2


@pytest.fixture
def sets(tmp_path):
    """Image i of cells is of colour i, of skin 100 + i."""
    for name, count, classes, first in (('cells', CELLS, 3, 0), ('skin', SKIN, 2, 100)):
        for i in range(count):
            file = tmp_path / name / f'c{i % classes}' / f'{i:02d}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new('L', (7, 5) if name == 'cells' else (9, 6), first + i).save(file)
    common = dict(type='ImageFolders', split='all')
    return dict(
        cells=dict(**common, root=str(tmp_path / 'cells')),
        skin=dict(**common, root=str(tmp_path / 'skin'), modality='photo', channels=1),
    )


class Pairs(MultimodalDataset):
    """Two modalities and no names of classes."""

    all_modalities = ('rgb', 'depth')
    all_channels: ClassVar = {'rgb': 3, 'depth': 1}

    def __len__(self):
        return 1


RESIZE = dict(type='Resize', size=(4, 8))


def load(sets, **arguments):
    return DATASETS.build({'type': 'UnpairedMulti', 'datasets': sets, 'transforms': [RESIZE], **arguments})


def pairs(data):
    """(cells, skin) of each sample, by colour; None where absent."""
    found = []
    for s in data:
        ids = [
            int(s['inputs'][m][0, 0, 0]) - base if here else None
            for (m, base), here in zip((('cells', 0), ('skin', 100)), s['present'].tolist())
        ]
        found.append(tuple(ids))
    return found


def test_a_sample_has_an_image_and_a_label_of_each_set(sets):
    data = load(sets)
    assert (data.modalities, data.channels) == (('cells', 'skin'), {'cells': 3, 'skin': 1})
    assert data.classes == {'cells': ('c0', 'c1', 'c2'), 'skin': ('c0', 'c1')}
    assert data.num_classes == {'cells': 3, 'skin': 2}
    for sample, (cell, skin) in zip(data, pairs(data), strict=True):
        assert {m: tuple(x.shape) for m, x in sample['inputs'].items()} == {'cells': (3, 4, 8), 'skin': (1, 4, 8)}
        assert {t: int(x) for t, x in sample['target'].items()} == {'cells': cell % 3, 'skin': skin % 2}
        assert {x.dtype for x in sample['target'].values()} == {torch.int64}
        assert sample['present'].tolist() == [True, True]
        assert sample['info']['cells']['files']['image'].endswith(f'{cell:02d}.png')


def test_min_uses_each_sample_of_the_smallest_set_once(sets):
    cells, skin = zip(*pairs(load(sets)))
    assert sorted(cells) == list(range(CELLS))
    assert len(set(skin)) == CELLS


def test_max_uses_each_sample_of_the_largest_set_once_and_repeats_the_others_evenly(sets):
    cells, skin = zip(*pairs(load(sets, mode='max')))
    assert sorted(skin) == list(range(SKIN))
    assert sorted(Counter(cells).values()) == [3, 3, 3, 3, 4, 4]


def test_sum_pairs_nothing(sets):
    data = load(sets, mode='sum')
    cells, skin = (0, 3, 1, 4, 2, 5), (*range(0, SKIN, 2), *range(1, SKIN, 2))  # sorted by class
    assert pairs(data) == [(i, None) for i in cells] + [(None, i) for i in skin]
    assert {t: int(x) for t, x in data[1]['target'].items()} == {'cells': 0, 'skin': UNLABELLED}
    assert {t: int(x) for t, x in data[25]['target'].items()} == {'cells': UNLABELLED, 'skin': 1}
    assert torch.equal(data.presence(), torch.stack([s['present'] for s in data]))
    assert data.source(25).endswith('19.png')


@pytest.mark.parametrize('mode', ['min', 'max'])
def test_another_pairing_pairs_the_same_samples_differently(sets, mode):
    first, second = pairs(load(sets, mode=mode)), pairs(load(sets, mode=mode, pairing=1))
    assert first != second
    for a, b in zip(zip(*first), zip(*second)):
        assert sorted(a) == sorted(b)
    assert pairs(load(sets, mode=mode)) == first


def test_the_seed_chooses_which_samples_are_drawn(sets):
    drawn = [sorted(skin for _, skin in pairs(load(sets, seed=s))) for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_pairs_never_change(sets):
    assert pairs(load(sets)) == [
        (0, 3),
        (3, 14),
        (1, 6),
        (4, 17),
        (2, 10),
        (5, 15),
    ]  # a change would mix up users' test sets


def test_pairs_are_new_in_each_epoch_only_on_demand(sets):
    data, fixed = load(sets, repair=True), load(sets)
    first, again = pairs(data), pairs(fixed)
    data.epoch = fixed.epoch = 1
    assert pairs(data) != first
    assert pairs(fixed) == again
    data.epoch = 0
    assert pairs(pickle.loads(pickle.dumps(data))) == pairs(data) == first


@pytest.mark.parametrize('mode', ['min', 'sum'])
def test_batches_keep_one_label_for_each_task(sets, mode):
    data = dict(type='UnpairedMulti', datasets=sets, mode=mode, transforms=[RESIZE])
    sizes = {'cells': 3, 'skin': 2}
    found = next(iter(build_dataloader(dict(dataset=data, batch_size=26), True, num_classes=sizes)))
    count = CELLS if mode == 'min' else CELLS + SKIN
    assert {t: (tuple(x.shape), x.dtype) for t, x in found['target'].items()} == dict.fromkeys(
        sizes, ((count,), torch.int64)
    )
    batch = Batch(found['inputs'], found['present'], found['modalities'], found['target'], info=found['info'])
    labelled = batch.select(batch.target['cells'] != UNLABELLED)
    assert len(labelled) == CELLS
    assert labelled.present[:, 0].all()
    twice = labelled.repeat(2)
    assert torch.equal(twice.target['cells'], labelled.target['cells'].repeat(2))
    assert torch.equal(twice.target['skin'], labelled.target['skin'].repeat(2))


def test_a_set_of_any_number_of_sets(sets):
    assert pairs(load({'skin': sets['skin'], 'cells': sets['cells'], 'more': sets['cells']}))
    alone = load({'skin': sets['skin']})
    assert len(alone) == SKIN
    assert {t: int(x) for t, x in alone[0]['target'].items()} == {'skin': 0}


def test_files_are_read_as_the_set_of_their_name_reads_them(sets, tmp_path):
    file = tmp_path / 'skin' / 'c0' / '00.png'
    assert UnpairedMulti.read_input('skin', file, datasets=sets).shape == (1, 6, 9)
    assert UnpairedMulti.read_input('cells', file, datasets=sets, mode='max').shape == (3, 6, 9)
    with pytest.raises(NameNotFound, match='hair'):
        UnpairedMulti.read_input('hair', file, datasets=sets)


def test_unreadable_images_of_all_sets_are_found_before_training(sets, tmp_path):
    data = load(sets)
    data.check_annotations()
    (tmp_path / 'skin' / 'c1' / '05.png').write_text('no image')
    with pytest.raises(InputError, match=r'skin.c1.05\.png: can not be read'):
        data.check_annotations()


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(mode='mean'), NameNotFound, "No mode of UnpairedMulti named 'mean'"),
        (dict(datasets={}), InputError, r'datasets is dict\(name=dict\(type=...\), ...\), got \{\}'),
        (dict(datasets=[1]), InputError, r'got \[1\]'),
        (dict(datasets=dict(a=Pairs())), InputError, r'a \(Pairs\) has the modalities rgb, depth, choose one of them'),
        (dict(datasets=dict(a=Pairs('rgb'))), InputError, r'a \(Pairs\) is no set of one label with named classes'),
        (dict(datasets=dict(boxes=1)), InputError, "'boxes' can not be the name of a task"),
    ],
)
def test_a_wrong_argument_is_refused(sets, arguments, error, message):
    with pytest.raises(error, match=message):
        DATASETS.build({'type': 'UnpairedMulti', 'datasets': sets, **arguments})


def test_sets_of_masks_are_refused_with_the_file(sets, tmp_path):
    for folder in ('images', 'masks'):
        (tmp_path / 'seg' / folder).mkdir(parents=True)
        Image.new('L', (9, 6)).save(tmp_path / 'seg' / folder / '1.png')
    masks = dict(type='ImageMasks', root=str(tmp_path / 'seg'), split='all')
    with pytest.warns(UserWarning, match='published are 1000'):
        data = load({'seg': masks})
    with pytest.raises(InputError, match=r'1\.png: UnpairedMulti takes one label a sample'):
        data[0]
