"""Random scaling, shifting, rotating and shearing, as YOLO's training has it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from registry import TRANSFORMS

from ..base import image_size
from .draws import number, uniform
from .geometry import Geometry, Move, names_of
from .pixels import Fill, check_fill, fill_value, mask_fill, warp

SIDE, ASPECT, SHARE = 2, 100, 0.1  # pixels, longer over shorter side, of the moved box that must remain


@dataclass(frozen=True)
class Warp:
    """An affine map of points (x, y, 1) in pixels onto a canvas of ``size`` (H, W)."""

    matrix: np.ndarray
    size: tuple[int, int]

    def __call__(self, x: Tensor, fill: float | None = None) -> Tensor:
        """One of torchvision's ``tv_tensors`` on a new canvas; of a box the box around its moved corners."""
        plain = x.as_subclass(Tensor)
        if isinstance(x, tv_tensors.BoundingBoxes):
            moved = _around(plain, torch.from_numpy(self.matrix).to(plain))
            return tv_tensors.BoundingBoxes(moved, format='XYXY', canvas_size=self.size)
        fill = mask_fill(plain) if fill is None else fill
        return warp(plain, self.matrix, self.size, fill, isinstance(x, tv_tensors.Mask))


def _around(boxes: Tensor, matrix: Tensor) -> Tensor:
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2)
    moved = corners @ matrix[:2, :2].T + matrix[:2, 2]
    return torch.cat(torch.aminmax(moved, dim=1), 1)


@TRANSFORMS.register_module()
class RandomAffine(Geometry):
    """Shears, rotates, scales and shifts about the centre of the image, onto a canvas of ``size``.

    After `Mosaic` it cuts the size out of the larger canvas, about the centre. Boxes become those around their moved
    corners, are clipped, and stay if both sides exceed 2 pixels, the longer is less than 100 times the shorter, and the
    image shows more than a tenth of them. This is the recipe of Ultralytics' YOLO; pixels are moved by their centres,
    where theirs are up to a quarter of a pixel off, and the tenth counts from the moved box, also where it is rotated.

    Args:
        size: Height and width of the canvas, or one number for both; None keeps the image's.
        degrees: The angle is drawn from [-degrees, degrees].
        translate: The centre is shifted by up to this share of the canvas, 0..1, each direction on its own.
        scale: The factor is drawn from [1 - scale, 1 + scale], 0 <= scale < 1.
        shear: The angles of shearing, in x and y, are drawn from [-shear, shear] degrees; below 90.
        fill: What comes in from outside, see `LetterBox`.
        nearest: The modalities that take the nearest pixel, see `Resize`.

    Raises:
        InputError: An argument out of its range; later a fill beyond 0..255 for an image of 8 bits.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        degrees: float = 0.0,
        translate: float = 0.1,
        scale: float = 0.5,
        shear: float = 0.0,
        fill: Fill = None,
        nearest: Sequence[str] | str = (),
    ) -> None:
        self.degrees = number('The degrees of RandomAffine', degrees, 0, 180)
        self.translate = number('The translate of RandomAffine', translate, 0, 1)
        self.scale = number('The scale of RandomAffine', scale, 0, 1, below=True)
        self.shear = number('The shear of RandomAffine', shear, 0, 90, below=True)
        self.size = None if size is None else image_size(size)
        self.fill, self.nearest = check_fill('RandomAffine', fill), names_of(nearest)

    def draw(self, height: int, width: int) -> Move:
        size = self.size or (height, width)
        angle = math.radians(uniform((-self.degrees, self.degrees)))
        factor = uniform((1 - self.scale, 1 + self.scale))
        x_shear, y_shear = (math.tan(math.radians(uniform((-self.shear, self.shear)))) for _ in range(2))
        x, y = (side * (0.5 + uniform((-self.translate, self.translate))) for side in size[::-1])
        cos, sin = factor * math.cos(angle), factor * math.sin(angle)
        to_centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])  # counter-clockwise: y points down
        shear = np.array([[1, x_shear, 0], [y_shear, 1, 0], [0, 0, 1]])
        to_canvas = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
        return Warp(to_canvas @ shear @ turn @ to_centre, size)

    def move_input(self, move: Move, modality: str, x: Tensor) -> Tensor:
        return move(self.wrap(modality, x), fill_value(self.fill, modality, [x]))

    def keep(self, moved: Tensor, clipped: Tensor) -> Tensor:
        sides, before = clipped[:, 2:] - clipped[:, :2], moved[:, 2:] - moved[:, :2]
        short, long = torch.aminmax(sides, dim=1)
        return (short > SIDE) & (long < ASPECT * short) & (sides.prod(1) > SHARE * before.prod(1))
