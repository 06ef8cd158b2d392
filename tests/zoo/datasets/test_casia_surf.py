"""CASIA-SURF, on tiny files in its layout."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import CASIASURF

SENSORS = {'rgb': 'color', 'depth': 'depth', 'ir': 'ir'}
COLOURS = {'rgb': (200, 100, 20), 'depth': (60, 60, 60), 'ir': (150, 150, 150)}
LISTS = {'train': 'train_list.txt', 'val': 'val_private_list.txt', 'test': 'test_private_list.txt'}


@pytest.fixture
def root(tmp_path):
    """Two real faces and one attack in each split; PNG, so that colours survive, of slightly different sizes."""
    for split, name in LISTS.items():
        lines = []
        for i in range(3):
            paths = []
            for j, (modality, folder) in enumerate(SENSORS.items()):
                path = tmp_path / split / 'CLKJ_AS0137' / folder / f'{i}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new('RGB', (30 + j, 40 - j), COLOURS[modality]).save(path)
                paths.append(path.relative_to(tmp_path).as_posix())
            lines.append(' '.join([*paths, str(int(i < 2))]))
        (tmp_path / name).write_text('\n'.join(lines) + '\n')
    return tmp_path


def replace_line(root, number, text, name='train_list.txt'):
    lines = (root / name).read_text().splitlines()
    lines[number - 1] = text
    (root / name).write_text('\n'.join(lines))


@pytest.mark.parametrize('split', LISTS)
@pytest.mark.parametrize('size', [32, (24, 40)])
def test_samples_have_the_promised_types_and_sizes(root, split, size):
    data = DATASETS.build(dict(type='CASIASURF', root=str(root), split=split, size=size))
    h, w = (size, size) if isinstance(size, int) else size
    assert len(data) == 3
    for sample, label in zip(data, (1, 1, 0), strict=True):
        assert list(sample['inputs']) == ['rgb', 'depth', 'ir']
        assert {(x.dtype, tuple(x.shape)) for x in sample['inputs'].values()} == {(torch.uint8, (3, h, w))}
        assert sample['present'].tolist() == [True, True, True]
        assert sample['target'].dtype == torch.int64
        assert sample['target'] == label
    assert data.classes == ('attack', 'real')
    assert data.channels == {'rgb': 3, 'depth': 3, 'ir': 3}


def test_the_files_of_a_sample_are_told(root):
    files = CASIASURF(root, 'val', modalities='ir')[1]['info']['files']
    assert files == {'ir': str(root / 'val' / 'CLKJ_AS0137' / 'ir' / '1.png')}


@pytest.mark.parametrize(('order', 'expected'), [('bgr', [20, 100, 200]), ('rgb', [200, 100, 20])])
def test_channels_come_in_the_order_asked_for(root, order, expected):
    sample = CASIASURF(root, 'test', channel_order=order)[0]
    assert sample['inputs']['rgb'][:, 5, 5].tolist() == expected
    assert sample['inputs']['depth'][:, 5, 5].tolist() == [60, 60, 60]


def test_columns_follow_the_names_and_not_the_list(root):
    data = CASIASURF(root, 'test', modalities=['ir', 'rgb'], size=16)
    sample = data[0]
    assert data.modalities == ('ir', 'rgb')
    assert sample['inputs']['ir'].unique().tolist() == [150]
    assert sample['inputs']['rgb'][2].unique().tolist() == [200]


def test_training_rotates_and_crops_and_testing_does_not(root):
    train, test = CASIASURF(root, 'train', size=112), CASIASURF(root, 'test', size=112)
    assert [type(t).__name__ for t in train.transforms] == ['Resize', 'RandomRotation', 'RandomCrop', 'RandomFlip']
    assert train.transforms[0].size == (144, 144)
    assert (train.transforms[1].degrees, train.transforms[1].canvas) == (30, 0.8)
    assert train.transforms[2].size == (112, 112)
    assert [type(t).__name__ for t in test.transforms] == ['Resize']
    assert len(CASIASURF(root, 'train', augment=False).transforms) == 1
    assert len(CASIASURF(root, 'test', augment=True).transforms) == 4


@pytest.mark.parametrize('size', [8, 17, 64, 112, (40, 96)])
def test_the_crop_of_training_fits_at_every_angle(root, size):
    data = CASIASURF(root, 'train', modalities='ir', size=size)
    for _ in range(30):
        data[0]


def test_the_global_seed_decides_a_training_sample(root):
    data = CASIASURF(root, 'train', size=24)

    def draw(seed):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return data[0]['inputs']['ir']

    assert torch.equal(draw(3), draw(3))
    assert any(not torch.equal(draw(3), draw(s)) for s in range(4, 9))


def test_users_transforms_come_after_the_geometry(root):
    seen = []

    def look(sample):
        seen.append(tuple(sample['inputs']['rgb'].shape))
        return sample

    CASIASURF(root, 'train', size=20, transforms=[look])[0]
    assert seen == [(3, 20, 20)]


def test_empty_lines_and_tabs_are_fine(root):
    text = (root / 'train_list.txt').read_text()
    (root / 'train_list.txt').write_text('\n' + text.replace(' ', '\t') + '\n\n')
    data = CASIASURF(root)
    assert len(data) == 3
    assert data.source(0).endswith('train_list.txt:2')


def test_a_missing_folder_says_where_to_get_the_data(tmp_path):
    with pytest.raises(InputError, match=r'no folder .*nowhere.*https://'):
        CASIASURF(tmp_path / 'nowhere')


def test_a_missing_list_is_named(root):
    (root / 'val_private_list.txt').unlink()
    with pytest.raises(InputError, match=r'no list .*val_private_list\.txt; expected train_list\.txt'):
        CASIASURF(root, 'val')


def test_an_empty_list_is_refused(root):
    (root / 'train_list.txt').write_text('\n\n')
    with pytest.raises(InputError, match=r'train_list\.txt: the list is empty'):
        CASIASURF(root)


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('a.png b.png 1', r'train_list\.txt:2: expected "rgb_path depth_path ir_path label", got \'a\.png b\.png 1\''),
        ('a.png b.png c.png d.png 1', r'train_list\.txt:2: expected'),
        ('a.png b.png c.png 2', r"train_list\.txt:2: the label is 0 \(attack\) or 1 \(real\), got '2'"),
        ('a.png b.png c.png real', r"train_list\.txt:2: the label .* got 'real'"),
    ],
)
def test_a_malformed_line_is_named(root, line, message):
    replace_line(root, 2, line)
    with pytest.raises(InputError, match=message):
        CASIASURF(root)


def test_a_missing_file_is_named_with_the_line_that_asks_for_it(root):
    (root / 'train' / 'CLKJ_AS0137' / 'ir' / '1.png').unlink()
    data = CASIASURF(root)
    assert data[0]['present'].all()
    with pytest.raises(InputError, match=r'ir.1\.png: no such file, named at .*train_list\.txt:2.*allow_missing'):
        data[1]


def test_a_missing_file_is_an_absent_modality_where_that_is_allowed(root):
    (root / 'train' / 'CLKJ_AS0137' / 'depth' / '1.png').unlink()
    sample = CASIASURF(root, allow_missing=True, size=16)[1]
    assert sample['present'].tolist() == [True, False, True]
    assert list(sample['inputs']) == ['rgb', 'ir']


def test_a_sample_with_no_file_left_is_refused_even_then(root):
    for folder in SENSORS.values():
        (root / 'train' / 'CLKJ_AS0137' / folder / '1.png').unlink()
    with pytest.raises(InputError, match=r'train_list\.txt:2: no modality left, none of these exists: .*1\.png'):
        CASIASURF(root, allow_missing=True)[1]


def write_text(path):
    path.write_text('no image')


def cut_off(path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])


def make_empty(path):
    path.write_bytes(b'')


@pytest.mark.parametrize('spoil', [write_text, cut_off, make_empty])
@pytest.mark.parametrize('allow_missing', [False, True])
def test_an_unreadable_image_is_named_whether_or_not_files_may_miss(root, spoil, allow_missing):
    spoil(root / 'train' / 'CLKJ_AS0137' / 'depth' / '0.png')
    with pytest.raises(InputError, match=r'depth.0\.png: can not be read as an image') as error:
        CASIASURF(root, allow_missing=allow_missing)[0]
    assert '\n' not in str(error.value)


def test_a_file_is_read_without_the_data_set(root):
    file = root / 'train' / 'CLKJ_AS0137' / 'color' / '0.png'
    assert CASIASURF.read_input('rgb', file)[:, 5, 5].tolist() == [20, 100, 200]
    assert CASIASURF.read_input('rgb', file, channel_order='rgb', size=112)[:, 5, 5].tolist() == [200, 100, 20]


def test_labels_are_counted_without_reading_images(root):
    for file in (root / 'train').rglob('*.png'):
        file.unlink()
    pixels, of_images = CASIASURF(root).label_counts()
    assert pixels.tolist() == of_images.tolist() == [1, 2]


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(split='valid'), NameNotFound, "No split of CASIASURF named 'valid'. Did you mean 'val'"),
        (dict(modalities=['rgb', 'nir']), NameNotFound, "No modality of CASIASURF named 'nir'"),
        (dict(size=0), InputError, 'A size is an integer'),
        (dict(channel_order='grb'), InputError, "channel_order is 'bgr' or 'rgb', got 'grb'"),
        (dict(folder='x'), InputError, "no argument 'folder'"),
    ],
)
def test_a_wrong_argument_is_refused(root, arguments, error, message):
    with pytest.raises(error, match=message):
        DATASETS.build(dict(type='CASIASURF', root=str(root), **arguments))
