"""One of a few fixed views of a sample: as it is, rotated, shifted or blurred."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from registry import TRANSFORMS, InputError, unknown_name

from .affine import Warp
from .draws import number
from .frequency_filter import frequency_filter
from .geometry import Geometry, Move, names_of, stay

VIEWS = ('original', 'rotated', 'shifted', 'blurred')


@TRANSFORMS.register_module()
class RandomView(Geometry):
    """Takes one of a few views of a sample, each with the same probability, for all modalities alike.

    The augmentation of MAIL (KDD 2026), which adds a rotated, a shifted and a blurred copy to each training image, is
    the same in expectation; `AllViews` makes these copies. What comes in from outside is 0, in a mask `IGNORE`.
    Images are interpolated bilinearly, masks take the nearest pixel and are not blurred.

    Args:
        views: A subset of original, rotated, shifted and blurred.
        degrees: The angle of the rotation, counter-clockwise about the centre.
        shift: How far to the right and how far down, in pixels of the image as it comes: after a `Resize`.
        blur: The side of the Gaussian kernel in pixels, odd; see `frequency_filter`.
        nearest: The modalities that take the nearest pixel and are not blurred, see `Resize`.

    Raises:
        NameNotFound: An unknown view.
        InputError: No view at all, or an argument out of its range.
    """

    def __init__(
        self,
        views: Sequence[str] | str = VIEWS,
        degrees: float = 20.0,
        shift: Sequence[float] = (5, 5),
        blur: int = 3,
        nearest: Sequence[str] | str = (),
    ) -> None:
        self.views, self.nearest = names_of(views), names_of(nearest)
        for view in self.views:
            if view not in VIEWS:
                raise unknown_name('view of RandomView', view, VIEWS)
        if not self.views:
            raise InputError(f'RandomView needs at least one of {", ".join(VIEWS)}.')
        self.degrees = number('The degrees of RandomView', degrees, -180, 180)
        try:
            x, y = shift
        except (TypeError, ValueError):
            raise InputError(f'The shift of RandomView is a pair (right, down) in pixels, got {shift!r}.') from None
        self.shift = number('The shift of RandomView', x, -1e4, 1e4), number('The shift of RandomView', y, -1e4, 1e4)
        if not isinstance(blur, int) or blur < 1 or blur % 2 == 0:
            raise InputError(f'The blur of RandomView is an odd number of pixels, got {blur!r}.')
        self.blur = blur

    def draw(self, height: int, width: int) -> Move:
        view = self.views[int(torch.randint(len(self.views), ()))]
        if view == 'original':
            return stay
        if view == 'blurred':
            return partial(_blurred, size=self.blur)
        if view == 'shifted':
            x, y = self.shift
            return Warp(np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float), (height, width))
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        x, y = width / 2, height / 2
        turn = [[cos, sin, x - cos * x - sin * y], [-sin, cos, y + sin * x - cos * y], [0, 0, 1]]
        return Warp(np.array(turn), (height, width))


def _blurred(x: Tensor, size: int) -> Tensor:
    if not isinstance(x, tv_tensors.Image):
        return x
    plain = x.as_subclass(Tensor)
    blurred = frequency_filter(plain, size, 'blur_low')
    return blurred if plain.is_floating_point() else blurred.round_().to(plain.dtype)
