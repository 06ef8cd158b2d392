"""Images onto canvases of another size without changing their aspect ratio."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torchvision import tv_tensors

from registry import TRANSFORMS

from ..base import image_size
from .geometry import Geometry, Move, any_area, names_of
from .pixels import Fill, canvas_like, check_fill, fill_value, mask_fill, resize


class Place(NamedTuple):
    """Where an image lies on a canvas, in pixels of the canvas."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Placement:
    """Resizes to the size of ``place`` and pastes there; the ``canvas`` (H, W) cuts off what does not fit."""

    place: Place
    canvas: tuple[int, int]

    def __call__(self, x: Tensor, fill: float | None = None) -> Tensor:
        """One of torchvision's ``tv_tensors`` on a new canvas."""
        if isinstance(x, tv_tensors.BoundingBoxes):
            return self._boxes(x)
        is_mask = isinstance(x, tv_tensors.Mask)
        plain = x.as_subclass(Tensor)
        if self.place == (0, 0, *self.canvas) == (0, 0, *plain.shape[-2:]):
            return plain
        canvas = canvas_like(plain, self.canvas, mask_fill(plain) if fill is None else fill)
        self.paste(plain, canvas, is_mask)
        return canvas

    def paste(self, x: Tensor, canvas: Tensor, nearest: bool = False) -> None:
        """Write an image into a canvas that is there already."""
        top, left, height, width = self.place
        x = resize(x, (height, width), nearest)
        up, over = max(-top, 0), max(-left, 0)
        shown = x[..., up : self.canvas[0] - top, over : self.canvas[1] - left]
        y, x0 = max(top, 0), max(left, 0)
        canvas[..., y : y + shown.shape[-2], x0 : x0 + shown.shape[-1]] = shown

    def _boxes(self, boxes: Tensor) -> Tensor:
        top, left, height, width = self.place
        old_height, old_width = boxes.canvas_size
        plain = boxes.as_subclass(Tensor)
        scale = plain.new_tensor([width / old_width, height / old_height] * 2)
        moved = plain * scale + plain.new_tensor([left, top] * 2)
        return tv_tensors.BoundingBoxes(moved, format='XYXY', canvas_size=self.canvas)


def fitted(height: int, width: int, size: tuple[int, int], scale_up: bool = True) -> tuple[int, int]:
    """The largest height and width of this aspect ratio within ``size`` (H, W), each rounded and at least 1.

    >>> fitted(512, 640, (416, 416))
    (333, 416)
    """
    factor = min(size[0] / height, size[1] / width)
    factor = factor if scale_up else min(factor, 1.0)
    return tuple(max(1, round(side * factor)) for side in (height, width))


@TRANSFORMS.register_module()
class LetterBox(Geometry):
    """Resizes to the largest size of the same aspect ratio that fits, and centres on a filled canvas.

    Enlarging is bilinear, shrinking averages over the pixels that fall together; YOLO's own shrinks bilinearly too. Of
    an odd border the smaller half lies above and to the left. Modalities of another size than the first one are
    stretched to its place.

    Args:
        size: Height and width of the canvas, or one number for both.
        fill: Of the border: a number or modality to number. None, or a modality that is not named: 114 for colour
            images of three uint8 channels, the image's own mean for others. Masks get `IGNORE`.
        scale_up: Whether to enlarge images that are smaller than the canvas.
        nearest: The modalities that take the nearest pixel, see `Resize`.

    Raises:
        InputError: A size or fill that is none; later a fill beyond 0..255 for an image of 8 bits.
    """

    any_sizes = True

    def __init__(
        self,
        size: int | Sequence[int],
        fill: Fill = None,
        scale_up: bool = True,
        nearest: Sequence[str] | str = (),
    ) -> None:
        self.size, self.scale_up, self.nearest = image_size(size), scale_up, names_of(nearest)
        self.fill = check_fill('LetterBox', fill)

    def place(self, height: int, width: int) -> Place:
        """Where an image of ``height`` x ``width`` comes to lie: (top, left, new height, new width).

        A point (x, y) of the canvas is the point ((x - left) * width / new width, (y - top) * height / new height) of
        the image.
        """
        new = fitted(height, width, self.size, self.scale_up)
        return Place((self.size[0] - new[0]) // 2, (self.size[1] - new[1]) // 2, *new)

    def draw(self, height: int, width: int) -> Move:
        return Placement(self.place(height, width), self.size)

    def move_input(self, move: Move, modality: str, x: Tensor) -> Tensor:
        return move(self.wrap(modality, x), fill_value(self.fill, modality, [x]))

    def keep(self, moved: Tensor, clipped: Tensor) -> Tensor:
        return any_area(moved, clipped)
