"""Changes of colour, which leave every pixel where it is."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from registry import TRANSFORMS, InputError

from ..base import Sample
from .draws import interval, uniform

TOP = np.array([360, 1, 1], np.float32)  # of hue, saturation and value as OpenCV has them


def scale_hsv(image: Tensor, factors: Sequence[float]) -> Tensor:
    """Multiply hue, saturation and value, each cut at its top; hue does not wrap around.

    Computed in float32 and rounded: at most 1 off the exact result.

    Args:
        image: (3, H, W) uint8, red first.
        factors: Of hue, saturation and value, each at least 0.

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
    cv2.cvtColor(pixels, cv2.COLOR_HSV2RGB, dst=pixels)
    return torch.from_numpy(cv2.convertScaleAbs(pixels, alpha=255)).permute(2, 0, 1)


@TRANSFORMS.register_module()
class RandomHSV:
    """Multiplies hue, saturation and value of colour images by factors drawn uniformly, see `scale_hsv`.

    Args:
        h: The smallest and the largest factor of the hue, at least 0.
        s: The same of the saturation.
        v: The same of the value.
        modalities: Which inputs, each with factors of its own; one that a sample lacks is skipped.

    Raises:
        InputError: Factors that are no such pair.
    """

    def __init__(
        self,
        h: Sequence[float] = (0.9, 1.1),
        s: Sequence[float] = (0.9, 1.1),
        v: Sequence[float] = (0.9, 1.1),
        modalities: Sequence[str] | str = ('rgb',),
    ) -> None:
        self.limits = [interval(f'factor {name} of RandomHSV', x) for name, x in (('h', h), ('s', s), ('v', v))]
        if min(low for low, _ in self.limits) < 0:
            raise InputError(f'The factors of RandomHSV are at least 0, got h={h!r}, s={s!r}, v={v!r}.')
        self.modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)

    def __call__(self, sample: Sample) -> Sample:
        """A sample with other colours; the given one stays as it is."""
        inputs = dict(sample['inputs'])
        for m in self.modalities:
            if m in inputs:
                inputs[m] = scale_hsv(inputs[m], [uniform(x) for x in self.limits])
        return {**sample, 'inputs': inputs}
