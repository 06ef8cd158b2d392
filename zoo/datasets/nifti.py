"""Volumes in NIfTI files."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from registry import InputError

SUFFIXES = ('.nii.gz', '.nii')
TOLERANCE = 1e-3  # of the entries of an affine, millimetres


class Volume(NamedTuple):
    """The content of one file."""

    file: Path
    array: np.ndarray  # (D, H, W), the axes in the order of the file
    affine: np.ndarray  # (4, 4), voxel to millimetres


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
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f'{file}: can not be read as NIfTI ({error}).') from None
    if array.ndim != 3:
        raise InputError(f'{file}: expected a volume of three dimensions, got the shape {array.shape}.')
    return Volume(file, array, image.affine)


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
