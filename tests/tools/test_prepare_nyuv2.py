"""The preparation tool, on tiny files in the official formats."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from zoo.datasets import IGNORE, NYUv2

h5py = pytest.importorskip('h5py')

COUNT, H, W = 5, 6, 8
ARRAYS = ('images', 'depths', 'rawDepths', 'labels')


def official():
    """What MATLAB would hold, images last: (H, W, 3, N) and (H, W, N)."""
    rng = np.random.default_rng(0)
    depths = rng.uniform(0.7, 9.9, (H, W, COUNT)).astype(np.float32)
    return {
        'images': rng.integers(0, 256, (H, W, 3, COUNT), dtype=np.uint8),
        'depths': depths,
        'rawDepths': np.where(rng.random((H, W, COUNT)) < 0.3, 0, depths).astype(np.float32),
        'labels': rng.integers(0, 895, (H, W, COUNT), dtype=np.uint16),
    }


MAPPING = np.random.default_rng(1).integers(1, 41, (1, 894))
MAPPING_13 = np.random.default_rng(2).integers(1, 14, (1, 40))


def write_mat(path, arrays):
    with h5py.File(path, 'w') as file:
        for name, array in arrays.items():
            file[name] = array.T  # HDF5 counts MATLAB's axes from the other end


@pytest.fixture
def source(tmp_path):
    write_mat(tmp_path / 'nyu.mat', official())
    savemat(tmp_path / 'splits.mat', {'trainNdxs': np.array([[2], [4], [5]]), 'testNdxs': np.array([[1], [3]])})
    savemat(tmp_path / 'map.mat', {'mapClass': MAPPING, 'className': np.array(['wall'], object)})
    savemat(tmp_path / 'map13.mat', {'classMapping13': {'labels1to13': MAPPING_13, 'names': 'x'}})
    return tmp_path


@pytest.fixture
def prepare(here, source):
    def run(*more, **files):
        files = {'mat': 'nyu.mat', 'splits': 'splits.mat', 'mapping': 'map.mat', **files}
        return here(
            'prepare_nyuv2',
            files['mat'],
            '--splits',
            files['splits'],
            '--mapping',
            files['mapping'],
            '--out',
            'out',
            *more,
        )

    return run


def pixels(path):
    return np.asarray(Image.open(path))


def test_the_folders_hold_the_official_scenes(prepare, source):
    code, out, err = prepare('--mapping-13', 'map13.mat')
    assert code == 0, err
    assert '3 train and 2 test scenes' in out
    folder = source / 'out'
    assert (folder / 'train.txt').read_text() == '0002\n0004\n0005\n'
    assert (folder / 'test.txt').read_text() == '0001\n0003\n'
    truth = official()
    for split, numbers in (('train', (2, 4, 5)), ('test', (1, 3))):
        for number in numbers:
            found = {f: pixels(folder / split / f / f'{number:04d}.png') for f in ('rgb', 'depth', 'depth_raw')}
            i = number - 1
            assert np.array_equal(found['rgb'], truth['images'][..., i])
            for name, array in (('depth', truth['depths']), ('depth_raw', truth['rawDepths'])):
                assert found[name].dtype == np.uint16
                assert np.abs(found[name] - (1000.0 * array[..., i] - 0.5)).max() <= 0.501
            labels = truth['labels'][..., i]
            by_hand = np.array([[MAPPING[0, v - 1] if v else 0 for v in row] for row in labels])
            assert np.array_equal(pixels(folder / split / 'labels_40' / f'{number:04d}.png'), by_hand)
            by_hand = np.array([[MAPPING_13[0, v - 1] if v else 0 for v in row] for row in by_hand])
            assert np.array_equal(pixels(folder / split / 'labels_13' / f'{number:04d}.png'), by_hand)


def test_the_data_set_reads_what_was_written(prepare, source):
    assert prepare()[0] == 0
    data = NYUv2(source / 'out', 'test', size=(H, W))
    truth = official()
    assert len(data) == 2
    sample = data[1]
    assert torch.equal(sample['inputs']['rgb'].permute(1, 2, 0), torch.from_numpy(truth['images'][..., 2]))
    void = torch.from_numpy(truth['labels'][..., 2] == 0)
    assert torch.equal(sample['target'] == IGNORE, void)
    assert not (source / 'out' / 'test' / 'labels_13').exists()
    assert len(NYUv2(source / 'out')) == 3


def test_a_second_run_writes_only_what_is_missing(prepare, source):
    prepare()
    folder = source / 'out' / 'train'
    (folder / 'depth' / '0004.png').unlink()
    Image.new('RGB', (W, H)).save(folder / 'rgb' / '0002.png')  # would be another picture if written again
    code, out, _ = prepare()
    assert code == 0
    assert '1 of them written now' in out
    assert (folder / 'depth' / '0004.png').is_file()
    assert not pixels(folder / 'rgb' / '0002.png').any()
    assert not list((source / 'out').rglob('.*'))


def test_an_interrupted_run_leaves_no_half_files_and_no_lists(prepare, source, monkeypatch):
    saved = Image.Image.save
    calls = []

    def fail(self, file, format=None):
        calls.append(file)
        saved(self, file, format=format)
        if len(calls) == 3:
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Image.Image, 'save', fail)
    code, _, err = prepare()
    assert code == 2
    assert 'No space left on device' in err
    files = [f.name for f in (source / 'out').rglob('*') if f.is_file()]
    assert files == ['0002.png', '0002.png']
    monkeypatch.undo()
    monkeypatch.chdir(source)


def change(**arrays):
    return lambda path: write_mat(
        path / 'nyu.mat', {k: v for k, v in {**official(), **arrays}.items() if v is not None}
    )


def save(name, **arrays):
    return lambda path: savemat(path / name, arrays)


DEEP = official()['depths'].copy()
DEEP[0, 0, 1] = 70
HOLE = official()['rawDepths'].copy()
HOLE[0, 0, 1] = np.nan
LABELS = official()['labels'].copy()
LABELS[0, 0, 1] = 895


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda p: (p / 'nyu.mat').unlink(), 'nyu.mat: no such file'),
        (lambda p: (p / 'nyu.mat').write_text('x'), 'nyu.mat: can not be read as HDF5'),
        (lambda p: (p / 'splits.mat').unlink(), 'splits.mat: no such file'),
        (lambda p: (p / 'splits.mat').write_bytes(b'x' * 500), 'splits.mat: can not be read as a MATLAB file'),
        (lambda p: (p / 'map.mat').write_bytes(b''), 'map.mat: can not be read as a MATLAB file'),
        (change(rawDepths=None), 'nyu.mat: expected an array rawDepths of 3 dimensions'),
        (change(depths=official()['images']), 'nyu.mat: expected an array depths of 3 dimensions'),
        (change(labels=official()['labels'][..., :3]), 'nyu.mat: labels has the shape (3, 8, 6)'),
        (change(images=official()['images'][:, :, :2]), 'images has the shape (5, 2, 8, 6)'),
        (change(depths=DEEP), 'a depth of scene 2 is not within 0..65.535 m'),
        (change(rawDepths=HOLE), 'a depth of scene 2 is not within 0..65.535 m'),
        (change(labels=LABELS), 'label 895 of scene 2 is above 894'),
        (save('splits.mat', trainNdxs=[1]), 'splits.mat: expected an array of numbers testNdxs'),
        (save('splits.mat', trainNdxs=[1, 2], testNdxs=[2]), 'splits.mat: a scene is named twice'),
        (save('splits.mat', trainNdxs=[1, 2], testNdxs=[]), 'splits.mat: testNdxs is empty'),
        (save('splits.mat', trainNdxs=[1], testNdxs=[6]), 'its test numbers are 6..6, but nyu.mat holds 1..5'),
        (save('splits.mat', trainNdxs=[0], testNdxs=[2]), 'its train numbers are 0..0, but nyu.mat holds 1..5'),
        (save('map.mat', mapClass='text'), 'map.mat: expected an array of numbers mapClass'),
        (save('map.mat', mapClass=[1, 41]), 'map.mat: expected classes 1..40 in its table'),
    ],
)
def test_a_file_that_does_not_fit_is_named_in_one_line(prepare, source, spoil, message):
    spoil(source)
    code, _, err = prepare()
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'mapClass': [1]}, 'map13.mat: expected a struct classMapping13'),
        ({'classMapping13': {'labels': [[1, 2, 3]]}}, 'map13.mat: expected a table of 40 classes, got 3'),
        ({'classMapping13': {'labels': MAPPING_13 + 1}}, 'map13.mat: expected classes 1..13'),
    ],
)
def test_a_table_of_13_classes_that_does_not_fit_is_named(prepare, source, content, message):
    savemat(source / 'map13.mat', content)
    code, _, err = prepare('--mapping-13', 'map13.mat')
    assert code == 2
    assert message in err


def test_a_missing_h5py_says_how_to_get_it(prepare, monkeypatch):
    monkeypatch.setitem(sys.modules, 'h5py', None)
    code, _, err = prepare()
    assert code == 2
    assert "needs h5py: pip install 'counterpoise[nyuv2]'" in err
