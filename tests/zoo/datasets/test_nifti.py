"""NIfTI files: what is read, and what is refused by name."""

import numpy as np
import pytest

from registry import InputError
from zoo.datasets.nifti import Volume, check_same_grid, find_nifti, read_nifti

nibabel = pytest.importorskip('nibabel')

SIZE = (3, 4, 5)


def write(file, array, affine=None):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), file)
    return file


@pytest.mark.parametrize('suffix', ['.nii', '.nii.gz'])
def test_values_and_affine_come_back(tmp_path, suffix):
    array = np.arange(60, dtype=np.int16).reshape(SIZE)
    affine = np.diag([-1, -1, 1, 1.0])
    file = write(tmp_path / f'a_t1{suffix}', array, affine)
    read = read_nifti(file)
    np.testing.assert_array_equal(read.array, array)
    np.testing.assert_array_equal(read.affine, affine)
    assert read.array.dtype == np.float32
    assert find_nifti(tmp_path, 'a_t1') == file
    assert find_nifti(tmp_path, 'a_t2') is None


def test_the_scale_of_the_header_is_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(SIZE), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nibabel.save(image, tmp_path / 'a.nii')
    stored = nibabel.load(tmp_path / 'a.nii').get_fdata()
    np.testing.assert_array_equal(read_nifti(tmp_path / 'a.nii').array, stored.astype(np.float32))


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'gone\.nii: no such file'):
        read_nifti(tmp_path / 'gone.nii')
    (tmp_path / 'text.nii').write_text('no volume')
    with pytest.raises(InputError, match=r'text\.nii: can not be read as NIfTI'):
        read_nifti(tmp_path / 'text.nii')
    whole = write(tmp_path / 'cut.nii.gz', np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16))
    whole.write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(InputError, match=r'cut\.nii\.gz: can not be read as NIfTI'):
        read_nifti(whole)


@pytest.mark.parametrize(
    ('place', 'values'),
    [
        (108, np.float32(100)),  # where the voxels begin: in the header
        (70, np.int16(99)),  # no known type
        (42, np.int16(99)),  # more voxels than follow
        (70, np.array([128, 24], np.int16)),  # colours
    ],
)
def test_a_damaged_header_is_one_line_with_the_file(tmp_path, place, values):
    file = write(tmp_path / 'a.nii', np.zeros(SIZE, np.float32))
    content = bytearray(file.read_bytes())
    content[place : place + values.nbytes] = values.tobytes()
    file.write_bytes(content)
    with pytest.raises(InputError, match=r'a\.nii: can not be read as NIfTI') as caught:
        read_nifti(file)
    assert '\n' not in str(caught.value)


def test_four_dimensions_are_refused(tmp_path):
    with pytest.raises(InputError, match=r'three dimensions, got the shape \(2, 3, 4, 5\)'):
        read_nifti(write(tmp_path / 'a.nii', np.zeros((2, 3, 4, 5), np.float32)))


def test_grids_must_agree(tmp_path):
    first = Volume(tmp_path / 'a.nii', np.zeros(SIZE), np.eye(4))
    check_same_grid([first, Volume(tmp_path / 'b.nii', np.zeros(SIZE), np.eye(4) + 1e-5)])
    with pytest.raises(InputError, match=r'b\.nii: its shape is \(5, 4, 3\), that of a\.nii is \(3, 4, 5\)'):
        check_same_grid([first, Volume(tmp_path / 'b.nii', np.zeros(SIZE[::-1]), np.eye(4))])
    for wrong in (np.diag([2.0, 1, 1, 1]), np.full((4, 4), np.nan)):
        with pytest.raises(InputError, match=r'b\.nii: its affine differs from that of a\.nii'):
            check_same_grid([first, Volume(tmp_path / 'b.nii', np.zeros(SIZE), wrong)])
