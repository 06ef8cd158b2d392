"""Which regions of its inputs a prediction leans on: heat over the inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from .inputs import as_planes, draw_input, grey_picture
from .scene import GREY, Panel, Scene
from .sheet import draw_sheet, scaled
from .tasks import DRAWERS, bars, class_legend, draw
from .text import text_picture

STRENGTH = 0.85  # of the largest value's colour; the rest is the picture below
MARKS = (1 / 3, 2 / 3, 1.0)  # shares of the largest value in the legend


def draw_regions(
    scene: Scene, regions: Mapping[str, Tensor], lost: Mapping[str, float | None], predictions: Sequence[Panel]
) -> Image.Image:
    """The sheet of one sample: its inputs under heat, what is lost without each, and predictions.

    Args:
        scene: The sample.
        regions: Modality to values (H, W) of at least 0 over its picture, all on one scale.
        lost: Modality to how far the prediction moves without it; None where it is absent or there is nothing else.
        predictions: See `predicted`.
    """
    largest = max((float(x.max()) for x in regions.values()), default=0.0)
    inputs = [_input(scene, m, regions.get(m), largest, lost.get(m)) for m in scene.modalities]
    known = {m: x for m, x in lost.items() if x is not None}
    most = max(known.values(), default=0.0)
    rows = [(f'{m} {x:.3g}', x / most if most else 0.0, GREY) for m, x in known.items()]
    picture = bars(rows, scene.panel_size) if rows else text_picture('one modality', scene.panel_size)
    panels = [Panel('lost without each', picture), *predictions]
    legend = [(f'{share * largest:.2g}', _colour(share)) for share in MARKS] if largest else []
    blocks = [('Regions that the prediction leans on', inputs), ('Prediction', panels)]
    return draw_sheet(scene.name, blocks, scene.panel_size, legend + class_legend(scene, predictions))


def predicted(scene: Scene, task: str, prediction: Any) -> list[Panel]:
    """One sample's prediction and its truth, where it is known; a pair for each of several tasks, nothing for a task
    that nobody draws."""
    if task not in DRAWERS:
        return []
    guesses, truths = draw(scene, task, prediction), draw(scene, task, None)
    return [
        replace(panels[name], title=f'{name}: {title}' if name else title)
        for name in guesses
        for title, panels in (('prediction', guesses), ('ground truth', truths))
        if name in panels
    ]


def _input(scene: Scene, modality: str, values: Tensor | None, largest: float, lost: float | None) -> Panel:
    x = scene.inputs.get(modality)
    if x is None:
        return draw_input(scene, modality)
    note = 'the only one here' if lost is None else f'{lost:.3g} lost without it'
    planes = as_planes(x, scene.slice_at)
    if values is None or planes is None:
        return Panel(modality, text_picture(f'{tuple(x.shape)}: no regions', scene.panel_size), note)
    below = np.asarray(scaled(grey_picture(planes, scene.blue_first), scene.panel_size), dtype=np.float32)
    share = (values.float() / largest if largest else values.float() * 0).numpy()
    share = np.asarray(Image.fromarray(share).resize(scene.panel_size, Image.Resampling.BILINEAR)).clip(0, 1)
    weight = STRENGTH * share[..., None]
    mixed = (1 - weight) * below + weight * 255 * _map()(share)[..., :3]
    return Panel(modality, Image.fromarray(mixed.round().astype(np.uint8)), note)


def _colour(share: float) -> tuple[int, int, int]:
    return tuple(round(255 * c) for c in _map()(share)[:3])


def _map() -> Any:
    from matplotlib import colormaps

    return colormaps['YlOrRd']
