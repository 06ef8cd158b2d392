"""Volumes in NIfTI files."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from registry import InputError

SUFFIXES = ('.nii.gz', '.nii')
TOLERANCE = 1e-3  # of the entries of an affine, millimetres


class Volume(NamedTuple):
    """The content of one file."""

    file: Path
    array: np.ndarray  # (D, H, W), the axes in the order of the file
    affine: np.ndarray  # (4, 4), voxel to millimetres
    header: Any = None  # nibabel's


class Grid(NamedTuple):
    """Where a part of a volume lies in it, and where that lies in space."""

    shape: tuple[int, ...]  # (D, H, W) of the whole
    box: tuple[slice, ...]  # of the part
    affine: np.ndarray | None  # None: nothing is known
    header: Any = None  # nibabel's, of the first file


def find_nifti(folder: Path, stem: str) -> Path | None:
    """``<folder>/<stem>.nii.gz`` or ``.nii``, the first that exists."""
    return next((f for s in SUFFIXES if (f := folder / f'{stem}{s}').is_file()), None)


def read_nifti(file: Path) -> Volume:
    """Read one volume, values scaled as the file says, as float32.

    Raises:
        InputError: nibabel is not installed, no such file, one that can not be read, or other than three dimensions.
    """
    try:
        import nibabel
    except ImportError:
        raise InputError("Reading NIfTI files needs nibabel: pip install 'counterpoise[brats]'.") from None
    try:
        image = nibabel.load(file)
        array = np.asarray(image.dataobj, dtype=np.float32)
    except FileNotFoundError:
        raise InputError(f'{file}: no such file.') from None
    except (
        *(OSError, EOFError, ValueError, TypeError, OverflowError, zlib.error),
        *(nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError),
    ) as error:
        raise InputError(f'{file}: can not be read as NIfTI ({" ".join(str(error).split())}).') from None
    if array.ndim != 3:
        raise InputError(f'{file}: expected a volume of three dimensions, got the shape {array.shape}.')
    return Volume(file, array, image.affine, image.header)


def check_same_grid(volumes: Sequence[Volume]) -> None:
    """Refuse volumes whose voxels do not lie at the same places as those of the first one.

    Raises:
        InputError: Another shape or another affine; the message names both files.
    """
    first, *others = volumes
    for other in others:
        if other.array.shape != first.array.shape:
            raise InputError(
                f'{other.file}: its shape is {other.array.shape}, that of {first.file.name} is {first.array.shape}.'
            )
        if not (gap := np.abs(other.affine - first.affine).max()) <= TOLERANCE:
            raise InputError(
                f'{other.file}: its affine differs from that of {first.file.name} by up to {gap:.4g}: the sequences '
                'are not on one grid; register them first.'
            )


def write_labels(file: Path, labels: np.ndarray, grid: Grid) -> None:
    """Write labels of a part of a volume as a NIfTI file of the whole: its shape, affine and units, 0 outside.

    Args:
        file: ``.nii`` or ``.nii.gz``.
        labels: Integers of 0..255, of the shape of ``grid.box``.
        grid: Of the volume.

    Raises:
        InputError: The file can not be written.
    """
    import nibabel

    whole = np.zeros(grid.shape, np.uint8)
    whole[grid.box] = labels
    image = nibabel.Nifti1Image(whole, grid.affine, grid.header)
    image.set_data_dtype(np.uint8)
    image.header['cal_min'] = image.header['cal_max'] = 0  # a window of grey values, for images
    try:
        nibabel.save(image, file)
    except OSError as error:
        raise InputError(f'{file}: can not be written ({error.strerror or error}).') from None
