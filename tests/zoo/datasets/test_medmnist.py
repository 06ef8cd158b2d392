"""MedMNIST, on tiny archives in its layout."""

import pickle
import re

import numpy as np
import pytest
import torch

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import MedMNIST

COUNTS = {'train': 7, 'val': 2, 'test': 3}
NAMES = ('path', 'derma', 'oct', 'pneumonia', 'retina', 'breast', 'blood', 'tissue', 'organa', 'organc', 'organs')


def arrays(size=28, colours=True, classes=9):
    draw = np.random.default_rng(0)
    made = {}
    for split, count in COUNTS.items():
        shape = (count, size, size, 3) if colours else (count, size, size)
        made[f'{split}_images'] = draw.integers(256, size=shape, dtype=np.uint8)
        made[f'{split}_labels'] = draw.integers(classes, size=(count, 1), dtype=np.uint8)
    return made


@pytest.fixture
def root(tmp_path):
    np.savez_compressed(tmp_path / 'pathmnist.npz', **arrays())
    np.savez(tmp_path / 'pneumoniamnist_64.npz', **arrays(64, colours=False, classes=2))
    return tmp_path


@pytest.fixture
def load(root):
    def build(**arguments):
        return DATASETS.build(
            {'type': 'MedMNIST', 'root': str(root), 'name': 'path', 'cache': str(root / 'cache'), **arguments}
        )

    return build


@pytest.mark.parametrize('split', COUNTS)
def test_samples_are_what_the_archive_holds(load, split):
    data, held = load(split=split), arrays()
    assert len(data) == COUNTS[split]
    for i, sample in enumerate(data):
        assert torch.equal(sample['inputs']['image'], torch.from_numpy(held[f'{split}_images'][i]).permute(2, 0, 1))
        assert sample['target'] == int(held[f'{split}_labels'][i, 0])
        assert sample['present'].tolist() == [True]
    assert sample['inputs']['image'].is_contiguous()
    assert sample['target'].dtype == torch.int64


def test_grey_images_are_repeated_or_stay_as_they_are(load):
    held = torch.from_numpy(arrays(64, colours=False, classes=2)['test_images'][1])
    three = load(name='PneumoniaMNIST', size=64, split='test', modality='xray')
    assert three.channels == {'xray': 3}
    assert torch.equal(three[1]['inputs']['xray'], held.expand(3, -1, -1))
    assert torch.equal(load(name='pneumonia', size=64, split='test', channels=1)[1]['inputs']['image'], held[None])
    assert three.classes == ('normal', 'pneumonia')


def test_images_are_unpacked_once_and_memory_mapped(load, root):
    first = load()
    files = list((root / 'cache').iterdir())
    assert len(files) == 1
    assert re.fullmatch(r'pathmnist_train_[0-9a-f]{8}\.npy', files[0].name)
    before = files[0].stat().st_mtime_ns
    first[0]
    assert isinstance(first._cached, np.memmap)
    again = pickle.loads(pickle.dumps(first))
    assert again._cached is None
    assert len(pickle.dumps(first)) < 5000
    assert torch.equal(again[2]['inputs']['image'], first[2]['inputs']['image'])
    load()
    assert files[0].stat().st_mtime_ns == before


def test_another_archive_of_the_same_name_is_unpacked_anew_and_a_damaged_cache_too(load, root):
    load()
    (file,) = (root / 'cache').iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    assert torch.equal(load()[6]['inputs']['image'], torch.from_numpy(arrays()['train_images'][6]).permute(2, 0, 1))
    other = arrays()
    other['train_images'] = 255 - other['train_images']
    np.savez_compressed(root / 'pathmnist.npz', **other)
    assert torch.equal(load()[6]['inputs']['image'], torch.from_numpy(other['train_images'][6]).permute(2, 0, 1))


def test_labels_are_counted_without_images(load):
    pixels, _ = load().label_counts()
    assert pixels.tolist() == np.bincount(arrays()['train_labels'][:, 0], minlength=9).tolist()


@pytest.mark.parametrize('name', NAMES)
def test_all_sets_with_one_label_are_known(tmp_path, name):
    np.savez(tmp_path / f'{name}mnist.npz', **arrays(colours=False, classes=2))
    data = MedMNIST(tmp_path, name, cache=tmp_path)
    assert len(data.classes) == dict(path=9, derma=7, oct=4, pneumonia=2, retina=5, breast=2, blood=8, tissue=8).get(
        name, 11
    )


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(name='chest'), InputError, 'chest has several labels an image'),
        (dict(name='pneumoni'), NameNotFound, "No set of MedMNIST named 'pneumoni'. Did you mean 'pneumonia'"),
        (dict(split='valid'), NameNotFound, "No split of MedMNIST named 'valid'"),
        (dict(size=32), InputError, 'size is 28, 64, 128, 224, got 32'),
        (dict(size=128), InputError, r'pathmnist_128\.npz: no such file. There are pathmnist\.npz: another size\?'),
        (dict(name='blood'), InputError, r'bloodmnist\.npz: no such file. The archives are at'),
        (dict(channels=1), InputError, 'images have three channels, give MedMNIST channels=3'),
        (dict(channels=2), InputError, 'channels is 1 or 3, got 2'),
        (dict(modality=''), InputError, "modality is a name, got ''"),
    ],
)
def test_a_wrong_argument_is_refused(load, arguments, error, message):
    with pytest.raises(error, match=message):
        load(**arguments)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(train_images=None), r"no array 'train_images'.* It holds: train_labels, val_images"),
        (dict(train_labels=None), "no array 'train_labels'"),
        (dict(train_labels=np.full((7, 1), 9)), r'train_labels\[0\] is 9, out of range: expected 0\.\.8'),
        (dict(train_labels=np.zeros((7, 14), int)), r'train_labels is int64 \(7, 14\), expected integers \(N, 1\)'),
        (dict(train_labels=np.zeros((6, 1), int)), 'there are 7 train_images and 6 labels'),
        (dict(train_images=np.zeros((7, 64, 64), np.uint8)), r'train_images is uint8 .* expected uint8 \(N, 28, 28'),
        (dict(train_images=np.zeros((7, 28, 28))), 'train_images is float64'),
        (dict(train_images=np.array([None] * 7)), 'objects'),
    ],
)
def test_an_archive_of_another_form_is_named(load, root, changes, message):
    held = {k: v for k, v in {**arrays(), **changes}.items() if v is not None}
    np.savez_compressed(root / 'pathmnist.npz', **held)
    with pytest.raises(InputError, match=rf'pathmnist\.npz: .*{message}') as error:
        load()
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'spoil', [lambda b: b[:500], lambda b: b'no archive', lambda b: b[:9000] + b'x' * 50 + b[9050:]]
)
def test_a_damaged_archive_is_named_and_leaves_no_cache(load, root, spoil):
    file = root / 'pathmnist.npz'
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(InputError, match=r'pathmnist\.npz: can not be read .*fetch it again'):
        load()
    assert not list((root / 'cache').glob('*'))


def test_a_users_file_is_read_whatever_the_data_set_calls_it(tmp_path):
    from PIL import Image

    Image.fromarray(np.full((5, 7), 9, np.uint8)).save(tmp_path / 'a.png')
    assert MedMNIST.read_input('xray', tmp_path / 'a.png', name='path', modality='xray').shape == (3, 5, 7)
    assert MedMNIST.read_input('xray', tmp_path / 'a.png', channels=1).shape == (1, 5, 7)
    with pytest.raises(InputError, match=r'b\.png: no such file'):
        MedMNIST.read_input('xray', tmp_path / 'b.png')
