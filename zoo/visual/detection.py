"""How detections are drawn: boxes over the picture in colour."""

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from zoo.metrics import match_detections

from .inputs import base_picture
from .scene import BLACK, Panel, Scene
from .sheet import scaled
from .tasks import class_colour, drawer
from .text import font

SHOWN = 0.25  # the lowest score that is drawn
ENOUGH = 0.5  # the overlap (IoU) with a box of the truth that counts as found
LETTERS, LINE = 11, 2  # heights in pixels


@drawer('detection')
def detection(scene: Scene, prediction: Tensor | None) -> Panel:
    """Detections (n, 6), best first, in pixels of the host's input: those with a score of 0.25 or more; or the truth,
    a dict of ``boxes`` (g, 4) and ``labels`` (g,)."""
    truth = scene.target
    if prediction is None:
        labels = truth['labels'].tolist()
        return _panel(scene, truth['boxes'], labels, [scene.class_name(k) for k in labels], '')
    found = prediction.float().cpu()
    found = found[found[:, 4] >= SHOWN]
    classes = found[:, 5].int().tolist()
    captions = [f'{scene.class_name(k)} {score:.2f}' for k, score in zip(classes, found[:, 4].tolist())]
    return _panel(scene, found[:, :4], classes, captions, _verdict(found, truth))


def _verdict(found: Tensor, truth: Any) -> str:
    if truth is None:
        return f'{len(found)} found'
    right = int(match_detections([found], [truth['boxes']], [truth['labels']], [ENOUGH]).sum())
    return f'{right} of {len(truth["labels"])} found, {len(found) - right} false'


def _panel(scene: Scene, boxes: Tensor, classes: list[int], captions: list[str], note: str) -> Panel:
    image = scaled(base_picture(scene, grey=False), scene.panel_size)
    draw = ImageDraw.Draw(image)
    drawn = list(zip(to_panel(boxes, scene).round().tolist(), classes, captions))
    for box, k, caption in reversed(drawn):  # the best on top
        _draw_box(image, draw, box, class_colour(k), caption)
    return Panel('', image, note, classes=frozenset(classes))


def to_panel(boxes: Tensor, scene: Scene) -> Tensor:
    """Boxes (n, 4) in pixels of the host's input, brought to those of the scene's panels and clipped to them."""
    top, left, height, width = scene.place or (0, 0, *scene.size)
    size = torch.tensor(scene.panel_size * 2)
    moved = (boxes.cpu() - torch.tensor([left, top] * 2)) * size / torch.tensor([width, height] * 2)
    return torch.minimum(moved.clamp(min=0), size)


def _draw_box(
    image: Image.Image, draw: ImageDraw.ImageDraw, box: list[float], colour: tuple[int, int, int], caption: str
) -> None:
    x1, y1, x2, y2 = box
    x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)  # Pillow draws the last pixel too
    draw.rectangle((x1, y1, x2, y2), outline=colour, width=LINE)
    width, height = font(LETTERS).getlength(caption) + 4, LETTERS + 3
    x = max(0, min(x1, image.width - width))
    y = y1 - height if y1 >= height else y1 + LINE  # above the box, or inside at the edge of the picture
    draw.rectangle((x, y, x + width, y + height - 1), colour)
    lightness = (np.array(colour) @ [0.299, 0.587, 0.114]).item()
    draw.text((x + 2, y + height / 2), caption, BLACK if lightness > 110 else 'white', font(LETTERS), anchor='lm')
