"""LLVIP, on tiny files in its layout."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import LLVIP

pytestmark = pytest.mark.filterwarnings('ignore:.*published are')
STEMS = {'train': ['010001', '010002', '010003', '010004'], 'test': ['190001']}
PERSON = (
    '<object><name>person</name><bndbox><xmin>3</xmin><ymin>5</ymin><xmax>9</xmax><ymax>40</ymax></bndbox></object>'
)


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'Annotations').mkdir()
    for split, stems in STEMS.items():
        for folder, value in (('visible', 50), ('infrared', 120)):
            (tmp_path / folder / split).mkdir(parents=True)
            for stem in stems:
                Image.fromarray(np.full((24, 32, 3), value, np.uint8)).save(tmp_path / folder / split / f'{stem}.jpg')
        for stem in stems:
            (tmp_path / 'Annotations' / f'{stem}.xml').write_text(f'<annotation>{PERSON}</annotation>')
    return tmp_path


def load(root, **arguments):
    return DATASETS.build(dict(type='LLVIP', root=str(root), **arguments))


@pytest.mark.parametrize('split', STEMS)
def test_a_sample_is_a_pair_with_the_boxes_of_both(root, split):
    with pytest.warns(UserWarning, match=rf'LLVIP {split} in .*: {len(STEMS[split])} samples, published are') as said:
        data = load(root, split=split)
    assert len(said) == 1
    assert data.stems == STEMS[split]
    sample = data[0]
    assert sample['inputs']['rgb'].unique().tolist() == [50]
    assert torch.equal(sample['inputs']['ir'], torch.full((1, 24, 32), 120, dtype=torch.uint8))
    assert sample['target']['boxes'].tolist() == [[3, 5, 9, 24]]  # clipped at the bottom
    assert sample['target']['labels'].tolist() == [0]
    assert sample['info']['labels'] == [str(root / 'Annotations' / f'{STEMS[split][0]}.xml')]


def test_a_validation_split_is_taken_from_the_training_images(root):
    train, val = load(root, val_fraction=0.25), load(root, split='val', val_fraction=0.25)
    assert val.stems == ['010003']
    assert sorted(train.stems + val.stems) == STEMS['train']
    assert val.presence().tolist() == [[True, True]]
    with pytest.raises(InputError, match='there is no validation split; val_fraction'):
        load(root, split='val')


def test_what_is_missing_is_told_or_absent(root):
    (root / 'infrared' / 'train' / '010001.jpg').unlink()
    (root / 'Annotations' / '010004.xml').unlink()
    with pytest.warns(UserWarning, match=r'left out 1 images without annotation file \(010004\)'):
        data = load(root)
    assert data.presence().tolist() == [[True, False], [True, True], [True, True]]
    assert load(root, modalities='ir').stems == ['010002', '010003']
    (root / 'Annotations' / '010001.xml').unlink()
    with pytest.raises(InputError, match=r'Annotations.010001\.xml: no such file any more'):
        data[0]


@pytest.mark.parametrize('folder', ['visible', 'infrared', 'Annotations'])
def test_a_missing_folder_is_named(root, folder):
    shutil.rmtree(root / folder)
    with pytest.raises(InputError, match=f'LLVIP: no folder .*{folder}'):
        load(root)


def test_no_annotation_at_all_is_an_error(root):
    for file in (root / 'Annotations').iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r'LLVIP train in .*: no sample; 4 images have no annotation file'):
        load(root)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(split='valid'), NameNotFound, "No split of LLVIP named 'valid'"),
        (dict(root='nowhere'), InputError, 'LLVIP: no folder nowhere. The data are at https'),
        (dict(modalities='thermal'), NameNotFound, "No modality of LLVIP named 'thermal'"),
    ],
)
def test_a_wrong_argument_is_refused(root, arguments, error, message):
    with pytest.raises(error, match=message):
        load(**{'root': root, **arguments})


def test_an_unknown_class_and_sizes_that_differ_are_named(root):
    (root / 'Annotations' / '010001.xml').write_text(f'<annotation>{PERSON.replace("person", "cat")}</annotation>')
    with pytest.raises(NameNotFound, match=r"class of LLVIP \(at .*010001\.xml: object 1\) named 'cat'. Known: person"):
        load(root)[0]
    Image.new('L', (30, 24)).save(root / 'infrared' / 'train' / '010002.jpg')
    with pytest.raises(InputError, match=r'010002\.jpg: the modalities differ in size .*rgb 24x32, ir 24x30'):
        load(root)[1]


def test_folders_are_told_for_prediction():
    assert LLVIP.input_folders(root='x') == {'rgb': 'visible', 'ir': 'infrared'}
