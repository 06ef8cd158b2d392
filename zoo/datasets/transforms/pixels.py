"""Resizing and warping of tensors with OpenCV, which works on (H, W, C): the layout in which files are decoded."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from registry import InputError

from ..base import IGNORE

GREY = 114  # what YOLO's training fills colour images with
FEW = 4  # channels; neither warping nor averaging takes more in every version of OpenCV

Fill = float | Mapping[str, float] | None


def check_fill(owner: str, fill: Any) -> Fill:
    """``fill`` itself.

    Raises:
        InputError: It is neither None nor a finite number nor a mapping of these.
    """
    values = fill.values() if isinstance(fill, Mapping) else () if fill is None else (fill,)
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) or not math.isfinite(v) for v in values):
        raise InputError(f'The fill of {owner} is None, a number or a mapping from modality to number, got {fill!r}.')
    return fill


def fill_value(fill: Fill, modality: str, images: Iterable[Tensor]) -> float:
    """What to fill the canvas of one modality with.

    Args:
        fill: The number asked for, or modality to number; where there is none, colour images of three uint8 channels
            get 114, others their own mean over all channels.
        modality: Its name.
        images: (C, H, W) each, all that come onto the canvas.

    Raises:
        InputError: A number beyond 0..255 for images of uint8.
    """
    images = list(images)
    eight_bits = images[0].dtype == torch.uint8
    value = fill.get(modality) if isinstance(fill, Mapping) else fill
    if value is None:
        if eight_bits and len(images[0]) == 3:
            return GREY
        mean = sum(map(_mean, images)) / len(images)
        return mean if images[0].is_floating_point() else round(mean)
    if eight_bits and not 0 <= value <= 255:
        raise InputError(f'The fill of {modality}, an image of 8 bits, must lie in 0..255, got {value}.')
    return value


def mask_fill(x: Tensor) -> float:
    """`IGNORE` of a target (H, W), 0 of a modality (C, H, W)."""
    return IGNORE if x.ndim == 2 else 0


def canvas_like(x: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    """A filled (..., H, W) of the type and channels of ``x``, in memory (H, W, C)."""
    shape = (*size, *x.shape[:-2])
    return torch.full(shape, fill, dtype=x.dtype).permute(*range(2, len(shape)), 0, 1)


def resize(x: Tensor, size: Sequence[int], nearest: bool = False) -> Tensor:
    """``x`` (C, H, W) or (H, W) resized to ``size`` (H, W).

    Enlarging is bilinear, shrinking averages over the pixels that fall together; ``nearest`` takes the pixel at the
    centre instead. The type stays.
    """
    import cv2

    size = tuple(size)
    if tuple(x.shape[-2:]) == size:
        return x
    shrinks = size[0] <= x.shape[-2] and size[1] <= x.shape[-1]
    kind = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return _apply(lambda pixels: cv2.resize(pixels, size[::-1], interpolation=kind), x)


def warp(x: Tensor, matrix: np.ndarray, size: tuple[int, int], fill: float, nearest: bool = False) -> Tensor:
    """``x`` (C, H, W) or (H, W) moved by an affine map onto a canvas of ``size``, bilinearly or by nearest pixels.

    Args:
        x: uint8 or float32; other types go through float32.
        matrix: (3, 3), from points (x, y, 1) of the image to points of the canvas, the first pixel reaching from 0 to
            1. OpenCV counts from the centres of pixels, half a pixel off.
        size: (H, W) of the canvas.
        fill: What comes in from outside.
        nearest: Take the nearest pixel.
    """
    import cv2

    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    centred = (np.linalg.inv(half) @ matrix @ half)[:2]
    flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    border = (fill,) * FEW
    return _apply(lambda pixels: cv2.warpAffine(pixels, centred, size[::-1], flags=flags, borderValue=border), x)


def _apply(operate: Callable[[np.ndarray], np.ndarray], x: Tensor) -> Tensor:
    """Run a function of OpenCV over the channels of a tensor, a few at once."""
    pixels = _pixels(x)
    parts = [operate(pixels[..., c : c + FEW]) for c in range(0, pixels.shape[2], FEW)]
    parts = [p.reshape(*p.shape[:2], -1) for p in parts]  # OpenCV drops a single channel
    moved = torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts, 2)).permute(2, 0, 1)
    moved = (moved if x.is_floating_point() else moved.round()).to(x.dtype)
    return moved if x.ndim == 3 else moved.reshape(*x.shape[:-2], *moved.shape[-2:])


def _mean(x: Tensor) -> float:
    import cv2

    pixels = _pixels(x)
    return cv2.mean(pixels.reshape(len(pixels), -1))[0]


def _pixels(x: Tensor) -> np.ndarray:
    """(..., H, W) as (H, W, C) in one of the two types that every function of OpenCV takes."""
    x = x if x.dtype in (torch.uint8, torch.float32) else x.float()
    return np.ascontiguousarray(x.reshape(-1, *x.shape[-2:]).permute(1, 2, 0).numpy())
