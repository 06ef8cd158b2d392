"""How fused images are drawn: as they are, and in colour where a source has some."""

from collections.abc import Collection

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zoo.colour import recoloured

from .inputs import as_planes, colour_picture
from .scene import Panel, Scene
from .tasks import drawer


@drawer('fusion')
def fusion(scene: Scene, prediction: Tensor) -> Panel:
    """The fused luma (1, H, W) in 0..1, in grey: what the host predicted."""
    return Panel('', fused_picture(scene, (), prediction))


def fused_picture(scene: Scene, subset: Collection[str], prediction: Tensor) -> Image.Image:
    """A fused luma as a picture of 8 bits, with the chroma of the first input in colour; grey where there is none.

    Args:
        scene: The sample.
        subset: The modalities that were fused, the only ones whose colours count.
        prediction: (1, H, W) in 0..1.
    """
    y = prediction.float().cpu()
    if scene.place is not None:
        top, left, height, width = scene.place
        y = y[:, top : top + height, left : left + width]
    if tuple(y.shape[1:]) != tuple(scene.size):
        y = F.interpolate(y[None], tuple(scene.size), mode='bilinear', antialias=True)[0].clamp(0, 1)
    planes = [as_planes(scene.inputs[m]) for m in scene.modalities if m in subset and m in scene.inputs]
    coloured = next((p for p in planes if p is not None and len(p) == 3), None)
    if coloured is None:
        return Image.fromarray(_eight_bits(y)[0])
    picture = colour_picture(coloured, scene.blue_first).resize(scene.size[::-1])
    rgb = torch.from_numpy(np.array(picture)).movedim(-1, 0) / 255
    return Image.fromarray(np.ascontiguousarray(_eight_bits(recoloured(y, rgb)).transpose(1, 2, 0)))


def _eight_bits(x: Tensor) -> np.ndarray:
    return (255 * x).round().byte().numpy()
