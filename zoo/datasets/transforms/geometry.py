"""Geometry that all modalities and the target of a sample share: one draw moves them all.

Numbers come from torch's global generator, which the engine seeds for each sample.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop
from torchvision.transforms.v2 import functional as F

from registry import TRANSFORMS, InputError, unknown_name
from zoo.batch import is_words

from ..base import Sample, image_size
from .draws import interval, probability, uniform

Move = Callable[[Tensor], Tensor]
Keep = Callable[[Tensor, Tensor], Tensor]

FLIPS = {'horizontal': F.horizontal_flip, 'vertical': F.vertical_flip}


class Geometry:
    """Base of the transforms that move pixels: a subclass draws one function and all tensors go through it.

    Images are interpolated bilinearly, masks take the nearest pixel, boxes are clipped to the image and dropped with
    less than one pixel left (those that are only resized: with no area), the sets in ``'own'`` like the others. A
    text stays, and a target that is a class.
    """

    moves_pixels = True  # a data set keeps what is no picture from it
    any_sizes = False  # True: the modalities and the mask may enter with different sizes
    nearest: tuple[str, ...] = ()  # modalities that take the nearest pixel as masks do

    def draw(self, height: int, width: int) -> Move:
        """The function for one sample of ``height`` x ``width``; it takes torchvision's ``tv_tensors``."""
        raise NotImplementedError

    def move_input(self, move: Move, modality: str, x: Tensor) -> Tensor:
        """One input (C, H, W) through the function that was drawn."""
        return move(self.wrap(modality, x))

    def wrap(self, modality: str, x: Tensor) -> Tensor:
        """An input as the ``tv_tensors`` that says how it is interpolated."""
        return (tv_tensors.Mask if modality in self.nearest else tv_tensors.Image)(x)

    def keep(self, moved: Tensor, clipped: Tensor) -> Tensor:
        """Which boxes (N, 4) stay, as bool (N,), given where they were moved and what of them the image shows."""
        return at_least_a_pixel(moved, clipped)

    def __call__(self, sample: Sample) -> Sample:
        """Move every picture and the target; the sample that was given is not changed.

        Raises:
            InputError: The modalities or the mask differ in size and this transform needs them alike.
        """
        pictures = {m: x for m, x in sample['inputs'].items() if not is_words(x)}
        if not pictures:
            return sample
        sizes = {m: tuple(x.shape[-2:]) for m, x in pictures.items()}
        size = next(iter(sizes.values()))
        if not self.any_sizes and len(set(sizes.values())) > 1:
            raise InputError(f'{type(self).__name__} needs modalities of one size, got {sizes}; put Resize before it.')
        target = sample.get('target')
        if not self.any_sizes and is_mask(target) and tuple(target.shape) != size:
            raise InputError(
                f'{type(self).__name__} needs a mask of the size {size} of its image, got {tuple(target.shape)}; '
                'Resize(inputs_only=True) comes last.'
            )
        move = self.draw(*size)
        moved = {m: _plain(self.move_input(move, m, x)) for m, x in pictures.items()}
        return {**sample, 'inputs': {**sample['inputs'], **moved}, 'target': move_target(target, move, size, self.keep)}


def at_least_a_pixel(moved: Tensor, clipped: Tensor) -> Tensor:
    """Which boxes (N, 4) have a pixel left in both directions."""
    return (clipped[:, 2:] - clipped[:, :2] >= 1).all(1)


def any_area(moved: Tensor, clipped: Tensor) -> Tensor:
    """Which boxes (N, 4) have an area: objects that are only resized are all there, however small they get."""
    return (clipped[:, 2:] > clipped[:, :2]).all(1)


def move_target(target: Any, move: Move, size: tuple[int, int], keep: Keep = at_least_a_pixel) -> Any:
    """A mask (H, W) or a dict with boxes, moved along with its image of ``size``; anything else unchanged.

    Entries as long as the boxes lose those that ``keep`` drops; the label sets in ``'own'`` are moved each by itself.
    """
    if is_mask(target):
        return _plain(move(tv_tensors.Mask(target)))
    if isinstance(target, dict) and 'boxes' in target:
        moved = move(tv_tensors.BoundingBoxes(target['boxes'], format='XYXY', canvas_size=size))
        boxes = _plain(F.clamp_bounding_boxes(moved))
        kept = keep(_plain(moved), boxes)
        rest = {k: v[kept] if goes_with_boxes(v, len(kept)) else v for k, v in target.items()}
        if 'own' in target:
            rest['own'] = {m: move_target(own, move, size, keep) for m, own in target['own'].items()}
        return {**rest, 'boxes': boxes[kept]}
    return target


def goes_with_boxes(value: Any, number: int) -> bool:
    """Whether an entry of a target has one row for each of its boxes."""
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == number


def is_mask(target: Any) -> bool:
    """Whether a target is a mask (H, W)."""
    return isinstance(target, Tensor) and target.ndim == 2


def _plain(x: Tensor) -> Tensor:
    return x.as_subclass(Tensor)


def names_of(given: Sequence[str] | str) -> tuple[str, ...]:
    """One name or several, as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if isinstance(x, tv_tensors.Mask):  # torchvision's own rule for masks lies up to half a pixel off the image
        return F.resize(_plain(x)[None], list(size), interpolation=F.InterpolationMode.NEAREST_EXACT)[0]
    return F.resize(x, list(size), antialias=True)


@TRANSFORMS.register_module()
class Resize(Geometry):
    """Resizes every modality to one size; they may differ before it. Aspect ratios are not kept.

    Shrinking averages over the pixels that fall together (anti-aliasing), where OpenCV's default skips them.

    Args:
        size: Height and width, or one number for both.
        inputs_only: Leave a mask at its own size, at which predictions are then scored; ``info['mask_size']`` says it.
            It comes last.
        nearest: The modalities whose values must not be mixed, such as depth with holes: they take the nearest pixel.
    """

    any_sizes = True

    def __init__(self, size: int | Sequence[int], inputs_only: bool = False, nearest: Sequence[str] | str = ()) -> None:
        self.size, self.inputs_only, self.nearest = image_size(size), inputs_only, names_of(nearest)

    def draw(self, height: int, width: int) -> Move:
        return partial(_resize, size=self.size)

    def keep(self, moved: Tensor, clipped: Tensor) -> Tensor:
        return any_area(moved, clipped)

    def __call__(self, sample: Sample) -> Sample:
        """See `Geometry`.

        Raises:
            InputError: ``inputs_only`` with boxes, which are scored in the image that the host sees.
        """
        if not self.inputs_only:
            return super().__call__(sample)
        target = sample.get('target')
        if isinstance(target, dict) and 'boxes' in target:
            raise InputError('Resize(inputs_only=True) is for masks: boxes move with their image.')
        moved = {**super().__call__({**sample, 'target': None}), 'target': target}
        if is_mask(target):
            moved['info'] = {**sample.get('info', {}), 'mask_size': tuple(target.shape)}
        return moved


@TRANSFORMS.register_module()
class RandomResize(Geometry):
    """Multiplies both sides by one factor, drawn uniformly from ``scale``.

    Args:
        scale: The smallest and the largest factor, both above 0.
        nearest: See `Resize`.
    """

    def __init__(self, scale: Sequence[float] = (1.0, 1.4), nearest: Sequence[str] | str = ()) -> None:
        self.scale, self.nearest = interval('scale of RandomResize', scale), names_of(nearest)
        if self.scale[0] <= 0:
            raise InputError(f'The scale of RandomResize is above 0, got {scale!r}.')

    def draw(self, height: int, width: int) -> Move:
        factor = uniform(self.scale)
        return partial(_resize, size=[max(1, round(factor * side)) for side in (height, width)])


@TRANSFORMS.register_module()
class RandomRotation(Geometry):
    """Rotates by an angle drawn uniformly from [-degrees, degrees]; what comes in from outside is 0.

    Args:
        degrees: The largest angle, 0..180.
        canvas: None keeps the size. A fraction makes the output this share of the box around the rotated image, about
            the same centre, so that the size depends on the angle: 0.8 is what MMANet trains CASIA-SURF with.
        nearest: See `Resize`.
    """

    def __init__(self, degrees: float = 30, canvas: float | None = None, nearest: Sequence[str] | str = ()) -> None:
        if not 0 <= degrees <= 180 or (canvas is not None and not 0 < canvas <= 1):
            raise InputError(f'RandomRotation takes degrees in 0..180 and canvas in (0, 1], got {degrees}, {canvas}.')
        self.degrees, self.canvas, self.nearest = degrees, canvas, names_of(nearest)

    def draw(self, height: int, width: int) -> Move:
        angle = (2 * torch.rand(()).item() - 1) * self.degrees
        bilinear = F.InterpolationMode.BILINEAR  # masks are rotated with the nearest pixel whatever is asked
        if self.canvas is None:
            return lambda x: F.rotate(x, angle, interpolation=bilinear)
        cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
        size = [int(self.canvas * (height * cos + width * sin)), int(self.canvas * (height * sin + width * cos))]
        return lambda x: F.center_crop(F.rotate(x, angle, interpolation=bilinear, expand=True), size)


@TRANSFORMS.register_module()
class RandomCrop(Geometry):
    """Cuts out a window at a random place.

    Args:
        size: Height and width of the window, or one number for both.
        resize_smaller: Resize an image that is not larger than the window in both directions to its size, as ESANet
            does, instead of refusing one that the window does not fit into.
        nearest: See `Resize`.
    """

    def __init__(
        self, size: int | Sequence[int], resize_smaller: bool = False, nearest: Sequence[str] | str = ()
    ) -> None:
        self.size, self.resize_smaller, self.nearest = image_size(size), resize_smaller, names_of(nearest)

    def draw(self, height: int, width: int) -> Move:
        if self.resize_smaller and (height <= self.size[0] or width <= self.size[1]):
            return partial(_resize, size=self.size)
        if height < self.size[0] or width < self.size[1]:
            raise InputError(f'RandomCrop of {self.size} (H, W) does not fit into an image of {(height, width)}.')
        top = int(torch.randint(height - self.size[0] + 1, ()))
        left = int(torch.randint(width - self.size[1] + 1, ()))
        return lambda x: F.crop(x, top, left, *self.size)


@TRANSFORMS.register_module()
class RandomResizedCrop(Geometry):
    """Cuts out a random part of random size and aspect ratio and resizes it (Szegedy et al., CVPR 2015).

    Args:
        size: Height and width that come out, or one number for both.
        scale: The smallest and the largest share of the image's area.
        ratio: The smallest and the largest width over height, drawn on a logarithmic scale.
        nearest: See `Resize`.

    Raises:
        InputError: A size, shares or ratios that are none.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        nearest: Sequence[str] | str = (),
    ) -> None:
        self.size, self.nearest = image_size(size), names_of(nearest)
        self.scale = interval('scale of RandomResizedCrop', scale)
        self.ratio = interval('ratio of RandomResizedCrop', ratio)
        if self.scale[0] <= 0 or self.scale[1] > 1 or self.ratio[0] <= 0:
            raise InputError(
                f'RandomResizedCrop takes a scale in (0, 1] and a ratio above 0, got {scale!r} and {ratio!r}.'
            )

    def draw(self, height: int, width: int) -> Move:
        window = TorchvisionCrop.get_params(torch.empty(0, height, width), list(self.scale), list(self.ratio))
        return lambda x: _resize(F.crop(x, *window), self.size)


@TRANSFORMS.register_module()
class RandomFlip(Geometry):
    """Mirrors left and right, or above and below; for both put two into the list.

    Args:
        p: The probability.
        direction: ``'horizontal'`` swaps left and right, ``'vertical'`` above and below.
        flow: The modalities that are optical flow, channels u, v, u, v, ...: motion along the mirrored axis changes its
            sign, in 8 bits around 127.5.

    Raises:
        InputError: A probability out of range.
        NameNotFound: An unknown direction.
    """

    def __init__(self, p: float = 0.5, direction: str = 'horizontal', flow: Sequence[str] | str = ()) -> None:
        self.p, self.flow = probability('RandomFlip', p), names_of(flow)
        if direction not in FLIPS:
            raise unknown_name('direction of RandomFlip', direction, FLIPS)
        self.direction = direction

    def draw(self, height: int, width: int) -> Move:
        return FLIPS[self.direction] if torch.rand(()).item() < self.p else stay

    def move_input(self, move: Move, modality: str, x: Tensor) -> Tensor:
        moved = super().move_input(move, modality, x)
        if move is stay or modality not in self.flow:
            return moved
        motion = moved[list(FLIPS).index(self.direction) :: 2]
        motion.copy_(255 - motion if x.dtype == torch.uint8 else -motion)  # a flip is a copy
        return moved


@TRANSFORMS.register_module()
class RandomTranspose(Geometry):
    """Swaps height and width, mirroring at the diagonal from the upper left: with both flips all eight ways to lay a
    square image down.

    Args:
        p: The probability.

    Raises:
        InputError: A probability out of range.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability('RandomTranspose', p)

    def draw(self, height: int, width: int) -> Move:
        return _transposed if torch.rand(()).item() < self.p else stay


def _transposed(x: Tensor) -> Tensor:
    if not isinstance(x, tv_tensors.BoundingBoxes):
        return _plain(x).mT
    return tv_tensors.BoundingBoxes(_plain(x)[:, [1, 0, 3, 2]], format=x.format, canvas_size=x.canvas_size[::-1])


def stay(x: Tensor) -> Tensor:
    """The move that moves nothing."""
    return x
