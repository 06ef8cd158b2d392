"""FLIR-aligned, on tiny files in its layout."""

import numpy as np
import pytest
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets.listing import read_stems

pytestmark = pytest.mark.filterwarnings('ignore:.*(published are|left out)')
NAMES = ('person', 'dog', 'bicycle', 'car')


def box(name):
    return (
        f'<object><name>{name}</name><bndbox><xmin>3</xmin><ymin>5</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>'
    )


@pytest.fixture
def root(tmp_path):
    for folder in ('JPEGImages', 'Annotations'):
        (tmp_path / folder).mkdir()
    for i in range(1, 4):
        stem = f'FLIR_0000{i}'
        Image.fromarray(np.full((24, 32, 3), 40 + i, np.uint8)).save(tmp_path / 'JPEGImages' / f'{stem}_RGB.jpg')
        Image.fromarray(np.full((24, 32), 90 + i, np.uint8)).save(tmp_path / 'JPEGImages' / f'{stem}_PreviewData.jpeg')
        text = f'<annotation>{"".join(map(box, NAMES))}</annotation>'
        (tmp_path / 'Annotations' / f'{stem}_PreviewData.xml').write_text(text)
    (tmp_path / 'align_train.txt').write_text('FLIR_00003_PreviewData\nFLIR_00001_PreviewData\n')
    (tmp_path / 'align_validation.txt').write_text('FLIR_00002\n')
    return tmp_path


def load(root, **arguments):
    return DATASETS.build(dict(type='FLIRAligned', root=str(root), **arguments))


@pytest.mark.parametrize(('split', 'stems'), [('train', ['FLIR_00003', 'FLIR_00001']), ('val', ['FLIR_00002'])])
def test_the_lists_make_the_splits_and_dogs_are_left_out(root, split, stems):
    data = load(root, split=split)
    assert data.stems == stems
    number = int(stems[0][-1])
    sample = data[0]
    assert sample['inputs']['rgb'].unique().tolist() == [40 + number]
    assert sample['inputs']['ir'].unique().tolist() == [90 + number]
    assert sample['target']['labels'].tolist() == [0, 2, 1]
    assert sample['target']['boxes'].tolist() == [[3, 5, 9, 8]] * 3
    assert data.dropped['ignored'] == 1
    assert data.presence().tolist() == [[True, True]] * len(stems)


@pytest.mark.parametrize('line', ['JPEGImages/{}_RGB.jpg', '{}_PreviewData.jpeg', 'a\\b\\{}.JPG', '{}'])
def test_a_list_may_hold_files_and_paths(root, line):
    stems = ['FLIR_00003', 'FLIR_00001']
    (root / 'align_train.txt').write_text('\n'.join(map(line.format, stems)) + '\nFLIR_00001_RGB\n')
    assert load(root).stems == stems


def test_a_list_that_can_not_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r'the list can not be read \(.+\)'):
        read_stems(tmp_path)


def test_lists_may_lie_in_image_sets(root):
    (root / 'ImageSets' / 'Main').mkdir(parents=True)
    (root / 'align_train.txt').rename(root / 'ImageSets' / 'Main' / 'align_train.txt')
    assert len(load(root)) == 2
    (root / 'ImageSets' / 'Main' / 'align_train.txt').write_text('\n')
    with pytest.raises(InputError, match=r'align_train\.txt: the list is empty'):
        load(root)
    (root / 'ImageSets' / 'Main' / 'align_train.txt').unlink()
    with pytest.raises(InputError, match=r'no list .*align_train\.txt, and none in ImageSets/Main'):
        load(root)


def test_other_suffixes_are_an_argument(root):
    for file in (root / 'JPEGImages').glob('*_PreviewData.jpeg'):
        file.rename(file.with_name(file.name.replace('_PreviewData', '_thermal')))
    for file in (root / 'Annotations').iterdir():
        file.rename(file.with_name(file.name.replace('_PreviewData', '')))
    data = load(root, split='val', suffixes=dict(ir='_thermal'), annotation_suffix='')
    assert data[0]['present'].tolist() == [True, True]
    with pytest.raises(NameNotFound, match=r"in suffixes\) named 'thermal'"):
        load(root, suffixes=dict(thermal='_x'))
    with pytest.raises(InputError, match=r"no sample; 2 stems are listed, such as 'FLIR_00003', but 2 images have no"):
        load(root)
    (root / 'align_train.txt').write_text('FLIR_99999_PreviewData\n')
    with pytest.raises(InputError, match=r"1 stems are listed, such as 'FLIR_99999', but there are no images"):
        load(root)


def test_counts_and_missing_files_are_told_in_one_line(root):
    (root / 'JPEGImages' / 'FLIR_00001_PreviewData.jpeg').unlink()
    (root / 'align_train.txt').write_text('FLIR_00003\nFLIR_00001\nFLIR_09999\n')
    with pytest.warns(UserWarning, match=r'2 samples, published are 4128; left out 1 listed names .*\(FLIR_09999\)'):
        data = load(root)
    assert data.presence().tolist() == [[True, True], [True, False]]
    assert data[1]['present'].tolist() == [True, False]


def test_an_unknown_split_is_refused(root):
    with pytest.raises(NameNotFound, match=r"No split of FLIRAligned named 'test'. Known: train, val"):
        load(root, split='test')
