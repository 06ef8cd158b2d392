"""NYUv2 and SUN RGB-D, on tiny files in their layout."""

import random
import zlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import IGNORE, SUNRGBD, NYUv2
from zoo.datasets.rgbd_folder import choose_names, spaced
from zoo.engine import build_dataloader

SIZE = (24, 32)
NAMES = {'train': ['0003', '0004', '0005', '0011'], 'test': ['0001', '0002']}


def pictures(name, height, width):
    """Colour, depth, raw depth and labels of one scene, with every label and void in each."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    depth = rng.integers(500, 9000, (height, width), dtype=np.uint16)
    labels = rng.permutation(np.arange(height * width) % 38).reshape(height, width).astype(np.uint8)
    return {
        'rgb': rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        'depth': depth,
        'depth_raw': np.where(rng.random((height, width)) < 0.3, 0, depth).astype(np.uint16),
        'labels_40': labels,
        'labels_37': labels,
        'labels_13': np.minimum(labels, 13),
    }


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path):
    for split, names in NAMES.items():
        for name in names:
            for folder, array in pictures(name, *SIZE).items():
                save(tmp_path / split / folder / f'{name}.png', array)
        (tmp_path / f'{split}.txt').write_text('\n'.join(names) + '\n')
    return tmp_path


@pytest.mark.parametrize(('cls', 'classes'), [(NYUv2, 40), (SUNRGBD, 37)])
@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('size', [16, (16, 24), (40, 56)])
def test_samples_have_the_promised_types_and_sizes(root, cls, classes, split, size):
    data = DATASETS.build(dict(type=cls.__name__, root=str(root), split=split, size=size))
    h, w = (size, size) if isinstance(size, int) else size
    assert len(data) == len(NAMES[split])
    assert data.num_classes == classes
    for sample in data:
        assert list(sample['inputs']) == ['rgb', 'depth']
        rgb, depth = sample['inputs'].values()
        assert (rgb.dtype, tuple(rgb.shape)) == (torch.uint8, (3, h, w))
        assert (depth.dtype, tuple(depth.shape)) == (torch.float32, (1, h, w))
        assert rgb.is_contiguous()
        assert sample['present'].tolist() == [True, True]
        assert sample['target'].dtype == torch.int64
        assert tuple(sample['target'].shape) == ((h, w) if split == 'train' else SIZE)


def test_names_of_the_classes_are_those_of_the_papers():
    assert len(set(NYUv2.label_sets[40])) == 40
    assert [NYUv2.label_sets[40][i] for i in (0, 9, 19, 23, 30, 36, 39)] == [
        'wall',
        'bookshelf',
        'floor mat',
        'refridgerator',
        'person',
        'bag',
        'otherprop',
    ]
    assert len(set(NYUv2.label_sets[13])) == 13
    assert SUNRGBD.label_sets == {37: NYUv2.label_sets[40][:37]}


def test_a_test_sample_of_full_size_is_what_the_files_hold(root):
    data = NYUv2(root, 'test', size=SIZE)
    truth = pictures('0002', *SIZE)
    sample = data[1]
    assert torch.equal(sample['inputs']['rgb'].permute(1, 2, 0), torch.from_numpy(truth['rgb']))
    assert torch.equal(sample['inputs']['depth'][0], torch.from_numpy(truth['depth'].astype(np.float32)))
    labels = truth['labels_40'].astype(np.int64)
    assert torch.equal(sample['target'], torch.from_numpy(np.where(labels == 0, IGNORE, labels - 1)))
    assert sample['info']['mask_size'] == SIZE


def test_files_are_told(root):
    data = NYUv2(root, 'test', modalities=['depth', 'rgb'], depth_mode='raw', num_classes=13)
    folder = root / 'test'
    assert data[0]['info']['files'] == {
        'depth': str(folder / 'depth_raw' / '0001.png'),
        'rgb': str(folder / 'rgb' / '0001.png'),
    }
    assert data[0]['info']['labels'] == str(folder / 'labels_13' / '0001.png')
    assert data.source(1) == str(folder / '{depth_raw,rgb,labels_13}' / '0002.png')


def test_other_depth_labels_and_modalities_are_read_where_asked(root):
    data = NYUv2(root, 'test', modalities='depth', depth_mode='raw', num_classes=13, size=SIZE)
    truth = pictures('0001', *SIZE)
    sample = data[0]
    assert data.channels == {'depth': 1}
    assert torch.equal(sample['inputs']['depth'][0], torch.from_numpy(truth['depth_raw'].astype(np.float32)))
    assert data.classes == NYUv2.label_sets[13]
    assert (sample['target'][sample['target'] != IGNORE] + 1).unique().tolist() == list(range(1, 14))


def test_the_pipelines_are_those_of_the_paper(root):
    train, test = NYUv2(root), NYUv2(root, 'test')
    assert [type(t).__name__ for t in train.transforms] == ['RandomResize', 'RandomCrop', 'RandomHSV', 'RandomFlip']
    resize, crop, hsv, flip = train.transforms
    assert resize.scale == (1.0, 1.4)
    assert (crop.size, crop.resize_smaller) == ((480, 640), True)
    assert hsv.limits == [(0.9, 1.1)] * 3
    assert flip.p == 0.5
    assert resize.nearest == crop.nearest == ('depth',)
    assert [type(t).__name__ for t in test.transforms] == ['Resize']
    assert (test.transforms[0].inputs_only, test.transforms[0].nearest) == (True, ('depth',))
    assert len(NYUv2(root, augment=False).transforms) == 1
    assert len(NYUv2(root, 'test', augment=True).transforms) == 4


def test_geometry_is_shared_and_depth_and_labels_are_never_mixed(root):
    """Depth and labels that are functions of one another stay so, and colours stay near both."""
    steps = (np.arange(24 * 32).reshape(24, 32) // 100).astype(np.uint8)  # 0..7, in bands of three rows
    for name in NAMES['train']:
        save(root / 'train' / 'labels_40' / f'{name}.png', steps)
        save(root / 'train' / 'depth' / f'{name}.png', steps.astype(np.uint16) * 1000)
        save(root / 'train' / 'rgb' / f'{name}.png', np.repeat(steps[..., None] * 30, 3, 2))
    data = NYUv2(root, size=(20, 26))
    for _ in range(5):
        for sample in data:
            labels = torch.where(sample['target'] == IGNORE, -1, sample['target']) + 1
            assert torch.equal(sample['inputs']['depth'][0], labels * 1000.0)
            rgb = sample['inputs']['rgb'].float().mean(0) / 30
            assert ((rgb - labels).abs() < 0.45 + 0.1 * labels).float().mean() > 0.8


def test_colours_change_in_training_only(root):
    grey = np.full((*SIZE, 3), 100, np.uint8)
    for split in NAMES:
        for name in NAMES[split]:
            save(root / split / 'rgb' / f'{name}.png', grey)
    values = {int(NYUv2(root, size=SIZE)[0]['inputs']['rgb'][0, 0, 0]) for _ in range(20)}
    assert len(values) > 5
    assert min(values) >= 90
    assert max(values) <= 110
    assert NYUv2(root, 'test', size=SIZE)[0]['inputs']['rgb'].unique().tolist() == [100]


def test_the_global_seed_decides_a_training_sample(root):
    data = NYUv2(root, size=(16, 20))

    def draw(seed):
        random.seed(seed + 7)
        np.random.seed(seed + 7)
        torch.manual_seed(seed)
        return data[0]

    first, again, other = draw(3), draw(3), draw(4)
    assert torch.equal(first['inputs']['rgb'], again['inputs']['rgb'])
    assert torch.equal(first['target'], again['target'])
    assert not torch.equal(first['inputs']['rgb'], other['inputs']['rgb'])


def test_batches_stack_whatever_the_sizes_of_the_images(root):
    for folder, array in pictures('0011', 18, 40).items():
        save(root / 'train' / folder / '0011.png', array)
    loader = build_dataloader(dict(dataset=SUNRGBD(root, size=(20, 26)), batch_size=4), training=True)
    batch = next(iter(loader))
    assert batch['inputs']['rgb'].shape == (4, 3, 20, 26)
    assert batch['inputs']['rgb'].is_contiguous()
    assert batch['target'].shape == (4, 20, 26)
    dataset = SUNRGBD(root, augment=False, size=(20, 26))
    batch = next(iter(build_dataloader(dict(dataset=dataset, batch_size=4), training=False)))
    assert [tuple(t.shape) for t in batch['target']] == [SIZE, SIZE, SIZE, (18, 40)]


def test_users_transforms_come_last(root):
    seen = []

    def look(sample):
        seen.append(tuple(sample['inputs']['rgb'].shape))
        return sample

    NYUv2(root, size=20, transforms=[look])[0]
    assert seen == [(3, 20, 20)]


# ---- labels


def test_label_counts_read_labels_only_and_are_those_of_numpy(root):
    for folder in ('rgb', 'depth'):
        for file in (root / 'train' / folder).iterdir():
            file.unlink()
    save(root / 'train' / 'labels_40' / '0003.png', np.full((10, 12), 40, np.uint8))
    pixels, of_images = NYUv2(root).label_counts()
    rest = [pictures(name, *SIZE)['labels_40'] for name in NAMES['train'][1:]]
    for c in range(39):
        assert pixels[c] == sum((x == c + 1).sum() for x in rest)
        assert of_images[c] == sum(x.size * (x == c + 1).any() for x in rest)
    assert (pixels[39], of_images[39]) == (120, 120)


# ---- splits


def test_a_validation_split_is_taken_from_the_training_list(root):
    names = [f'{i:04d}' for i in range(100)]
    (root / 'train.txt').write_text('\n'.join(names))
    train, val = NYUv2(root, val_fraction=0.1), NYUv2(root, 'val', val_fraction=0.1)
    assert val.names == names[5::10]
    assert sorted(train.names + val.names) == names
    assert val.folder == root / 'train'
    assert [type(t).__name__ for t in val.transforms] == ['Resize']
    assert NYUv2(root, 'test', val_fraction=0.1).names == NAMES['test']
    assert NYUv2(root).names == names


@pytest.mark.parametrize(('count', 'number'), [(795, 80), (7, 3), (10, 9), (5, 1), (4, 0)])
def test_spaced_indices_are_distinct_and_evenly_apart(count, number):
    found = spaced(count, number)
    assert len(set(found)) == number
    assert all(0 <= i < count for i in found)
    gaps = {b - a for a, b in pairwise(found)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ('split', 'fraction', 'message'),
    [
        ('val', 0, r'list: there is no validation split; val_fraction=0\.1 takes one'),
        ('val', 0.1, r"list: val_fraction=0\.1 of 4 leaves the split 'val' empty"),
        ('train', 0.9, r"list: val_fraction=0\.9 of 4 leaves the split 'train' empty"),
        ('train', 1, 'val_fraction is a share 0 <= share < 1 of the training list, got 1'),
        ('train', -0.1, r'val_fraction is a share .* got -0\.1'),
        ('test', '0.1', r"val_fraction is a share .* got '0\.1'"),
    ],
)
def test_a_share_that_makes_no_split_is_refused(split, fraction, message):
    with pytest.raises(InputError, match=message):
        choose_names(['a', 'b', 'c', 'd'], split, fraction, 'list')


def test_empty_lines_and_carriage_returns_are_fine(root):
    (root / 'train.txt').write_bytes(b'\r\n0003\r\n\r\n 0004 \r\n')
    assert NYUv2(root).names == ['0003', '0004']
    NYUv2(root, size=16)[1]


def test_a_list_may_begin_with_a_byte_order_mark(root):
    (root / 'train.txt').write_bytes(b'\xef\xbb\xbf0003\n0004\n')
    assert NYUv2(root).names == ['0003', '0004']


def test_raw_depth_says_which_value_is_no_measurement(root):
    assert NYUv2(root, depth_mode='raw').invalid == {'depth': 0}
    assert NYUv2(root, depth_mode='raw', modalities=['rgb']).invalid == {}
    assert NYUv2(root).invalid == {}
    assert NYUv2.input_folders(depth_mode='raw') == {'rgb': 'rgb', 'depth': 'depth_raw'}
    assert NYUv2.input_folders()['depth'] == 'depth'


# ---- bad data


@pytest.mark.parametrize(
    ('cls', 'message'), [(NYUv2, r'NYUv2: no folder .*nowhere.*prepare_nyuv2'), (SUNRGBD, 'SUNRGBD: no folder .*https')]
)
def test_a_missing_folder_says_where_the_data_are(tmp_path, cls, message):
    with pytest.raises(InputError, match=message):
        cls(tmp_path / 'nowhere')


def test_a_missing_list_is_named(root):
    (root / 'test.txt').unlink()
    with pytest.raises(InputError, match=r'no list .*test\.txt; expected train\.txt and test\.txt'):
        NYUv2(root, 'test')


def test_an_empty_list_is_refused(root):
    (root / 'train.txt').write_text('\n \n')
    with pytest.raises(InputError, match=r'train\.txt: the list is empty'):
        NYUv2(root)


@pytest.mark.parametrize('folder', ['rgb', 'depth', 'labels_40'])
@pytest.mark.parametrize('allow_missing', [False, True])
def test_a_missing_folder_is_named_whether_or_not_files_may_miss(root, folder, allow_missing):
    (root / 'train' / folder).rename(root / 'elsewhere')
    with pytest.raises(InputError, match=f'NYUv2: no folder .*train.{folder}'):
        NYUv2(root, allow_missing=allow_missing)


@pytest.mark.parametrize('folder', ['rgb', 'depth', 'labels_40'])
def test_a_missing_file_is_named_with_its_list(root, folder):
    (root / 'train' / folder / '0004.png').unlink()
    data = NYUv2(root, size=16)
    data[0]
    with pytest.raises(InputError, match=rf'{folder}.0004\.png: no such file, named in .*train\.txt'):
        data[1]


def test_a_missing_input_is_an_absent_modality_where_that_is_allowed(root):
    (root / 'train' / 'rgb' / '0004.png').unlink()
    data = NYUv2(root, size=16, allow_missing=True)
    sample = data[1]
    assert sample['present'].tolist() == [False, True]
    assert list(sample['inputs']) == ['depth']
    (root / 'train' / 'depth' / '0004.png').unlink()
    with pytest.raises(InputError, match=r'rgb,depth,labels_40.*0004\.png: no modality left'):
        data[1]
    (root / 'train' / 'labels_40' / '0003.png').unlink()
    with pytest.raises(InputError, match=r'labels_40.0003\.png: no such file'):
        data[0]


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-40])


def scribble(path):
    path.write_text('no image')


def make_empty(path):
    path.write_bytes(b'')


@pytest.mark.parametrize('spoil', [cut_off, scribble, make_empty])
@pytest.mark.parametrize('folder', ['rgb', 'depth', 'labels_40'])
@pytest.mark.parametrize('allow_missing', [False, True])
def test_an_unreadable_file_is_named_whether_or_not_files_may_miss(root, spoil, folder, allow_missing):
    spoil(root / 'train' / folder / '0003.png')
    with pytest.raises(InputError, match=rf'{folder}.0003\.png: can not be read as an image') as error:
        NYUv2(root, allow_missing=allow_missing)[0]
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('folder', 'array', 'message'),
    [
        ('rgb', np.zeros(SIZE, np.uint8), 'expected three channels, got a grey image'),
        ('rgb', np.zeros(SIZE, np.uint16), 'expected 8 bits a channel'),
        ('depth', np.zeros(SIZE, np.uint8), 'expected one channel of 16 bits, got 8 bits'),
        ('depth', np.zeros((*SIZE, 3), np.uint8), "expected one channel of 16 bits, got an image of mode 'RGB'"),
        ('labels_40', np.zeros(SIZE, np.uint16), 'expected one channel of 8 bits, got 16 bits'),
        ('labels_40', np.zeros((*SIZE, 3), np.uint8), 'expected one channel of 8 bits'),
        ('labels_40', np.full(SIZE, 41, np.uint8), r'label 41 is out of range, expected 0 \(void\) to 40'),
        ('labels_40', np.full(SIZE, 255, np.uint8), 'label 255 is out of range'),
        ('depth', np.zeros((24, 30), np.uint16), r'its size is 24x30 \(H x W\), that of .*rgb.0003\.png is 24x32'),
        ('labels_40', np.ones((20, 32), np.uint8), r'its size is 20x32 \(H x W\), that of .*rgb.0003\.png is 24x32'),
    ],
)
@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_file_that_does_not_fit_is_named(root, folder, array, message, split):
    name = '0003' if split == 'train' else '0001'
    save(root / split / folder / f'{name}.png', array)
    with pytest.raises(InputError, match=rf'{folder}.{name}\.png: {message.replace("0003", name)}') as error:
        NYUv2(root, split)[0]
    assert '\n' not in str(error.value)


def test_labels_above_the_classes_are_named_when_they_are_counted(root):
    save(root / 'train' / 'labels_37' / '0005.png', np.full(SIZE, 38, np.uint8))
    with pytest.raises(InputError, match=r'labels_37.0005\.png: label 38 is out of range'):
        SUNRGBD(root).label_counts()


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(split='valid'), NameNotFound, "No split of NYUv2 named 'valid'. Did you mean 'val'"),
        (dict(modalities=['rgb', 'ir']), NameNotFound, "No modality of NYUv2 named 'ir'"),
        (dict(depth_mode='filled'), NameNotFound, "No depth_mode of NYUv2 named 'filled'"),
        (dict(num_classes=37), InputError, 'NYUv2: num_classes is 40 or 13, got 37'),
        (dict(size=0), InputError, 'A size is an integer'),
        (dict(split='val'), InputError, r'train\.txt: there is no validation split'),
        (dict(depthmode='raw'), InputError, "no argument 'depthmode'. Did you mean 'depth_mode'"),
    ],
)
def test_a_wrong_argument_is_refused(root, arguments, error, message):
    with pytest.raises(error, match=message):
        DATASETS.build(dict(type='NYUv2', root=str(root), **arguments))


def test_users_files_are_read_without_the_data_set(root):
    truth = pictures('0003', *SIZE)
    folder = root / 'train'
    depth = NYUv2.read_input('depth', folder / 'depth_raw' / '0003.png', root='elsewhere', depth_mode='raw')
    assert torch.equal(depth[0], torch.from_numpy(truth['depth_raw'].astype(np.float32)))
    assert torch.equal(
        NYUv2.read_input('rgb', folder / 'rgb' / '0003.png'), torch.from_numpy(truth['rgb']).permute(2, 0, 1)
    )
    with pytest.raises(InputError, match='expected one channel of 16 bits, got 8 bits'):
        NYUv2.read_input('depth', folder / 'labels_40' / '0003.png')
