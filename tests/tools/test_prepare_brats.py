"""The preparation tool, on tiny files in the official layout."""

import sys

import numpy as np
import pytest
import torch

from zoo.datasets import BraTS

nibabel = pytest.importorskip('nibabel')

SIZE = (12, 10, 9)
SEQUENCES = ('flair', 't1ce', 't1', 't2')
NAMES = ['case_1', 'case_2', 'case_3']


def write(folder, name, array):
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f'{folder.name}_{name}.nii.gz')


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for name in NAMES:
        brain = np.zeros(SIZE, bool)
        brain[2:9, 1:10, 3:7] = True
        for m in SEQUENCES:
            write(tmp_path / 'official' / name, m, (rng.integers(1, 900, SIZE) * brain).astype(np.int16))
        write(tmp_path / 'official' / name, 'seg', (rng.choice([0, 1, 2, 4], SIZE) * brain).astype(np.uint8))
    return tmp_path / 'official'


@pytest.fixture
def prepare(here, source):
    def run(*more):
        return here('prepare_brats', 'official', '--out', 'out', '--least', 5, '--proportion', 1, 1, 1, *more)

    return run


def test_the_data_set_reads_the_same_from_both_layouts(prepare, source):
    code, out, err = prepare()
    assert code == 0, err
    assert '3 cases (1 train, 1 val, 1 test), 3 of them written now' in out
    folder = source.parent / 'out'
    assert sorted((folder / f'{s}.txt').read_text().strip() for s in ('train', 'val', 'test')) == NAMES
    for split in ('train', 'val', 'test'):
        prepared, official = BraTS(folder, split), BraTS(source, split, proportion=(1, 1, 1), least=5)
        assert prepared.layout == 'npy'
        assert prepared.cases == official.cases
        torch.testing.assert_close(prepared[0]['inputs'], official[0]['inputs'], rtol=0, atol=0)
        assert torch.equal(prepared[0]['target'], official[0]['target'])


def test_the_files_are_as_others_have_them(prepare, source):
    prepare()
    volume = np.load(source.parent / 'out' / 'vol' / 'case_1_vol.npy')
    labels = np.load(source.parent / 'out' / 'seg' / 'case_1_seg.npy')
    assert (volume.dtype, volume.shape) == (np.float32, (7, 9, 5, 4))
    assert (labels.dtype, labels.shape) == (np.uint8, (7, 9, 5))
    assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_a_second_run_writes_only_what_is_missing_and_keeps_lists(prepare, source):
    prepare()
    folder = source.parent / 'out'
    (folder / 'seg' / 'case_2_seg.npy').unlink()
    np.save(folder / 'vol' / 'case_1_vol.npy', np.zeros(3))  # would be another array if written again
    (folder / 'train.txt').write_text('case_3\n')
    code, out, err = prepare()
    assert code == 0, err
    assert '1 of them written now' in out
    assert (folder / 'seg' / 'case_2_seg.npy').is_file()
    assert np.load(folder / 'vol' / 'case_1_vol.npy').shape == (3,)
    assert (folder / 'train.txt').read_text() == 'case_3\n'
    assert not list(folder.rglob('.*'))


def test_an_interrupted_run_leaves_no_half_files_and_no_lists(prepare, source, monkeypatch):
    saved, calls = np.save, []

    def fail(file, array):
        calls.append(file)
        saved(file, array)
        if len(calls) == 3:
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'save', fail)
    code, _, err = prepare()
    assert code == 2
    assert 'case_2_vol.npy: can not be written (No space left on device)' in err
    found = sorted(f.name for f in (source.parent / 'out').rglob('*') if f.is_file())
    assert found == ['case_1_seg.npy', 'case_1_vol.npy', 'prepared.json']


def test_a_missing_sequence_is_an_error_or_a_channel_of_nan(prepare, source):
    (source / 'case_2' / 'case_2_t1ce.nii.gz').unlink()
    code, _, err = prepare()
    assert code == 2
    assert 'case_2_t1ce.nii.gz: no such file' in err
    assert len(err.strip().splitlines()) == 1
    assert prepare('--allow-missing')[0] == 0
    folder = source.parent / 'out'
    volume = np.load(folder / 'vol' / 'case_2_vol.npy')
    assert np.isnan(volume).all((0, 1, 2)).tolist() == [False, True, False, False]
    data = {BraTS(folder, s).cases[0]: BraTS(folder, s, allow_missing=True)[0] for s in ('train', 'val', 'test')}
    assert data['case_2']['present'].tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ('break_it', 'message'),
    [
        (lambda s: write(s / 'case_1', 't2', np.ones((12, 10, 8), np.int16)), r'case_1_t2.nii.gz: its shape is'),
        (lambda s: write(s / 'case_1', 'seg', np.full(SIZE, 7, np.uint8)), 'case_1_seg.nii.gz: unknown label 7'),
        (lambda s: (s / 'case_1' / 'case_1_t1.nii.gz').write_bytes(b'x'), 'case_1_t1.nii.gz: can not be read as NIfTI'),
        (lambda s: (s / 'case_1' / 'case_1_seg.nii.gz').unlink(), 'case_1_seg.nii.gz: no such file'),
    ],
)
def test_bad_input_is_one_line_with_the_file(prepare, source, break_it, message):
    break_it(source)
    code, _, err = prepare()
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_list_with_an_unknown_case_is_found_before_the_work(prepare, source):
    (source.parent / 'out').mkdir()
    (source.parent / 'out' / 'val.txt').write_text('case_9\n')
    code, _, err = prepare()
    assert code == 2
    assert "named 'case_9'" in err
    assert not (source.parent / 'out' / 'vol').exists()


def test_a_folder_holds_cases_of_one_kind(prepare, source):
    assert prepare()[0] == 0
    code, _, err = prepare('--least', 9)
    assert code == 2
    assert "'least': 9" in err
    assert 'use another --out' in err


def test_cases_that_came_later_and_are_in_no_list_are_counted(prepare, source):
    assert prepare()[0] == 0
    for file in sorted((source / 'case_1').iterdir()):
        (source / 'case_8').mkdir(exist_ok=True)
        (source / 'case_8' / file.name.replace('case_1', 'case_8')).write_bytes(file.read_bytes())
    code, out, _ = prepare()
    assert code == 0
    assert '1, case_8 first' in ' '.join(out.split())


def test_wrong_arguments_are_one_line(here, source):
    for arguments, message in (
        (('gone', '--out', 'out'), 'gone: no such folder'),
        (('official', '--out', 'out', '--least', 0), 'least is a number of voxels'),
        (('official', '--out', 'out', '--proportion', 0, 0, 0), 'proportion is three numbers'),
        (('official/case_1', '--out', 'out'), 'official/case_1: no case'),
    ):
        code, _, err = here('prepare_brats', *arguments)
        assert code == 2
        assert message in err


def test_without_nibabel_it_says_what_to_install(prepare, monkeypatch):
    monkeypatch.setitem(sys.modules, 'nibabel', None)
    code, _, err = prepare()
    assert code == 2
    assert "needs nibabel: pip install 'counterpoise[brats]'" in err
