"""Paired folders of several modalities, on tiny files."""

import pytest
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import PairedFolders

CHANNELS = dict(ct=1, photo=3)
COUNT = 20  # samples of each class, two of each patient


def paint(file, colour=0, size=(6, 4)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new('L', size, colour).save(file)


@pytest.fixture
def folders(tmp_path):
    """Sample i of class c is of colour i in ct and 100 + i in photo, whose images are larger."""
    for number, c in enumerate(('benign', 'malignant')):
        for i in range(COUNT):
            stem = f'P{number}{i // 2:02d}_{i % 2}'
            paint(tmp_path / 'ct' / c / f'{stem}_ct.png', i)
            paint(tmp_path / 'photos' / c / f'{stem}_photo.png', 100 + i, (12, 8))
    return tmp_path


@pytest.fixture
def table(tmp_path):
    lines = ['label,id']
    for i in range(COUNT):
        paint(tmp_path / 'ct' / f'{i:02d}.png', i)
        paint(tmp_path / 'photo' / f'{i:02d}.png', 100 + i)
        lines.append(f'{("no", "yes")[i % 2]},{i:02d}')
    (tmp_path / 'labels.csv').write_text('\n'.join(lines) + '\n')
    return tmp_path


def load(root, **arguments):
    joined = dict(folders=dict(photo='photos'), key=r'(P\d+_\d)_', transforms=[dict(type='Resize', size=(4, 6))])
    base = dict(type='PairedFolders', root=str(root), channels=CHANNELS, **joined)
    return DATASETS.build({**base, **arguments})


def by_table(root, **arguments):
    return DATASETS.build(
        {'type': 'PairedFolders', 'root': str(root), 'channels': CHANNELS, 'labels': 'labels.csv', **arguments}
    )


def test_images_are_joined_by_their_key_and_classified_by_their_folder(folders):
    data = load(folders, split='all')
    assert (len(data), data.classes) == (2 * COUNT, ('benign', 'malignant'))
    assert (data.modalities, data.channels) == (('ct', 'photo'), CHANNELS)
    for i, sample in enumerate(data):
        assert sample['inputs']['ct'].unique().tolist() == [i % COUNT]
        assert sample['inputs']['photo'].unique().tolist() == [100 + i % COUNT]
        assert sample['target'] == i // COUNT
        assert sample['present'].tolist() == [True, True]
    assert sample['inputs']['photo'].shape == (3, 4, 6)
    assert data.label_counts()[0].tolist() == [COUNT, COUNT]


def test_a_patient_stays_on_one_side(folders):
    parts = {s: load(folders, split=s, group=r'(P\d+)').names for s in ('train', 'val', 'test')}
    assert [len(p) for p in parts.values()] == [32, 4, 4]
    patients = [{name[:4] for name in p} for p in parts.values()]
    assert [len(p) for p in patients] == [16, 2, 2]
    assert len(set().union(*patients)) == 20


def test_a_table_says_the_classes(table):
    data = by_table(table, split='all', modalities=['photo', 'ct'])
    assert data.modalities == ('photo', 'ct')
    assert data.classes == ('no', 'yes')
    assert data[5]['target'] == 1
    assert data[5]['inputs']['ct'].unique().tolist() == [5]
    assert by_table(table, split='all', classes=['yes', 'no'])[5]['target'] == 0


def test_a_missing_image_is_an_absent_modality(folders):
    (folders / 'ct' / 'benign' / 'P000_1_ct.png').unlink()
    with pytest.warns(UserWarning, match='PairedFolders all in .*: of 40 samples 1 have no ct'):
        data = load(folders, split='all')
    assert data[1]['present'].tolist() == [False, True]
    assert list(data[1]['inputs']) == ['photo']
    assert data.presence().sum(0).tolist() == [39, 40]
    assert len(load(folders, split='all', modalities='ct')) == 39


def test_unreadable_images_are_found_before_training(folders):
    data = load(folders, split='all')
    data.check_annotations()
    (folders / 'ct' / 'benign' / 'P000_1_ct.png').write_text('no image')
    with pytest.raises(InputError, match=r'P000_1_ct\.png: can not be read as an image'):
        data.check_annotations()


def test_a_key_has_one_image_and_one_class(folders):
    with pytest.raises(InputError, match=r"P000_1_ct\.png: it has the key 'P000' as .*P000_0_ct\.png has"):
        load(folders, key=r'(P\d+)_')
    paint(folders / 'photos' / 'malignant' / 'P000_1_x.png')
    (folders / 'photos' / 'benign' / 'P000_1_photo.png').unlink()
    with pytest.raises(InputError, match=r"P000_1_x\.png: the sample 'P000_1' is of the class 'benign' elsewhere"):
        load(folders)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('no,04', 'no,99', r"labels\.csv:6: no modality has an image of '99'"),
        ('no,04', 'yes,03\nno,04\nyes,04', r"labels\.csv:8: '04' has been 'no' before"),
        ('no,04\n', '', r"labels\.csv: it has no label of '04'"),
        ('no,04', ',04', r"labels\.csv:6: the column 'label' is empty"),
        ('label,id', 'class,id', r"labels\.csv: it has no column 'label', only class, id"),
    ],
)
def test_a_wrong_table_is_named(table, old, new, message):
    file = table / 'labels.csv'
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        by_table(table)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(root='nowhere'), InputError, 'no folder nowhere'),
        (dict(channels=None), InputError, r'channels is dict\(modality=1 or 3, ...\), got None'),
        (dict(channels=dict(ct=2)), InputError, 'channels is dict'),
        (dict(folders=dict(foto='photos')), NameNotFound, "'foto'. Did you mean 'photo'"),
        (dict(folders='photos'), InputError, "folders is dict\\(modality=folder, ...\\), got 'photos'"),
        (dict(folders={}), InputError, r'no folder .*photo\. docs'),
        (dict(modalities=['mri']), NameNotFound, "No modality of PairedFolders named 'mri'"),
        (dict(split='dev'), NameNotFound, 'dev'),
        (dict(key=r'(Q\d)'), InputError, r'_ct\.png: its name does not match key='),
        (
            dict(key=None),
            InputError,
            r'no two modalities .* have a key in common \(P000_0_ct, P000_0_photo\): key=PATT',
        ),
        (dict(key='P'), InputError, "key='P' needs a group"),
        (dict(group=r'(Q\d)'), InputError, 'does not match'),
        (dict(classes=['benign', 'malign']), NameNotFound, "named 'malignant'. Did you mean 'malign'"),
        (dict(classes=['benign', 'malignant', 'x']), InputError, "no image of the class 'x'"),
        (dict(labels='labels.csv'), InputError, r'labels\.csv: no such table'),
    ],
)
def test_a_wrong_argument_is_refused(folders, arguments, error, message):
    with pytest.raises(error, match=message):
        load(**{'root': folders, **arguments})


def test_empty_folders_are_named(folders, table):
    (folders / 'ct' / 'none').mkdir()
    with pytest.raises(InputError, match='none: there is no image of this class'):
        load(folders)
    with pytest.raises(InputError, match=r'photo holds no folder of a class; images without give labels=TABLE'):
        DATASETS.build(dict(type='PairedFolders', root=str(table), channels=dict(photo=1)))


def test_a_file_is_read_as_its_modality(folders):
    file = folders / 'ct' / 'benign' / 'P001_1_ct.png'
    assert PairedFolders.read_input('ct', file, channels=CHANNELS, key='x').shape == (1, 4, 6)
    assert PairedFolders.read_input('photo', file, channels=CHANNELS).shape == (3, 4, 6)
    with pytest.raises(NameNotFound, match='mri'):
        PairedFolders.read_input('mri', file, channels=CHANNELS)
