"""ImageFolders and the public sets it knows, on tiny files in their layouts."""

import csv
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import ImageFolders

pytestmark = pytest.mark.filterwarnings('ignore:.*published are')
SPLITS = ('train', 'val', 'test')
EACH = 20  # images of a class, of 10 groups where there are groups


def paint(file, colour=100, size=(6, 4), mode='L'):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(file)


# The layouts as their archives have them: (path of image i of a class, its group), written down apart from the code.
PLACES = {
    'nickparvar': (
        ('glioma', 'meningioma', 'notumor', 'pituitary'),
        lambda c, i: (f'Testing/{c}/Te-{i:04d}.jpg' if i % 5 == 0 else f'Training/{c}/Tr-{i:04d}.jpg', (c, i)),
    ),
    'iq_othnccd': (
        ('Bengin', 'Malignant', 'Normal'),
        lambda c, i: (f'{c} cases/{c} case ({i}).jpg', (c, i)),
    ),
    'tuberculosis': (('Normal', 'Tuberculosis'), lambda c, i: (f'{c}/{c}-{i}.png', (c, i))),
    'bccd': (
        ('EOSINOPHIL', 'LYMPHOCYTE', 'MONOCYTE', 'NEUTROPHIL'),
        lambda c, i: (f'images/TRAIN/{c}/_{i // 2}_{1000 + i}.jpeg', (c, i // 2)),
    ),
    'sipakmed': (
        ('Dyskeratotic', 'Koilocytotic', 'Metaplastic', 'Parabasal', 'Superficial-Intermediate'),
        lambda c, i: (f'im_{c}/im_{c}/CROPPED/{i // 2:03d}_{i % 2 + 1:02d}.bmp', (c, i // 2)),
    ),
    'kather2016': (
        ('01_TUMOR', '02_STROMA', '03_COMPLEX', '04_LYMPHO', '05_DEBRIS', '06_MUCOSA', '07_ADIPOSE', '08_EMPTY'),
        lambda c, i: (
            f'Kather_texture_2016_image_tiles_5000/{c}/'
            f'{c[:2]}{i:02X}_CRC-Prim-HE-{i % 10 + 1:02d}_00{i % 5}.tif_Row_{i}_Col_1.tif',
            i % 10,
        ),
    ),
    'cnmc2019': (
        ('all', 'hem'),
        lambda c, i: (f'fold_{i % 3}/{c}/UID_{"H" * (c == "hem")}{i // 2}_{i}_1_{c}.bmp', (c, i // 2)),
    ),
    'kvasir': (
        (
            'dyed-lifted-polyps', 'dyed-resection-margins', 'esophagitis', 'normal-cecum', 'normal-pylorus',
            'normal-z-line', 'polyps', 'ulcerative-colitis',
        ),
        lambda c, i: (f'{c}/{c[:3]}-{i}.jpg', (c, i)),
    ),
}  # fmt: skip


@pytest.fixture
def make(tmp_path):
    """Write a set; returns path to (number of the class, group)."""

    def write(layout):
        truth = {}
        classes, place = PLACES[layout]
        for number, c in enumerate(classes):
            for i in range(EACH):
                path, group = place(c, i)
                paint(tmp_path / path)
                truth[path] = number, group
        if layout == 'cnmc2019':
            folder = tmp_path / 'C-NMC_test_prelim_phase_data'
            rows = [['Patient_ID', 'new_names', 'labels']]
            for i in range(4):
                paint(folder / f'{i}.bmp')
                rows.append([f'UID_5{i}_1_1_all.bmp', f'{i}.bmp', int(i < 3)])
            write_csv(tmp_path / 'C-NMC_test_prelim_phase_data_labels.csv', rows)
        return truth

    return write


def write_csv(file, rows):
    with open(file, 'w', newline='') as out:
        csv.writer(out).writerows(rows)


def load(root, **arguments):
    return DATASETS.build(dict(type='ImageFolders', root=str(root), **arguments))


def held(root, data):
    """Path below the root to class, of all samples."""
    files = {data.source(i): int(data.load_target(i)) for i in range(len(data))}
    return {f.removeprefix(f'{root}/'): label for f, label in files.items()}


@pytest.mark.parametrize('layout', PLACES)
def test_every_image_is_in_one_split_with_its_class_and_no_group_in_two(tmp_path, make, layout):
    truth = make(layout)
    divided = ('train', 'val') if layout == 'cnmc2019' else SPLITS
    parts = [held(tmp_path, load(tmp_path, layout=layout, split=s)) for s in divided]
    assert sum(map(len, parts)) == len(truth)
    assert {f: n for part in parts for f, n in part.items()} == {f: n for f, (n, _) in truth.items()}
    groups = [{truth[f][1] for f in part} for part in parts]
    assert sum(map(len, groups)) == len(set().union(*groups))
    classes = len(PLACES[layout][0])
    for part, share in zip(parts, (8 / 9, 1 / 9) if len(divided) == 2 else (0.8, 0.1, 0.1)):
        assert abs(len(part) - share * len(truth)) <= 2 * classes
        assert set(part.values()) == set(range(classes))
    assert held(tmp_path, load(tmp_path, layout=layout, split='all')) == {f: n for f, (n, _) in truth.items()}


def test_the_official_test_split_of_cnmc_comes_from_its_table(tmp_path, make):
    make('cnmc2019')
    data = load(tmp_path, layout='cnmc2019', split='test')
    assert data.classes == ('leukemia', 'normal')
    assert list(held(tmp_path, data).values()) == [0, 0, 0, 1]
    write_csv(tmp_path / 'C-NMC_test_prelim_phase_data_labels.csv', [['new_names', 'labels'], ['0.bmp', '2']])
    with pytest.raises(InputError, match=r"_labels\.csv:2: the labels '2' is none of: 1, 0"):
        load(tmp_path, layout='cnmc2019', split='test')


def test_cnmc_may_lie_in_the_folders_of_its_archives_and_train_without_test_images(tmp_path, make):
    truth = make('cnmc2019')
    (tmp_path / 'C-NMC_training_data').mkdir()
    for fold in range(3):
        (tmp_path / f'fold_{fold}').rename(tmp_path / 'C-NMC_training_data' / f'fold_{fold}')
    outer = tmp_path / 'prelim'
    outer.mkdir()
    for name in ('C-NMC_test_prelim_phase_data', 'C-NMC_test_prelim_phase_data_labels.csv'):
        (tmp_path / name).rename(outer / name)
    assert len(load(tmp_path, layout='cnmc2019', split='test')) == 4
    (outer / 'C-NMC_test_prelim_phase_data_labels.csv').unlink()
    assert len(load(tmp_path, layout='cnmc2019', split='all')) == len(truth)
    with pytest.raises(InputError, match=r'no table .*C-NMC_test_prelim_phase_data_labels\.csv'):
        load(tmp_path, layout='cnmc2019', split='test')


def test_the_whole_slides_of_sipakmed_are_not_read(tmp_path, make):
    truth = make('sipakmed')
    paint(tmp_path / 'im_Parabasal' / 'im_Parabasal' / '001.bmp')
    assert len(load(tmp_path, layout='sipakmed', split='all')) == len(truth)


@pytest.fixture
def ham(tmp_path):
    """Seven classes of twelve images, two of each lesion, in two folders and a table."""
    rows = [['lesion_id', 'image_id', 'dx', 'dx_type', 'age', 'sex', 'localization']]
    for c, dx in enumerate(('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc')):
        for i in range(EACH):
            number = c * EACH + i
            name = f'ISIC_{number:07d}'
            rows.append([f'HAM_{number // 2:07d}', name, dx, 'histo', '50.0', 'male', 'back'])
            paint(tmp_path / f'HAM10000_images_part_{number % 2 + 1}' / f'{name}.jpg', (c, 10, 200), mode='RGB')
    write_csv(tmp_path / 'HAM10000_metadata.csv', rows)
    return tmp_path


def lesions(data):
    return {int(data.source(i)[-8:-4]) // 2 for i in range(len(data))}


def test_ham10000_is_divided_by_lesion(ham):
    parts = {s: load(ham, layout='ham10000', split=s) for s in SPLITS}
    assert [len(p) for p in parts.values()] == [112, 14, 14]
    assert sum(len(lesions(p)) for p in parts.values()) == 70
    assert len(set().union(*map(lesions, parts.values()))) == 70
    assert all(Counter(held(ham, parts[s]).values()) == dict.fromkeys(range(7), 2) for s in ('val', 'test'))
    sample = parts['test'][0]
    assert sample['inputs']['image'].shape == (3, 4, 6)
    assert sample['inputs']['image'].dtype == torch.uint8
    assert parts['test'].classes[int(sample['target'])] == 'akiec'


@pytest.mark.filterwarnings('ignore:.*too few groups')
def test_images_of_one_lesion_may_be_torn_apart_on_demand(ham):
    parts = [load(ham, layout='ham10000', split=s, group='') for s in SPLITS]
    assert sum(len(lesions(p)) for p in parts) > 70
    by_ten = [load(ham, layout='ham10000', split=s, group=r'ISIC_(\d+)\d$') for s in SPLITS]
    tens = [{p.source(i)[-9:-5] for i in range(len(p))} for p in by_ten]
    assert sum(map(len, tens)) == len(set().union(*tens))


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (
            ['HAM_1', 'ISIC_9999999', 'nv'],
            r'csv:3: there is no image ISIC_9999999 in HAM10000_images_part_1, HAM10000_im',
        ),
        (['HAM_1', 'ISIC_0000001', 'naevus'], r"csv:3: the dx 'naevus' is none of: akiec, bcc"),
        (['', 'ISIC_0000001', 'nv'], r"csv:3: the column 'lesion_id' is empty"),
        (['HAM_1', 'ISIC_0000000', 'akiec'], r'csv:3: the image ISIC_0000000 has been named before'),
    ],
)
def test_a_wrong_line_of_the_table_is_named(ham, line, message):
    table = ham / 'HAM10000_metadata.csv'
    lines = table.read_text().splitlines()
    lines[2] = ','.join(line)
    table.write_text('\n'.join(lines))
    with pytest.raises(InputError, match=message):
        load(ham, layout='ham10000')


def test_a_missing_table_column_or_folder_is_named(ham):
    table = ham / 'HAM10000_metadata.csv'
    table.write_text(table.read_text().replace('lesion_id', 'lesion', 1))
    with pytest.raises(InputError, match=r"csv: it has no column 'lesion_id', only lesion, image_id, dx"):
        load(ham, layout='ham10000')
    table.unlink()
    with pytest.raises(InputError, match=r'no table .*HAM10000_metadata\.csv'):
        load(ham, layout='ham10000')


def test_a_number_of_images_that_is_not_the_published_one_is_told(ham):
    with pytest.warns(UserWarning, match=r'ImageFolders \(ham10000\) in .*: 140 images, published are 10015'):
        load(ham, layout='ham10000')


@pytest.fixture
def folders(tmp_path):
    for number, name in enumerate(('benign', 'malignant')):
        for i in range(10):
            paint(tmp_path / name / f'P{i:02d}.png', 100 * number + i)
    return tmp_path


def test_any_folders_are_classes(folders):
    data = load(folders, split='all', modality='scan', channels=1, transforms=[dict(type='Resize', size=(8, 10))])
    assert data.classes == ('benign', 'malignant')
    assert (len(data), data.modalities) == (20, ('scan',))
    assert data[13]['inputs']['scan'].unique().tolist() == [103]
    assert data[13]['inputs']['scan'].shape == (1, 8, 10)
    assert data[13]['target'] == 1
    assert data.label_counts()[0].tolist() == [10, 10]
    turned = load(folders, split='all', classes=['malignant', 'benign'])
    assert turned[0]['target'] == 1


def test_a_patient_in_both_classes_stays_together(folders):
    parts = [load(folders, split=s, group=r'(P\d+)') for s in SPLITS]
    assert [len(p) for p in parts] == [16, 2, 2]
    assert [len({p.source(i)[-7:] for i in range(len(p))}) for p in parts] == [8, 1, 1]


def test_grey_colour_and_transparent_images_may_be_mixed(folders):
    paint(folders / 'benign' / 'P00.png', (1, 2, 3), mode='RGB')
    paint(folders / 'benign' / 'P01.png', (1, 2, 3, 4), mode='RGBA')
    paint(folders / 'benign' / 'P02.png', (7, 4), mode='LA')
    data = load(folders, split='all')
    assert [data[i]['inputs']['image'][:, 0, 0].tolist() for i in range(3)] == [[1, 2, 3], [1, 2, 3], [7, 7, 7]]


def test_seed_and_shares_change_the_division(folders):
    first = load(folders, split='test').names
    assert load(folders, split='test').names == first
    assert load(folders, split='test', seed=1).names != first
    shares = dict(train=0.64, val=0.16, test=0.2)
    assert [len(load(folders, split=s, shares=shares)) for s in SPLITS] == [12, 4, 4]


def test_a_split_without_a_class_is_told(folders):
    for i in range(1, 10):
        (folders / 'malignant' / f'P{i:02d}.png').unlink()
    with pytest.warns(UserWarning, match="the split 'test' has no image of 'malignant', which has too few groups"):
        load(folders, split='test')


def test_an_unreadable_image_is_found_before_training(folders):
    data = load(folders, split='all')
    data.check_annotations()
    (folders / 'malignant' / 'P03.png').write_text('no image')
    with pytest.raises(InputError, match=r'malignant.P03\.png: can not be read as an image'):
        data.check_annotations()
    (folders / 'malignant' / 'P03.png').unlink()
    with pytest.raises(InputError, match=r'P03\.png: no such file any more'):
        data[13]


def test_16_bits_are_refused_in_colour_and_named(folders):
    Image.fromarray(np.full((4, 6), 3000, np.uint16)).save(folders / 'benign' / 'P00.png')
    with pytest.raises(InputError, match=r'P00\.png: expected 8 bits a channel'):
        load(folders, split='all')[0]


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(root='nowhere'), InputError, r'ImageFolders: no folder nowhere. docs/datasets\.md'),
        (dict(split='dev'), NameNotFound, "No split of ImageFolders named 'dev'"),
        (dict(layout='ham1000'), NameNotFound, "named 'ham1000'. Did you mean 'ham10000'"),
        (dict(layout='kvasir'), InputError, r'no folder .*dyed-lifted-polyps nor .*; .* holds benign, malignant'),
        (dict(layout='kvasir', classes=['a']), InputError, 'the layout says the classes'),
        (dict(classes=['benign', 'malign']), NameNotFound, r"No class .*malignant\) named 'malignant'. Did you mean"),
        (dict(classes=['benign', 'malignant', 'none']), InputError, 'no folder .*none; .* holds benign, malignant'),
        (dict(group='P'), InputError, "group='P' needs a group in parentheses"),
        (dict(group='(P'), InputError, r"group='\(P' is no regular expression"),
        (dict(group=r'(Q\d)'), InputError, r"P00\.png: 'benign/P00' does not match .* group='' divides image by image"),
        (dict(shares=dict(train=0.5)), InputError, 'shares of a division are above 0'),
        (dict(channels='rgb'), InputError, 'channels is 1 or 3'),
    ],
)
def test_a_wrong_argument_is_refused(folders, arguments, error, message):
    with pytest.raises(error, match=message):
        load(**{'root': folders, **arguments})


def test_empty_and_misplaced_folders_are_named(folders, tmp_path):
    (folders / 'none').mkdir()
    with pytest.raises(InputError, match="none: there is no image of the class 'none'"):
        load(folders)
    (folders / 'none').rmdir()
    (folders / 'benign').rename(folders / 'train')
    with pytest.raises(InputError, match=r"train is no class: give root='.*train' with split='all'"):
        load(folders)
    with pytest.raises(InputError, match='holds no folder; expected'):
        load(folders / 'train')


def test_one_name_in_two_folders_of_a_class_is_refused(tmp_path, make):
    make('sipakmed')
    paint(tmp_path / 'im_Parabasal' / 'CROPPED' / '001_01.bmp')
    with pytest.raises(InputError, match=r'001_01\.bmp: there is also .*001_01\.bmp'):
        load(tmp_path, layout='sipakmed')


def test_a_file_is_read_without_the_data_set(folders):
    file = folders / 'malignant' / 'P04.png'
    assert ImageFolders.read_input('cells', file, root='x', modality='cells').unique().tolist() == [104]
