"""What is done to the sequences of one head before anything is learnt from them."""

from collections.abc import Mapping

import numpy as np

from registry import InputError


def brain_mask(volumes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Where any sequence is not 0: skull-stripped images are 0 outside the brain.

    The published code takes the voxels whose sum is above 0, which is the same for images without negative values.

    Args:
        volumes: Sequence to array (D, H, W), at least one.

    Returns:
        (D, H, W) bool.
    """
    first, *others = volumes.values()
    mask = first != 0
    for volume in others:
        mask |= volume != 0
    return mask


def brain_box(mask: np.ndarray, least: int = 128) -> tuple[slice, slice, slice]:
    """The smallest box around a mask, enlarged to ``least`` voxels a side about its centre where the volume allows it.

    The published preprocessing leaves the last occupied slice out and may run past the volume; this does neither: a
    box at the border is moved inwards, and a volume smaller than ``least`` is kept whole.

    >>> mask = np.zeros((10, 10, 10), bool)
    >>> mask[2:5, 9, 0] = True
    >>> brain_box(mask, least=4)
    (slice(1, 5, None), slice(6, 10, None), slice(0, 4, None))

    Args:
        mask: (D, H, W) bool.
        least: Voxels, at least 1.

    Raises:
        InputError: Nothing in the mask.
    """
    box = []
    for axis, size in enumerate(mask.shape):
        occupied = np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(occupied):
            raise InputError('every voxel is 0')
        start, stop = int(occupied[0]), int(occupied[-1]) + 1
        length = min(max(stop - start, least), size)
        start = min(max(0, (start + stop - length) // 2), size - length)
        box.append(slice(start, start + length))
    return tuple(box)


def standardise(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``(x - mean) / std`` with the statistics of the voxels in the mask.

    As in the published preprocessing the voxels outside are transformed too: they become one negative value, not 0.

    Args:
        volume: (D, H, W).
        mask: (D, H, W) bool.

    Returns:
        (D, H, W) float32.

    Raises:
        InputError: The volume is constant in the mask, or not finite.
    """
    inside = volume[mask].astype(np.float64)
    mean, std = inside.mean(), inside.std()
    if not np.isfinite(std):
        raise InputError('it holds NaN or Inf')
    if std == 0:
        raise InputError('it is constant inside the brain')
    return ((volume - np.float32(mean)) / np.float32(std)).astype(np.float32, copy=False)
