"""Inputs whose sides an encoder can halve: checks, and padding where the host pads."""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F

from registry import InputError
from zoo.batch import Batch
from zoo.host import MultimodalHost


def check_padding(pad_to: int | None, multiple: int) -> None:
    """Refuse to pad to what is no multiple of the coarsest map.

    Raises:
        InputError: See above.
    """
    if pad_to is not None and (not isinstance(pad_to, int) or pad_to < 1 or pad_to % multiple):
        raise InputError(f'pad_to must be a multiple of {multiple}, the coarsest map, got {pad_to!r}.')


def padded_size(size: Sequence[int], pad_to: int | None) -> list[int]:
    """The sides after padding.

    >>> padded_size((90, 128), 32), padded_size((90, 128), None)
    ([96, 128], [90, 128])
    """
    return [-(-s // pad_to) * pad_to for s in size] if pad_to else list(size)


def padded(host: MultimodalHost, batch: Batch) -> Batch:
    """The batch with inputs whose sides are multiples of the coarsest map's reduction, ``host.multiple``; zeros are
    added below and to the right where the host pads (``host.pad_to``).

    Raises:
        InputError: They are not, and the host does not pad; inputs of other channels than ``host.in_chans``, of
            different sizes, or of integers.
    """
    size = batch.inputs[host.modalities[0]].shape[2:]
    for m, x in batch.inputs.items():
        if x.shape[1:] != (host.in_chans[m], *size):
            raise InputError(
                f'{m} must be (B, {host.in_chans[m]}, {size[0]}, {size[1]}), by in_chans and the first modality, '
                f'got {tuple(x.shape)}.'
            )
        if not x.is_floating_point():
            raise InputError(
                f'{m} must hold floating point numbers, as the data preprocessor makes them, got {x.dtype}.'
            )
    pad = [p - s for p, s in zip(padded_size(size, host.pad_to), size)]
    if any(pad):
        padding = [0, pad[1], 0, pad[0]]
        return batch.replace(inputs={m: F.pad(x, padding) for m, x in batch.inputs.items()})
    if any(s % host.multiple for s in size):
        raise InputError(
            f'{type(host).__name__} takes images whose sides are multiples of {host.multiple}, got '
            f'{size[0]}x{size[1]} (H x W). Resize them, or give the host pad_to={host.multiple}.'
        )
    return batch


def check_images(batch: Batch, in_chans: Mapping[str, int]) -> None:
    """Refuse inputs that are not floating point images (B, in_chans, H, W) of one size.

    Raises:
        InputError: Names the modality.
    """
    size = None
    for m, x in batch.inputs.items():
        if x.ndim != 4 or x.shape[1] != in_chans[m] or not x.is_floating_point():
            raise InputError(
                f'{m} must be floating point images (B, {in_chans[m]}, H, W), by in_chans, got {x.dtype} '
                f'{tuple(x.shape)}.'
            )
        size = size or x.shape[2:]
        if x.shape[2:] != size:
            raise InputError(f'{m} is {tuple(x.shape[2:])} (H x W) where the first modality is {tuple(size)}.')
