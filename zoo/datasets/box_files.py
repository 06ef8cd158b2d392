"""Annotation files of boxes: YOLO's lines, and the XML of VOC and of DroneVehicle."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from registry import InputError

ROUNDING = 1e-4  # by so much a share of the image may exceed 1
ON_BAD_BOX = ('error', 'drop')
FORMS = {  # element of an object -> its coordinates; the first complete one is taken
    'polygon': tuple(f'{axis}{i}' for i in range(1, 5) for axis in 'xy'),
    'bndbox': ('xmin', 'ymin', 'xmax', 'ymax'),
}


class Box(NamedTuple):
    """One line or object of an annotation file."""

    where: str  # the file and the line or object, for messages
    label: int | str  # the number or the name of its class
    corners: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
    problem: str = ''  # why the corners are NaN, where the file says something that is no box


def read_yolo(file: str | Path, size: tuple[int, int]) -> list[Box]:
    """The boxes of a text file with a line ``class cx cy w h`` each, in shares of the image; empty lines do not count.

    Args:
        file: The file.
        size: Height and width of the image.

    Returns:
        Boxes with the number of a class, not checked, and corners that may lie outside the image or be NaN.

    Raises:
        FileNotFoundError: No such file.
        InputError: A line of another form, a class that is no whole number, a value above 1, or a file that can not be
            read.
    """
    height, width = size
    boxes = []
    text = _read(file).decode('utf-8-sig', errors='replace')
    for number, line in enumerate(text.splitlines(), start=1):
        if not (fields := line.split()):
            continue
        where = f'{file}:{number}'
        try:
            label, cx, cy, w, h = map(float, fields)
        except ValueError:
            hint = '; oriented boxes and polygons are not read' if len(fields) > 6 else ''
            raise InputError(f'{where}: expected "class cx cy w h", got {line.strip()[:80]!r}{hint}.') from None
        if label % 1:
            raise InputError(f'{where}: the class is a whole number, got {fields[0]!r}.')
        for value in (cx, cy, w, h):
            if value > 1 + ROUNDING:
                raise InputError(
                    f'{where}: the value {value:g} is above 1; expected shares of the image (0..1), not pixels.'
                )
        corners = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
        boxes.append(Box(where, int(label), corners))
    return boxes


def read_xml(file: str | Path) -> list[Box]:
    """The boxes of an XML file: ``object`` elements with a ``name`` and a ``bndbox`` (VOC) or a ``polygon`` of four
    corners x1, y1 .. x4, y4 (DroneVehicle), of which the upright box around it is taken.

    Coordinates are taken as they are; those of VOC's own files count pixels from 1. A polygon that is not complete
    gives way to a ``bndbox``. An object without a complete element has a box of NaN.

    Raises:
        FileNotFoundError: No such file.
        InputError: It is no XML or can not be read, or an object has no name.
    """
    data = _read(file)
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: encodings it does not know
        raise InputError(f'{file}: can not be read as XML ({error}).') from error
    boxes = []
    for number, element in enumerate(root.iter('object'), start=1):
        where = f'{file}: object {number}'
        name = (element.findtext('name') or '').strip()
        if not name:
            raise InputError(f'{where}: it has no name.')
        boxes.append(Box(where, name, *_corners(element)))
    return boxes


def _read(file: str | Path) -> bytes:
    try:
        return Path(file).read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:  # a folder of this name, or no permission
        raise InputError(f'{file}: can not be read ({error.strerror}).') from error


def _corners(element: Any) -> tuple[tuple[float, float, float, float], str]:
    """The corners of an object, and why they are NaN."""
    problem = 'it has neither a bndbox nor a polygon'
    for tag, names in FORMS.items():
        if (shape := element.find(tag)) is None:
            continue
        values = [_number(shape.findtext(name)) for name in names]
        if None in values:
            wrong = names[values.index(None)]
            problem = f'{wrong} of its {tag} is a finite number, got {shape.findtext(wrong)!r}'
            continue
        xs, ys = values[::2], values[1::2]
        return ((min(xs), min(ys), max(xs), max(ys)) if tag == 'polygon' else tuple(values)), ''
    return (float('nan'),) * 4, problem


def _number(text: str | None) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def clip_boxes(
    boxes: Sequence[Box],
    size: tuple[int, int],
    on_bad_box: str = 'error',
    border: int = 0,
    min_visible: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Bring boxes into the image they are delivered with.

    A box is bad that is NaN or infinite, has no width or height, or lies outside the image. One that lies partly
    outside is clipped.

    >>> clip_boxes([Box('a.txt:1', 0, (-2, 3, 4, 5)), Box('a.txt:2', 0, (9, 3, 12, 5))], (6, 8), 'drop')[0]
    array([[0., 3., 4., 5.]], dtype=float32)

    Args:
        boxes: Corners in pixels of the image as it was annotated.
        size: Height and width of the image that is delivered.
        on_bad_box: ``'error'``, or ``'drop'`` leaves bad boxes out.
        border: So many pixels on each side were cut off the annotated image.
        min_visible: Boxes of which less than this share of the area is left are dropped; they are not bad.

    Returns:
        corners: (N, 4) float32.
        kept: (N,) int64, which of ``boxes`` they are.
        bad: How many bad boxes were dropped.
        hidden: How many good ones were, because too little of them is left.

    Raises:
        InputError: A bad box, where they are not dropped.
    """
    corners = np.array([b.corners for b in boxes], np.float64).reshape(-1, 4)
    limit = np.array([size[1], size[0]] * 2, np.float64)
    with np.errstate(invalid='ignore'):
        inside = np.clip(corners, 0, limit + 2 * border).astype(np.float32)
        left = np.clip(corners - border, 0, limit).astype(np.float32)
        good = np.isfinite(corners).all(1) & (_area(inside) > 0)
        share = _area(left) / np.where(good, _area(corners), 1)
    if on_bad_box == 'error' and not good.all():
        index = int(np.argmin(good))
        raise InputError(_complaint(boxes[index], (size[0] + 2 * border, size[1] + 2 * border)))
    seen = good & (_area(left) > 0) & (share >= min_visible)
    kept = np.flatnonzero(seen)
    return left[kept], kept, int((~good).sum()), int((good & ~seen).sum())


def _area(corners: np.ndarray) -> np.ndarray:
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def _complaint(box: Box, size: tuple[int, int]) -> str:
    hint = "on_bad_box='drop' leaves such boxes out."
    if box.problem:
        return f'{box.where}: {box.problem}; {hint}'
    x1, y1, x2, y2 = box.corners
    if not np.isfinite(box.corners).all():
        what = 'is not finite'
    elif x2 <= x1 or y2 <= y1:
        what = 'has no width or no height'
    else:
        what = f'lies outside its image of {size} (H, W)'
    shown = [round(v, 2) for v in box.corners]
    return f'{box.where}: the box {shown} (x1, y1, x2, y2) {what}; {hint}'
