"""Inputs of any kind as pictures."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .scene import Panel, Scene
from .text import text_picture

NO_VALUE = (200, 200, 200)  # a grey, which the colour map does not have


def draw_input(scene: Scene, modality: str) -> Panel:
    """One input: three channels in colour, others in a colour map, grey where there is no value."""
    x = scene.inputs.get(modality)
    if x is None:
        return Panel(modality, text_picture('absent', scene.panel_size))
    if (plane := as_planes(x, scene.slice_at)) is None:
        return Panel(modality, text_picture(f'{tuple(x.shape)}', scene.panel_size))
    if len(plane) == 3:
        return Panel(modality, colour_picture(plane, scene.blue_first))
    values = plane.float().mean(0)
    valid = values.isfinite()
    if modality in scene.invalid:
        valid &= values != scene.invalid[modality]
    note = '' if valid.all() else 'grey: no value'
    return Panel(modality, mapped_picture(values, valid), note)


def base_picture(scene: Scene, grey: bool = True) -> Image.Image:
    """The picture on which predictions lie: the first input with three channels, else the first picture.

    Args:
        scene: The sample.
        grey: Take the colours away, where those of the classes shall be told apart.
    """
    given = [scene.inputs[m] for m in scene.modalities if m in scene.inputs]
    planes = [p for x in given if (p := as_planes(x, scene.slice_at)) is not None]
    first = next((p for p in planes if len(p) == 3), planes[0] if planes else None)
    if first is None:
        return Image.new('L', scene.size[::-1], 255)
    if len(first) == 3 and not grey:
        return colour_picture(first, scene.blue_first)
    return grey_picture(first, scene.blue_first)


def grey_picture(x: Tensor, blue_first: bool = False) -> Image.Image:
    """Planes (C, H, W) without colour: three as `colour_picture` draws them, of others the mean."""
    if len(x) == 3:
        return colour_picture(x, blue_first).convert('L')
    values = x.float().mean(0)
    return Image.fromarray(_stretch(values, values.isfinite()).mul(255).byte().numpy())


def as_planes(x: Tensor, at: float = 0.5) -> Tensor | None:
    """Planes (C, H, W) of an image, one slice of a volume (C, D, H, W) at a share of D; None for anything else.

    >>> as_planes(torch.zeros(1, 5, 4, 6)).shape, as_planes(torch.zeros(7)) is None
    (torch.Size([1, 4, 6]), True)
    """
    x = x[:, int(at * x.shape[1])] if x.ndim == 4 else x
    return x.cpu() if x.ndim == 3 else None


def colour_picture(x: Tensor, blue_first: bool = False) -> Image.Image:
    """(3, H, W) as it is if it has 8 bits, else stretched from its smallest to its largest value."""
    if x.dtype != torch.uint8:
        x = _stretch(x.float(), x.isfinite(), share=0.0).mul(255).byte()
    return Image.fromarray((x.flip(0) if blue_first else x).movedim(0, -1).contiguous().numpy())


def mapped_picture(values: Tensor, valid: Tensor) -> Image.Image:
    """Values (H, W) in a colour map, `NO_VALUE` where ``valid`` (H, W) is False."""
    from matplotlib import colormaps

    colours = colormaps['viridis'](_stretch(values, valid).numpy(), bytes=True)[..., :3]
    return Image.fromarray(np.where(valid.numpy()[..., None], colours, np.array(NO_VALUE)).astype(np.uint8))


def _stretch(values: Tensor, valid: Tensor, share: float = 0.01) -> Tensor:
    """To 0..1, cutting ``share`` of the valid values off at both ends; 0 where invalid."""
    kept = values[valid].double().sort().values
    if not len(kept):
        return torch.zeros_like(values)
    cut = int(share * (len(kept) - 1))
    low, high = kept[cut], kept[-1 - cut]
    scaled = (values.double() - low) / (high - low).clamp(min=1e-12)
    return scaled.clamp(0, 1).masked_fill(~valid, 0).float()
