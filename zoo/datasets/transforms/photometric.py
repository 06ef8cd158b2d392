"""Changes of colour, which leave every pixel where it is."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from registry import TRANSFORMS, InputError

from ..base import Sample
from .draws import interval, uniform
from .geometry import names_of

TOP = np.array([360, 1, 1], np.float32)  # of hue, saturation and value as OpenCV has them


def scale_hsv(image: Tensor, factors: Sequence[float], shift: float = 0.0) -> Tensor:
    """Multiply hue, saturation and value, each cut at its top, and turn the hue; only turning wraps around.

    Computed in float32 and rounded: at most 1 off the exact result.

    Args:
        image: (3, H, W) uint8, red first.
        factors: Of hue, saturation and value, each at least 0.
        shift: Added to the hue, a share of the full circle in -1..1.

    Returns:
        uint8 of the same shape, in memory (H, W, 3).

    Raises:
        InputError: ``image`` is of another shape or type.
    """
    if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
        raise InputError(f'Expected a colour image of uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}.')
    import cv2  # five times as fast as the same in torch

    pixels = np.multiply(image.permute(1, 2, 0).numpy(), np.float32(1 / 255), dtype=np.float32, order='C')
    cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV, dst=pixels)
    rows, width = pixels.reshape(len(pixels), -1), pixels.shape[1]  # whole rows: numpy is slow over three channels
    np.multiply(rows, np.tile(np.asarray(factors, np.float32), width), out=rows)
    np.minimum(rows, np.tile(TOP, width), out=rows)
    if shift:
        hue = cv2.extractChannel(pixels, 0) + np.float32(360 * shift)
        cv2.insertChannel(hue - 360 * np.floor(hue / 360), pixels, 0)
    cv2.cvtColor(pixels, cv2.COLOR_HSV2RGB, dst=pixels)
    return torch.from_numpy(cv2.convertScaleAbs(pixels, alpha=255)).permute(2, 0, 1)


@TRANSFORMS.register_module()
class RandomHSV:
    """Multiplies hue, saturation and value of colour images by factors drawn uniformly, see `scale_hsv`.

    The defaults are ESANet's. YOLO's gains of 0.015, 0.7 and 0.4 are ``h=(-0.015, 0.015), s=(0.3, 1.7), v=(0.6, 1.4),
    shift_hue=True``; it computes them in 8 bits with 180 steps of hue, which rounds more coarsely.

    Args:
        h: The smallest and the largest factor of the hue, at least 0.
        s: The same of the saturation.
        v: The same of the value.
        modalities: Which inputs, each with factors of its own; one that a sample lacks is skipped.
        shift_hue: ``h`` is added to the hue instead, as a share of the full circle in -1..1.

    Raises:
        InputError: Factors that are no such pair; later an image that is not of three uint8 channels.
    """

    def __init__(
        self,
        h: Sequence[float] = (0.9, 1.1),
        s: Sequence[float] = (0.9, 1.1),
        v: Sequence[float] = (0.9, 1.1),
        modalities: Sequence[str] | str = ('rgb',),
        shift_hue: bool = False,
    ) -> None:
        self.limits = [interval(f'factor {name} of RandomHSV', x) for name, x in (('h', h), ('s', s), ('v', v))]
        if min(low for low, _ in self.limits[shift_hue:]) < 0:
            raise InputError(f'The factors of RandomHSV are at least 0, got h={h!r}, s={s!r}, v={v!r}.')
        if shift_hue and max(map(abs, self.limits[0])) > 1:
            raise InputError(f'With shift_hue the h of RandomHSV is a share of the circle in -1..1, got {h!r}.')
        self.modalities, self.shift_hue = names_of(modalities), shift_hue

    def __call__(self, sample: Sample) -> Sample:
        """A sample with other colours; the given one stays as it is."""
        inputs = dict(sample['inputs'])
        for m in self.modalities:
            if m in inputs:
                h, s, v = (uniform(x) for x in self.limits)
                factors, shift = ([1, s, v], h) if self.shift_hue else ([h, s, v], 0.0)
                try:
                    inputs[m] = scale_hsv(inputs[m], factors, shift)
                except InputError as error:
                    raise InputError(f'RandomHSV of {m}: {error}') from None
        return {**sample, 'inputs': inputs}


@TRANSFORMS.register_module()
class RandomGain:
    """Multiplies images by one factor and adds one number, as sensors without colour differ in contrast and level.

    Images of 8 bits are rounded and cut to 0..255, others are not.

    Args:
        modalities: Which inputs, each with draws of its own; one that a sample lacks is skipped.
        gain: The smallest and the largest factor, at least 0.
        offset: The smallest and the largest number to add, in units of the image.

    Raises:
        InputError: Limits that are no such pair.
    """

    def __init__(
        self,
        modalities: Sequence[str] | str,
        gain: Sequence[float] = (0.9, 1.1),
        offset: Sequence[float] = (0.0, 0.0),
    ) -> None:
        self.modalities = names_of(modalities)
        self.gain, self.offset = interval('gain of RandomGain', gain), interval('offset of RandomGain', offset)
        if self.gain[0] < 0:
            raise InputError(f'The gain of RandomGain is at least 0, got {gain!r}.')

    def __call__(self, sample: Sample) -> Sample:
        """A sample with other values; the given one stays as it is."""
        inputs = dict(sample['inputs'])
        for m in self.modalities:
            if m in inputs:
                x = inputs[m]
                changed = x.float() * uniform(self.gain) + uniform(self.offset)
                inputs[m] = changed.round_().clamp_(0, 255).to(x.dtype) if x.dtype == torch.uint8 else changed
        return {**sample, 'inputs': inputs}
