"""How each task draws a prediction: one function for each."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from zoo.datasets import IGNORE
from zoo.metrics import class_map

from .inputs import base_picture, draw_input
from .palette import palette
from .scene import BLACK, GREEN, GREY, RED, Colour, Panel, Scene
from .sheet import draw_sheet
from .text import BODY, PAPER, fitted, font, text_picture

Drawer = Callable[[Scene, Any], Panel]

DRAWERS: dict[str, Drawer] = {}
BACKGROUND = ('background', 'unlabeled', 'unlabelled', 'void')  # names of a class that gets no colour
STRENGTH = 0.65  # of a class's colour; the rest is the picture below
UNLABELLED = (0, 0, 0)
BARS = 5  # classes of which the probability is shown


def drawer(task: str) -> Callable[[Drawer], Drawer]:
    """Register how the hosts of a task are drawn: a function of a scene and one sample's prediction (a row of what
    ``host.decode`` yields), or None, for which it draws the scene's target."""

    def register(function: Drawer) -> Drawer:
        DRAWERS[task] = function
        return function

    return register


@drawer('segmentation')
def segmentation(scene: Scene, prediction: Tensor | None) -> Panel:
    """Logits (K, h, w), resized to the scene's own size, or its mask (H, W), in the classes' colours over a picture.

    Of volumes, (K, d, h, w) and (D, H, W), one slice (`Scene.slice_at`), the same as of the inputs.
    """
    target = one_slice(scene.target, planes=2, at=scene.slice_at)
    prediction = one_slice(prediction, planes=3, at=scene.slice_at)
    labels = target if prediction is None else class_map(prediction[None], scene.size)[0].cpu()
    note, colour = '', GREY
    if prediction is not None and target is not None:
        known = target != IGNORE
        right = float((labels == target)[known].double().mean())
        note = f'{100 * right:.1f} % of the pixels right' if known.any() else ''
    image, classes = overlay(base_picture(scene), labels.numpy(), scene)
    return Panel('', image, note, colour, classes)


def one_slice(x: Tensor | None, planes: int, at: float) -> Tensor | None:
    """One slice along the third dimension from the end, at a share of it, of a tensor with one more than ``planes``
    dimensions; anything else as it is.

    >>> import torch
    >>> one_slice(torch.arange(5)[:, None, None].expand(5, 2, 3), planes=2, at=0.5)
    tensor([[2, 2, 2],
            [2, 2, 2]])
    """
    return x if x is None or x.ndim == planes else x.select(-3, int(at * x.shape[-3]))


def overlay(base: Image.Image, labels: np.ndarray, scene: Scene) -> tuple[Image.Image, frozenset[int]]:
    """Class indices (H, W) in colour over a grey picture, `IGNORE` in black; and the classes that got a colour."""
    found = [int(k) for k in np.unique(labels)]
    coloured = [k for k in found if scene.class_name(k).lower() not in BACKGROUND]
    table = np.zeros((max(found) + 1, 3), dtype=np.float32)
    strength = np.zeros(max(found) + 1, dtype=np.float32)
    for k in coloured:
        table[k], strength[k] = class_colour(k), STRENGTH
    below = np.asarray(base.resize(labels.shape[::-1]), dtype=np.float32)[..., None]
    share = strength[labels][..., None]
    mixed = (1 - share) * below + share * table[labels]
    return Image.fromarray(mixed.round().astype(np.uint8)), frozenset(coloured)


def class_colour(index: int) -> tuple[int, int, int]:
    """The colour of a class; that of `IGNORE` is black."""
    if index == IGNORE:
        return UNLABELLED
    count = 64 * (index // 64 + 1)  # colours do not depend on how many there are: few different tables are made
    return tuple(palette(count)[index].tolist())


@drawer('classification')
def classification(scene: Scene, prediction: Tensor | None) -> Panel:
    """Logits (K,): the likeliest class and its probability, above the probabilities of some; or the true class."""
    truth = None if scene.target is None else int(scene.target)
    if prediction is None:
        return Panel('', text_picture(scene.class_name(truth), scene.panel_size, BLACK))
    values, classes = prediction.float().softmax(0).cpu().topk(min(BARS, len(prediction)))
    top, colour = int(classes[0]), BLACK
    if truth is not None:
        colour = GREEN if top == truth else RED
    rows = [(scene.class_name(int(k)), float(p), GREEN if int(k) == truth else GREY) for p, k in zip(values, classes)]
    note = f'{scene.class_name(top)}, {100 * float(values[0]):.0f} %'
    return Panel('', bars(rows, scene.panel_size), note, colour)


def bars(rows: list[tuple[str, float, tuple[int, int, int]]], size: tuple[int, int]) -> Image.Image:
    """Horizontal bars, names before them: (name, length 0..1, colour)."""
    image = Image.new('RGB', size, PAPER)
    draw = ImageDraw.Draw(image)
    names = min(max(font(BODY).getlength(name) for name, *_ in rows), size[0] * 0.45)
    left, right = 16 + names, size[0] - 8
    step = min(40, (size[1] - 16) / len(rows))
    for i, (name, length, colour) in enumerate(rows):
        y = 8 + (i + 0.5) * step
        draw.text((8 + names, y), fitted(name, font(BODY), names + 1), BLACK, font(BODY), anchor='rm')
        draw.rectangle((left, y - step * 0.3, left + max(1, (right - left) * length), y + step * 0.3), colour)
    return image


def each_task(scene: Scene, task: str, prediction: Any) -> Iterator[tuple[str, Scene, Any]]:
    """The name of each of several tasks, the scene with its target and classes alone, and its prediction; of one task
    '', and both as they are.

    Args:
        scene: The sample; a target without a label of a task becomes None.
        task: One of `DRAWERS`.
        prediction: See `drawer`.
    """
    tasks = scene.target if prediction is None else prediction
    if task != 'classification' or not isinstance(tasks, Mapping):
        yield '', scene, prediction
        return
    for name in tasks:
        classes = scene.classes.get(name, ()) if isinstance(scene.classes, Mapping) else ()
        label = -1 if scene.target is None else int(scene.target[name])
        own = replace(scene, classes=classes, target=label if label >= 0 else None)
        yield name, own, None if prediction is None else prediction[name]


def draw(scene: Scene, task: str, prediction: Any) -> dict[str, Panel]:
    """What the task's function draws, by the names of `each_task`. Of a prediction that is None: the truth, for tasks
    of which it is known."""
    found = each_task(scene, task, prediction)
    return {name: DRAWERS[task](own, p) for name, own, p in found if p is not None or own.target is not None}


def draw_scene(scene: Scene, task: str, predictions: Mapping[str, Mapping[str, Panel]]) -> Image.Image:
    """The sheet of one sample: its inputs, the truth where it is known, and the predictions.

    Args:
        scene: The sample.
        task: One of `DRAWERS`.
        predictions: Names of subsets to what `draw` made; nothing where all of the subset is absent.
    """
    inputs = [draw_input(scene, m) for m in scene.modalities]
    truths = draw(scene, task, None)
    inputs += [replace(p, title=f'{name}: ground truth' if name else 'ground truth') for name, p in truths.items()]
    blocks, absent = [('Inputs', inputs)], Panel('', text_picture('absent', scene.panel_size))
    for name in next(filter(None, predictions.values()), {'': absent}):
        panels = [replace(p.get(name, absent), title=subset) for subset, p in predictions.items()]
        blocks.append((f'Predictions of {name} from' if name else 'Predictions from', panels))
    return draw_sheet(scene.name, blocks, scene.panel_size, class_legend(scene, [p for _, b in blocks for p in b]))


def class_legend(scene: Scene, panels: Iterable[Panel]) -> list[tuple[str, Colour]]:
    """Names and colours of the classes that panels show."""
    classes = sorted(frozenset().union(*(p.classes for p in panels)))
    return [('not labelled' if k == IGNORE else scene.class_name(k), class_colour(k)) for k in classes]
