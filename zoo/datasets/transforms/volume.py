"""Changes of volumes (C, D, H, W): geometry that all modalities and the mask share, and intensities.

Numbers come from torch's global generator, which the engine seeds for each sample.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from registry import TRANSFORMS, InputError

from ..base import IGNORE, Sample
from .draws import interval, number, probability, uniform
from .geometry import names_of

Fill = Callable[[], Tensor]  # -> (C, 1, 1, 1); to find it takes a look at the whole volume
Place = Callable[[Tensor, Fill, bool], Tensor]  # (C, D, H, W), fill, nearest -> moved
PLANES = ((0, 1), (0, 2), (1, 2))


def volume_size(size: int | Sequence[int], least: int = 1) -> tuple[int, int, int]:
    """(D, H, W) of a size given as one number or as three.

    >>> volume_size(32), volume_size((96, 80, 112))
    ((32, 32, 32), (96, 80, 112))

    Raises:
        InputError: Anything but one or three integers of at least ``least``.
    """
    sides = (size,) * 3 if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    if len(sides) != 3 or any(not isinstance(s, int) or isinstance(s, bool) or s < least for s in sides):
        raise InputError(f'A size is an integer or three (D, H, W), each at least {least}, got {size!r}.')
    return sides


class VolumeGeometry:
    """Base of the transforms that move voxels: a subclass draws one function and all tensors go through it.

    Voxels that come in from outside take the smallest value of their channel in that volume, which is the air around
    the head, and `IGNORE` in the mask: they count neither in the loss nor in the metric. (The published rotation fills
    images and labels with -1.)
    """

    nearest: tuple[str, ...] = ()  # modalities that take the nearest voxel as masks do

    def draw(self, size: tuple[int, int, int], mask: Tensor | None) -> Place | None:
        """The function for one sample of ``size`` with a mask (D, H, W); None leaves the sample as it is."""
        raise NotImplementedError

    def __call__(self, sample: Sample) -> Sample:
        """Move every input and the mask; the sample that was given is not changed.

        Raises:
            InputError: Inputs that are no volumes (C, D, H, W), or that differ in size among each other or from the
                mask.
        """
        owner = type(self).__name__
        sizes = {m: tuple(x.shape[1:]) for m, x in sample['inputs'].items()}
        size = next(iter(sizes.values()))
        if len(size) != 3 or len(set(sizes.values())) > 1:
            raise InputError(f'{owner} needs volumes (C, D, H, W) of one size, got {sizes}.')
        target = sample.get('target')
        mask = target if isinstance(target, Tensor) and target.ndim > 0 else None
        if mask is not None and tuple(mask.shape) != size:
            raise InputError(f'{owner} needs a mask of the size {size} of its volumes, got {tuple(mask.shape)}.')
        if (place := self.draw(size, mask)) is None:
            return sample
        inputs = {m: place(x, partial(_smallest, x), m in self.nearest) for m, x in sample['inputs'].items()}
        moved = {**sample, 'inputs': inputs}
        if mask is not None:
            moved['target'] = place(mask[None], lambda: mask.new_full((1, 1, 1, 1), IGNORE), True)[0]
        return moved


def _smallest(x: Tensor) -> Tensor:
    return x.amin((1, 2, 3), keepdim=True)


@TRANSFORMS.register_module()
class VolumeCrop(VolumeGeometry):
    """Cuts out a window at a random place.

    Args:
        size: (D, H, W) of the window, or one number for all.
        foreground: The probability that the window holds at least one voxel of a class other than 0, drawn uniformly
            among them, instead of lying anywhere; 0 as in the published recipes.
        pad: Pad a volume that is smaller along an axis there, on both sides, instead of refusing it.

    Raises:
        InputError: A size or a probability out of range; in use, a volume that is smaller, without ``pad``.
    """

    def __init__(self, size: int | Sequence[int], foreground: float = 0.0, pad: bool = False) -> None:
        self.size, self.foreground, self.pad = volume_size(size), probability('VolumeCrop', foreground), pad

    def draw(self, size: tuple[int, int, int], mask: Tensor | None) -> Place:
        if not self.pad and any(have < want for have, want in zip(size, self.size)):
            have, want = ('x'.join(map(str, s)) for s in (size, self.size))
            raise InputError(
                f'The volume is {have} (D x H x W), smaller than the crop of {want}: use a smaller crop, or '
                'VolumeCrop(..., pad=True).'
            )
        lowest = [0] * 3
        highest = [max(0, have - want) for have, want in zip(size, self.size)]
        if mask is not None and torch.rand(()).item() < self.foreground:
            voxels = ((mask != 0) & (mask != IGNORE)).nonzero()
            if len(voxels):
                centre = voxels[int(torch.randint(len(voxels), ()))].tolist()
                lowest = [max(0, c - want + 1) for c, want in zip(centre, self.size)]
                highest = [min(most, c) for most, c in zip(highest, centre)]
                lowest = [min(low, high) for low, high in zip(lowest, highest)]
        start = [int(torch.randint(low, high + 1, ())) for low, high in zip(lowest, highest)]
        window = tuple(slice(s, s + want) for s, want in zip(start, self.size))
        lack = [max(0, want - have) for have, want in zip(size, self.size)]

        def place(x: Tensor, fill: Fill, nearest: bool) -> Tensor:
            part = x[(slice(None), *window)]
            if not any(lack):
                return part
            whole = fill().expand(len(x), *self.size).clone()
            whole[(slice(None), *(slice(k // 2, k // 2 + n) for k, n in zip(lack, part.shape[1:])))] = part
            return whole

        return place


@TRANSFORMS.register_module()
class VolumeFlip(VolumeGeometry):
    """Mirrors along each axis independently.

    Args:
        p: The probability of each axis.
        axes: Which, 0 for D, 1 for H, 2 for W.

    Raises:
        InputError: A probability or an axis out of range.
    """

    def __init__(self, p: float = 0.5, axes: int | Sequence[int] = (0, 1, 2)) -> None:
        self.p, self.axes = probability('VolumeFlip', p), (axes,) if isinstance(axes, int) else tuple(axes)
        if not set(self.axes) <= {0, 1, 2} or len(set(self.axes)) < len(self.axes):
            raise InputError(f'The axes of VolumeFlip are 0 (D), 1 (H) and 2 (W), each once, got {axes!r}.')

    def draw(self, size: tuple[int, int, int], mask: Tensor | None) -> Place | None:
        turned = [axis + 1 for axis in self.axes if torch.rand(()).item() < self.p]
        return (lambda x, fill, nearest: x.flip(turned)) if turned else None


@TRANSFORMS.register_module()
class VolumeRotation(VolumeGeometry):
    """Rotates in one of the three planes, drawn uniformly, by an angle drawn uniformly from [-degrees, degrees].

    The size stays. Images are interpolated linearly, masks take the nearest voxel. The published recipe draws integers
    from [-10, 10) and takes the nearest voxel for images too.

    Args:
        degrees: The largest angle, 0..180.
        nearest: The modalities whose values must not be mixed.

    Raises:
        InputError: ``degrees`` out of range.
    """

    def __init__(self, degrees: float = 10, nearest: Sequence[str] | str = ()) -> None:
        self.degrees = number('The degrees of VolumeRotation', degrees, 0, 180)
        self.nearest = names_of(nearest)

    def draw(self, size: tuple[int, int, int], mask: Tensor | None) -> Place:
        plane = PLANES[int(torch.randint(len(PLANES), ()))]
        angle = (2 * torch.rand(()).item() - 1) * self.degrees
        return lambda x, fill, nearest: rotate_volume(x, angle, plane, fill(), nearest)


def rotate_volume(x: Tensor, degrees: float, plane: tuple[int, int], fill: Tensor, nearest: bool = False) -> Tensor:
    """Rotate about the centre in the plane of two axes, from the first towards the second.

    Args:
        x: (C, D, H, W).
        degrees: The angle.
        plane: Two of the axes 0 (D), 1 (H), 2 (W), the smaller one first.
        fill: (C, 1, 1, 1), for voxels that come in from outside; linear interpolation blends into it.
        nearest: Take the nearest voxel; integers must.

    Returns:
        Shape and type of ``x``.
    """
    rest = ({0, 1, 2} - set(plane)).pop()
    order = (0, 1 + rest, 1 + plane[0], 1 + plane[1])
    flat = (x - fill).float().permute(order)  # `grid_sample` fills with 0
    c, n, height, width = flat.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # where the output at (u, v), from -1 to 1 along W and H, is read: the rotation back, in voxels
    theta = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]], device=x.device)
    grid = F.affine_grid(theta[None].float(), [1, 1, height, width], align_corners=False)
    mode = 'nearest' if nearest else 'bilinear'
    moved = F.grid_sample(flat.reshape(1, c * n, height, width), grid, mode, align_corners=False)
    back = moved.view(c, n, height, width).permute([order.index(axis) for axis in range(4)])
    return (back + fill).to(x.dtype)


@TRANSFORMS.register_module()
class IntensityShift:
    """Multiplies each modality of a volume by one factor and adds one number, both drawn uniformly for each modality.

    Args:
        scale: The smallest and the largest factor, at least 0.
        shift: The smallest and the largest number to add, in units of the volume: of its deviation where it is
            standardised.
        modalities: Which inputs; None for all.
        per_slice: Draw anew for each slice of the first axis, as the published code does.

    Raises:
        InputError: Limits that are no such pair.
    """

    def __init__(
        self,
        scale: Sequence[float] = (0.9, 1.1),
        shift: Sequence[float] = (-0.1, 0.1),
        modalities: Sequence[str] | str | None = None,
        per_slice: bool = False,
    ) -> None:
        self.scale, self.shift = interval('scale of IntensityShift', scale), interval('shift of IntensityShift', shift)
        if self.scale[0] < 0:
            raise InputError(f'The scale of IntensityShift is at least 0, got {scale!r}.')
        self.modalities, self.per_slice = None if modalities is None else names_of(modalities), per_slice

    def __call__(self, sample: Sample) -> Sample:
        """A sample with other values; the given one stays as it is."""
        return {**sample, 'inputs': {m: self._changed(m, x) for m, x in sample['inputs'].items()}}

    def _changed(self, modality: str, x: Tensor) -> Tensor:
        if self.modalities is not None and modality not in self.modalities:
            return x
        if not self.per_slice:
            return x.float() * uniform(self.scale) + uniform(self.shift)
        draws = torch.rand(2, 1, x.shape[1], 1, 1)
        factor, offset = (low + (high - low) * r for r, (low, high) in zip(draws, (self.scale, self.shift)))
        return x.float() * factor + offset
