"""BraTS in both layouts, on tiny volumes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from registry import InputError, NameNotFound
from zoo.datasets import BraTS
from zoo.datasets.brats import find_cases, join_labels, split_cases
from zoo.engine import parse_subsets

nibabel = pytest.importorskip('nibabel')

CONFIGS = Path(__file__).parents[3] / 'configs' / '_base_' / 'datasets'
SIZE = (12, 10, 9)
SEQUENCES = ('flair', 't1ce', 't1', 't2')
BRAIN = (slice(2, 9), slice(1, 10), slice(3, 7))


def save(file, array, affine=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1, -1, 1, 1.0]) if affine is None else affine), file)


def official_case(root, name='case_1', seed=0, suffix='.nii.gz'):
    """One case as it is published; its arrays."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for m in SEQUENCES:
        arrays[m] = np.zeros(SIZE, np.int16)
        arrays[m][BRAIN] = rng.integers(1, 900, arrays[m][BRAIN].shape)
    arrays['seg'] = np.zeros(SIZE, np.uint8)
    arrays['seg'][BRAIN] = rng.choice([0, 1, 2, 4], arrays['seg'][BRAIN].shape)
    for m, array in arrays.items():
        save(root / name / f'{name}_{m}{suffix}', array)
    return arrays


def npy_case(root, name='HG_001', size=(6, 7, 8), lacking=()):
    rng = np.random.default_rng(0)
    for kind in ('vol', 'seg'):
        (root / kind).mkdir(exist_ok=True)
    volume = rng.standard_normal((*size, 4)).astype(np.float32)
    for m in lacking:
        volume[..., SEQUENCES.index(m)] = np.nan
    labels = rng.integers(0, 4, size, dtype=np.uint8)
    np.save(root / 'vol' / f'{name}_vol.npy', volume)
    np.save(root / 'seg' / f'{name}_seg.npy', labels)
    return volume, labels


def one(root, **arguments):
    return BraTS(root, **{'proportion': (1, 0, 0), **arguments})[0]


@pytest.mark.parametrize('suffix', ['.nii', '.nii.gz'])
def test_the_official_layout_is_cropped_and_standardised(tmp_path, suffix):
    arrays = official_case(tmp_path, suffix=suffix)
    sample = one(tmp_path, least=5)
    box = (slice(2, 9), slice(1, 10), slice(2, 7))  # the last axis grows from 4 to 5 about its centre
    for m in SEQUENCES:
        inside = arrays[m][BRAIN].astype(float)
        expected = (arrays[m][box] - inside.mean()) / inside.std()
        assert sample['inputs'][m].shape == (1, 7, 9, 5)
        np.testing.assert_allclose(sample['inputs'][m][0], expected, atol=1e-5)
    expected = arrays['seg'][box].astype(int)
    expected[expected == 4] = 3
    np.testing.assert_array_equal(sample['target'], expected)
    assert sample['target'].dtype == torch.int64
    assert sample['present'].tolist() == [True] * 4


def test_without_least_nothing_is_cropped(tmp_path):
    official_case(tmp_path)
    assert one(tmp_path, least=None)['target'].shape == SIZE


def test_the_defaults_keep_a_volume_below_128_whole(tmp_path):
    official_case(tmp_path)
    assert one(tmp_path)['target'].shape == SIZE


def test_modalities_come_in_the_order_asked_for(tmp_path):
    official_case(tmp_path)
    every, some = one(tmp_path), one(tmp_path, modalities=['t2', 'flair'])
    assert list(some['inputs']) == ['t2', 'flair']
    torch.testing.assert_close(some['inputs']['t2'], every['inputs']['t2'])


def test_cases_lie_in_folders_of_grades_too(tmp_path):
    official_case(tmp_path / 'HGG', 'b')
    official_case(tmp_path / 'LGG', 'a')
    assert list(find_cases(tmp_path)) == ['a', 'b']
    official_case(tmp_path / 'LGG', 'b')
    with pytest.raises(InputError, match='names of cases occur once'):
        find_cases(tmp_path)


def test_a_missing_sequence_is_an_error_or_absent(tmp_path):
    official_case(tmp_path)
    (tmp_path / 'case_1' / 'case_1_t1.nii.gz').unlink()
    with pytest.raises(InputError, match=r'case_1_t1\.nii\.gz: no such file, nor \.nii; allow_missing=True'):
        one(tmp_path)
    data = BraTS(tmp_path, proportion=(1, 0, 0), allow_missing=True)
    assert data[0]['present'].tolist() == [True, True, False, True]
    assert list(data[0]['inputs']) == ['flair', 't1ce', 't2']
    assert data.presence().tolist() == [[True, True, False, True]]
    with pytest.raises(InputError, match=r'case_1: no modality left, none of t1 has a file'):
        one(tmp_path, modalities='t1', allow_missing=True)


def test_missing_labels_are_an_error(tmp_path):
    official_case(tmp_path)
    (tmp_path / 'case_1' / 'case_1_seg.nii.gz').unlink()
    with pytest.raises(InputError, match=r'case_1_seg\.nii\.gz: no such file'):
        one(tmp_path)


def test_the_misnamed_labels_of_case_355_are_found(tmp_path):
    official_case(tmp_path)
    expected = one(tmp_path)['target']
    folder = tmp_path / 'case_1'
    (folder / 'case_1_seg.nii.gz').rename(folder / 'W39_1998.09.19_Segm.nii.gz')
    torch.testing.assert_close(one(tmp_path)['target'], expected)


@pytest.mark.parametrize('which', ['t2', 'seg'])
def test_another_shape_or_affine_is_named(tmp_path, which):
    arrays = official_case(tmp_path)
    file = tmp_path / 'case_1' / f'case_1_{which}.nii.gz'
    save(file, arrays[which], np.eye(4))
    with pytest.raises(InputError, match=rf'case_1_{which}\.nii\.gz: its affine differs .* case_1_flair\.nii\.gz'):
        one(tmp_path)
    save(file, arrays[which][:-1])
    with pytest.raises(InputError, match=rf'case_1_{which}\.nii\.gz: its shape is \(11, 10, 9\)'):
        one(tmp_path)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ([0, 5], 'unknown label 5'),
        ([0, -1], 'unknown label -1'),
        ([0, 1.5], r'unknown label 1\.5'),
        ([0, 3, 4], 'labels 3 and 4 in one file'),
        ([0, np.nan], 'unknown label nan'),
    ],
)
def test_unknown_labels_are_named(tmp_path, values, message):
    with pytest.raises(InputError, match=rf'x_seg\.nii: {message}'):
        join_labels(np.array(values), tmp_path / 'x_seg.nii')


def test_labels_of_both_conventions_give_the_same_classes(tmp_path):
    np.testing.assert_array_equal(join_labels(np.array([0, 1, 2, 4]), tmp_path), [0, 1, 2, 3])
    np.testing.assert_array_equal(join_labels(np.array([0, 1, 2, 3]), tmp_path), [0, 1, 2, 3])


def test_an_empty_sequence_and_an_empty_head_are_named(tmp_path):
    arrays = official_case(tmp_path)
    save(tmp_path / 'case_1' / 'case_1_t1.nii.gz', 0 * arrays['t1'])
    with pytest.raises(InputError, match=r'case_1_t1\.nii\.gz: it is constant inside the brain'):
        one(tmp_path)
    with pytest.raises(InputError, match='case_1: every voxel is 0 in all sequences'):
        one(tmp_path, modalities='t1')


def test_the_npy_layout_is_read_as_it_is(tmp_path):
    volume, labels = npy_case(tmp_path)
    sample = one(tmp_path, modalities=['t2', 't1ce'])
    for m, channel in (('t2', 3), ('t1ce', 1)):
        np.testing.assert_array_equal(sample['inputs'][m][0], volume[..., channel])
        assert sample['inputs'][m].is_contiguous()
    np.testing.assert_array_equal(sample['target'], labels)
    np.testing.assert_array_equal(BraTS(tmp_path, proportion=(1, 0, 0)).load_target(0), labels)


def test_changing_a_sample_leaves_the_files_as_they_are(tmp_path):
    volume, _ = npy_case(tmp_path)
    BraTS(tmp_path, proportion=(1, 0, 0)).load(0)['inputs']['t1'].zero_()
    np.testing.assert_array_equal(np.load(tmp_path / 'vol' / 'HG_001_vol.npy'), volume)


def test_labels_can_be_counted(tmp_path):
    _, labels = npy_case(tmp_path)
    pixels, of_images = BraTS(tmp_path, proportion=(1, 0, 0)).label_counts()
    assert pixels.tolist() == np.bincount(labels.ravel(), minlength=4).tolist()
    assert of_images.tolist() == [labels.size] * 4


def test_a_channel_of_nan_is_an_absent_sequence(tmp_path):
    npy_case(tmp_path, lacking=['t1ce'])
    with pytest.raises(InputError, match=r'HG_001_vol\.npy: t1ce is NaN; allow_missing=True'):
        one(tmp_path)
    assert one(tmp_path, allow_missing=True)['present'].tolist() == [True, False, True, True]
    with pytest.raises(InputError, match='no modality left'):
        one(tmp_path, modalities='t1ce', allow_missing=True)


def test_an_array_of_another_form_is_named_before_and_while_it_is_read(tmp_path):
    npy_case(tmp_path)
    np.save(tmp_path / 'vol' / 'HG_001_vol.npy', np.zeros((6, 7, 8), np.float32))
    data = BraTS(tmp_path, proportion=(1, 0, 0), allow_missing=True)
    for read in (data.presence, lambda: data[0]):
        with pytest.raises(InputError, match=r'HG_001_vol\.npy: expected float32 \(D, H, W, 4\)'):
            read()


@pytest.mark.parametrize(
    ('kind', 'array', 'message'),
    [
        ('vol', np.zeros((6, 7, 8, 3), np.float32), r'vol\.npy: expected float32 \(D, H, W, 4\), got float32'),
        ('vol', np.zeros((6, 7, 8, 4)), r'vol\.npy: expected float32 .*, got float64'),
        ('seg', np.zeros((6, 7, 9), np.uint8), r'seg\.npy: expected integers of the shape \(6, 7, 8\)'),
        ('seg', np.full((6, 7, 8), 4, np.uint8), r'seg\.npy: label 4, expected 0\.\.3'),
        ('seg', np.full((6, 7, 8), -1, np.int8), r'seg\.npy: label -1, expected 0\.\.3'),
    ],
)
def test_wrong_arrays_are_named(tmp_path, kind, array, message):
    npy_case(tmp_path)
    np.save(tmp_path / kind / f'HG_001_{kind}.npy', array)
    with pytest.raises(InputError, match=message):
        one(tmp_path)


def test_missing_and_broken_arrays_are_named(tmp_path):
    npy_case(tmp_path)
    file = tmp_path / 'seg' / 'HG_001_seg.npy'
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r'HG_001_seg\.npy: can not be read as an array'):
        one(tmp_path)
    file.unlink()
    with pytest.raises(InputError, match=r'HG_001_seg\.npy: no such file'):
        one(tmp_path)


def test_lists_say_which_cases_a_split_has(tmp_path):
    for name in 'dcba':
        npy_case(tmp_path, name)
    (tmp_path / 'train.txt').write_text('c\na\n\nc\n')
    (tmp_path / 'fold.txt').write_text('d\n')
    assert BraTS(tmp_path, 'train').cases == ['a', 'c']
    assert BraTS(tmp_path, 'test', list_file=tmp_path / 'fold.txt').cases == ['d']
    (tmp_path / 'fold.txt').write_text('cc\n')
    with pytest.raises(NameNotFound, match=r"case \(in .*fold\.txt\) named 'cc'"):
        BraTS(tmp_path, 'test', list_file=tmp_path / 'fold.txt')
    with pytest.raises(InputError, match=r'gone\.txt: no such list'):
        BraTS(tmp_path, list_file=tmp_path / 'gone.txt')
    (tmp_path / 'fold.txt').write_text('\n')
    with pytest.raises(InputError, match=r'fold\.txt: the list is empty'):
        BraTS(tmp_path, list_file=tmp_path / 'fold.txt')


def test_splits_are_disjoint_complete_and_the_same_each_time():
    names = [f'BraTS20_Training_{i:03d}' for i in range(1, 370)]
    splits = split_cases(names)
    assert {s: len(v) for s, v in splits.items()} == {'train': 219, 'val': 50, 'test': 100}
    assert sorted(name for cases in splits.values() for name in cases) == names
    assert split_cases(names[::-1]) == splits
    assert split_cases(names, seed=1) != splits
    assert splits['val'][:2] == ['BraTS20_Training_014', 'BraTS20_Training_032']  # recorded: no split may move


@pytest.mark.parametrize('proportion', [(1, 2), (0, 0, 0), (-1, 1, 1), (float('nan'), 1, 1)])
def test_a_wrong_proportion_is_refused(proportion):
    with pytest.raises(InputError, match='three numbers of at least 0'):
        split_cases(['a'], proportion)


def test_an_empty_split_is_refused(tmp_path):
    npy_case(tmp_path)
    with pytest.raises(InputError, match="the split 'val' is empty, 1 cases"):
        BraTS(tmp_path, 'val', proportion=(1, 0, 0))


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(InputError, match='no folder'):
        BraTS(tmp_path / 'gone')
    with pytest.raises(InputError, match=r'no case; expected <case>/<case>_flair\.nii\.gz'):
        BraTS(tmp_path)
    npy_case(tmp_path)
    with pytest.raises(NameNotFound, match="split of BraTS named 'trian'"):
        BraTS(tmp_path, 'trian')
    with pytest.raises(NameNotFound, match="layout of BraTS named 'np'"):
        BraTS(tmp_path, layout='np')
    with pytest.raises(InputError, match='least is a number of voxels'):
        BraTS(tmp_path, least=0)
    with pytest.raises(NameNotFound, match='flare'):
        BraTS(tmp_path, modalities=['flare'])


def test_a_single_file_can_be_read(tmp_path):
    arrays = official_case(tmp_path)
    found = BraTS.read_input('t1', tmp_path / 'case_1' / 'case_1_t1.nii.gz')
    inside = arrays['t1'][BRAIN].astype(float)
    np.testing.assert_allclose(found[0], (arrays['t1'] - inside.mean()) / inside.std(), atol=1e-5)


@pytest.mark.parametrize('name', ['brats', 'brain_phantoms'])
def test_the_config_has_the_rows_of_published_tables(name):
    rows = 'T2 T1c T1 F T1cT2 T1T1c FT1 T1T2 FT2 FT1c FT1T1c FT1T2 FT1cT2 T1T1cT2 FT1T1cT2'.split()
    letters = {'F': 'flair', 'T1c': 't1ce', 'T1': 't1', 'T2': 't2'}

    def names(row):
        found = set()
        for letter, modality in letters.items():
            if letter in row:
                found.add(modality)
                row = row.replace(letter, '')
        return found

    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    assert [set(s) for s in parse_subsets(cfg.test_cfg.subsets, SEQUENCES)] == [names(row) for row in rows]
