"""A data set in all views of each sample."""

import numpy as np
import pytest
import torch
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import AllViews
from zoo.datasets.transforms import VIEWS, RandomView
from zoo.engine.data import build_dataloader


@pytest.fixture
def inner(tmp_path):
    draw = np.random.default_rng(0)
    for name in ('a', 'b'):
        for i in range(3):
            file = tmp_path / name / f'{i}.png'
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(draw.integers(256, size=(12, 20, 3), dtype=np.uint8)).save(file)
    return dict(type='ImageFolders', root=str(tmp_path), split='all')


def test_sample_i_is_the_view_i_modulo_four(inner):
    data, plain = DATASETS.build(dict(type='AllViews', dataset=inner)), DATASETS.build(inner)
    assert len(data) == 24
    for i, sample in enumerate(data):
        expected = RandomView(VIEWS[i % 4])(plain[i // 4])
        assert torch.equal(sample['inputs']['image'], expected['inputs']['image'])
        assert sample['target'] == expected['target'] == data.load_target(i)
        assert data.source(i) == plain.source(i // 4)
    assert (data.classes, data.num_classes, data.channels) == (('a', 'b'), 2, {'image': 3})
    assert data.label_counts()[0].tolist() == [12, 12]


def test_the_sets_own_transforms_come_first_and_others_last(inner):
    inner = {**inner, 'transforms': [dict(type='Resize', size=(30, 40))]}
    data = AllViews(inner, views=['shifted'], shift=(4, 2), transforms=[dict(type='Resize', size=(60, 80))])
    assert len(data) == 6
    x = data[0]['inputs']['image']
    assert x.shape == (3, 60, 80)
    assert not x[:, :3].any()
    assert not x[:, :, :7].any()
    assert x[:, 3:, 7:].any()


def test_batches_are_the_same_with_and_without_shuffling_seeds(inner):
    loader = dict(dataset=dict(type='AllViews', dataset=inner), batch_size=24, shuffle=False)
    first, second = (next(iter(build_dataloader(loader, True, seed=s))) for s in (0, 1))
    assert torch.equal(first['inputs']['image'], second['inputs']['image'])
    assert first['target'].tolist() == [0] * 12 + [1] * 12


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(views=['flipped']), NameNotFound, "No view of RandomView named 'flipped'"),
        (dict(views=[]), InputError, 'at least one of'),
        (dict(nearest='depth'), NameNotFound, "No modality of AllViews .*'depth'"),
        (dict(dataset=dict(type='BrainPhantoms', count=2, size=16)), InputError, 'BrainPhantoms is none'),
    ],
)
def test_a_wrong_argument_is_refused(inner, arguments, error, message):
    with pytest.raises(error, match=message):
        DATASETS.build({'type': 'AllViews', 'dataset': inner, **arguments})
