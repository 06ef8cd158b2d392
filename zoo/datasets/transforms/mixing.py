"""One sample made of several."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from registry import TRANSFORMS, InputError

from ..base import Mixing, Sample, check_types, image_size
from .draws import number, probability, uniform
from .geometry import goes_with_boxes, is_mask, move_target, names_of
from .letterbox import LetterBox, Place, Placement, fitted
from .pixels import Fill, canvas_like, check_fill, fill_value, mask_fill

__all__ = ['MixUp', 'Mixing', 'Mosaic']


@TRANSFORMS.register_module()
class Mosaic(Mixing):
    """Four samples around one point of a canvas of twice the height and width of ``size``.

    Each keeps its aspect ratio and is resized to the largest that fits into ``size``, the sample itself above and to
    the left. The point is drawn from the middle half of the canvas in both directions and is the same for all
    modalities. `RandomAffine` with the same ``size`` then cuts the size out, as in Ultralytics' YOLO. Without mixing
    (``p``, ``stop_epoch``, or samples that turn out to share no modality) the sample is put into ``size`` by
    `LetterBox`.

    Args:
        size: Height and width, or one number for both.
        p: The probability.
        stop_epoch: From this epoch on, counted from 0, nothing is mixed; ``max_epochs - 10`` ends training with ten
            epochs of whole images. None: never.
        fill: Of the canvas, see `LetterBox`; the mean is that of all four images.
        nearest: The modalities that take the nearest pixel, see `Resize`.

    Raises:
        InputError: An argument out of its range; later a target that is a class, which four samples do not share, or
            images of one modality that differ in their type.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        p: float = 1.0,
        stop_epoch: int | None = None,
        fill: Fill = None,
        nearest: Sequence[str] | str = (),
    ) -> None:
        self.size, self.p, self.stop_epoch = image_size(size), probability('Mosaic', p), _epoch('Mosaic', stop_epoch)
        self.fill, self.nearest = check_fill('Mosaic', fill), names_of(nearest)
        self.alone = LetterBox(size, fill, nearest=nearest)

    def mix(self, sample: Sample, partner: Callable[[], Sample], epoch: int) -> Sample:
        if not _acts(self, epoch):
            return self.alone(sample)
        canvas = (2 * self.size[0], 2 * self.size[1])
        y, x = (int(uniform((side / 2, 3 * side / 2))) for side in self.size)
        parts = [sample, partner(), partner(), partner()]
        shared, present = common(parts, 'Mosaic')
        if not shared:
            return self.alone(sample)
        sizes = [tuple(p['inputs'][shared[0]].shape[-2:]) for p in parts]
        places = []
        for i, size in enumerate(sizes):
            height, width = fitted(*size, self.size)
            top, left = y - height * (i < 2), x - width * (i % 2 == 0)
            places.append(Placement(Place(top, left, height, width), canvas))
        inputs = {}
        for m in shared:
            images = [p['inputs'][m] for p in parts]
            inputs[m] = _paste(images, places, fill_value(self.fill, m, images), m in self.nearest)
        targets = [p.get('target') for p in parts]
        if all(map(is_mask, targets)):
            target = _paste(targets, places, mask_fill(targets[0]), nearest=True)
        else:
            moved = [move_target(t, place, size) for t, place, size in zip(targets, places, sizes)]
            target = joined(moved, 'Mosaic')
        return {**sample, 'inputs': inputs, 'present': present, 'target': target}


@TRANSFORMS.register_module()
class MixUp(Mixing):
    """A weighted mean of two samples of one size (Zhang et al., ICLR 2018), with the boxes of both.

    Partner and weight are the same for all modalities. The weight is drawn from a beta distribution; labels are not
    weighted, as in Ultralytics' YOLO. A sample that turns out to share no modality with its partner stays alone.

    Args:
        p: The probability.
        alpha: Both parameters of the beta distribution, 0.001..1e6; 32 keeps the weight near a half.
        stop_epoch: From this epoch on, counted from 0, nothing is mixed. None: never.

    Raises:
        InputError: An argument out of its range; later a target other than boxes, or images of two sizes or types.
    """

    def __init__(self, p: float = 0.0, alpha: float = 32.0, stop_epoch: int | None = None) -> None:
        self.p, self.stop_epoch = probability('MixUp', p), _epoch('MixUp', stop_epoch)
        self.alpha = float(number('The alpha of MixUp', alpha, 1e-3, 1e6))

    def mix(self, sample: Sample, partner: Callable[[], Sample], epoch: int) -> Sample:
        if not _acts(self, epoch):
            return sample
        weight = torch.distributions.Beta(self.alpha, self.alpha).sample().item()
        parts = [sample, partner()]
        shared, present = common(parts, 'MixUp')
        if not shared:
            return sample
        sizes = {tuple(p['inputs'][m].shape[-2:]) for p in parts for m in shared}
        if len(sizes) > 1:
            raise InputError(
                f'MixUp needs images of one size (H, W), got {sorted(sizes)}; put LetterBox or RandomAffine before it.'
            )
        inputs = {m: _blend(*(p['inputs'][m] for p in parts), weight) for m in shared}
        target = joined([p.get('target') for p in parts], 'MixUp')
        return {**sample, 'inputs': inputs, 'present': present, 'target': target}


def common(parts: Sequence[Sample], owner: str) -> tuple[list[str], Tensor]:
    """The modalities of which all parts have an image, and the ``present`` (M,) of what is made of them.

    There is none where parts with one `presence` had images that can not be read.

    Raises:
        InputError: The images of one differ in their type.
    """
    shared = [m for m in parts[0]['inputs'] if all(m in p['inputs'] for p in parts)]
    present = torch.stack([torch.as_tensor(p['present']) for p in parts]).all(0)
    for m in shared:
        check_types([p['inputs'][m] for p in parts], m, f'{owner}: the samples to mix')
    return (shared if present.any() else []), present


def joined(targets: Sequence[Any], owner: str) -> Any:
    """The boxes of several samples as those of one, the sets in ``'own'`` too; other entries are those of the first.

    Raises:
        InputError: A target that is neither a dict with boxes nor None, or label sets of other modalities.
    """
    first = targets[0]
    if all(t is None for t in targets):
        return None
    if not all(isinstance(t, dict) and 'boxes' in t for t in targets):
        raise InputError(f'{owner} can not mix targets of type {type(first).__name__}, only boxes.')
    rows = {k for k, v in first.items() if goes_with_boxes(v, len(first['boxes']))}
    both = {k: torch.cat([t[k] for t in targets]) if k in rows else v for k, v in first.items()}
    if 'own' in first:
        names = [sorted(t.get('own', ())) for t in targets]
        if any(n != names[0] for n in names):
            raise InputError(f'{owner}: the samples have labels of different modalities: {names}.')
        both['own'] = {m: joined([t['own'][m] for t in targets], owner) for m in first['own']}
    return both


def _paste(images: Sequence[Tensor], places: Sequence[Placement], fill: float, nearest: bool) -> Tensor:
    canvas = canvas_like(images[0], places[0].canvas, fill)
    for x, place in zip(images, places):
        place.paste(x, canvas, nearest)
    return canvas


def _blend(a: Tensor, b: Tensor, weight: float) -> Tensor:
    mixed = torch.lerp(b.float(), a.float(), weight)
    return (mixed if a.is_floating_point() else mixed.round_()).to(a.dtype)


def _acts(mixing: Mosaic | MixUp, epoch: int) -> bool:
    if mixing.stop_epoch is not None and epoch >= mixing.stop_epoch:
        return False
    return torch.rand(()).item() < mixing.p


def _epoch(owner: str, stop_epoch: int | None) -> int | None:
    if stop_epoch is not None and (isinstance(stop_epoch, bool) or not isinstance(stop_epoch, int) or stop_epoch < 0):
        raise InputError(f'The stop_epoch of {owner} is None or a whole number of at least 0, got {stop_epoch!r}.')
    return stop_epoch
