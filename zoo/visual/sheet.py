"""Panels side by side, with captions and a legend."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from .scene import BLACK, GREY, Colour, Panel
from .text import BODY, TITLE, fitted, font

MARGIN, GAP, SWATCH = 14, 10, 14
MOST = 5  # panels in a row
LINE, SMALL_LINE = TITLE + 6, BODY + 5

Block = tuple[str, Sequence[Panel]]


def draw_sheet(
    title: str, blocks: Sequence[Block], size: tuple[int, int], legend: Sequence[tuple[str, Colour]] = ()
) -> Image.Image:
    """Blocks of panels below each other, each under its heading, and a legend at the bottom.

    Args:
        title: The first line.
        blocks: Headings and their panels. The first block has a row of its own, of up to five panels; the others have
            as many columns, three if there are so many panels.
        size: (width, height) of the panels, to which their images are brought.
        legend: Names and colours.

    Returns:
        RGB.
    """
    columns = min(MOST, max([len(blocks[0][1]), *(min(3, len(panels)) for _, panels in blocks)]))
    width = 2 * MARGIN + columns * size[0] + (columns - 1) * GAP
    rows = [(heading, _rows(panels, columns)) for heading, panels in blocks]
    height = MARGIN + LINE + GAP // 2 + sum(LINE + sum(_height(row, size) + GAP for row in block) for _, block in rows)
    per_line, step = _legend_columns(legend, width - 2 * MARGIN)
    height += -(-len(legend) // per_line) * SMALL_LINE + MARGIN
    sheet = Image.new('RGB', (width, height), 'white')
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), fitted(title, font(BODY), width - 2 * MARGIN), GREY, font(BODY))
    y = MARGIN + LINE + GAP // 2
    for heading, block in rows:
        draw.text((MARGIN, y), heading, BLACK, font(TITLE, bold=True))
        y += LINE
        for row in block:
            _draw_row(sheet, draw, row, y, size)
            y += _height(row, size) + GAP
    for i, (name, colour) in enumerate(legend):
        x, top = MARGIN + i % per_line * step, y + i // per_line * SMALL_LINE
        draw.rectangle((x, top, x + SWATCH, top + SWATCH - 1), colour, outline=GREY)
        draw.text((x + SWATCH + 6, top + SWATCH / 2), name, BLACK, font(BODY), anchor='lm')
    return sheet


def _rows(panels: Sequence[Panel], columns: int) -> list[Sequence[Panel]]:
    return [panels[i : i + columns] for i in range(0, len(panels), columns)]


def _height(row: Sequence[Panel], size: tuple[int, int]) -> int:
    return LINE + (SMALL_LINE if any(p.note for p in row) else 0) + size[1]


def _draw_row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Sequence[Panel], y: int, size: tuple[int, int]
) -> None:
    top = y + _height(row, size) - size[1]
    for i, panel in enumerate(row):
        x = MARGIN + i * (size[0] + GAP)
        draw.text((x, y), fitted(panel.title, font(TITLE), size[0]), BLACK, font(TITLE))
        draw.text((x, y + LINE - 2), fitted(panel.note, font(BODY), size[0]), panel.colour, font(BODY))
        sheet.paste(scaled(panel.image, size), (x, top))


def scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Magnified without blur, shrunk with averaging."""
    larger = size[0] >= image.width and size[1] >= image.height
    return image.convert('RGB').resize(size, Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS)


def _legend_columns(legend: Sequence[tuple[str, Colour]], width: int) -> tuple[int, int]:
    """How many entries go on a line, and how far apart."""
    widest = max((font(BODY).getlength(name) for name, _ in legend), default=0)
    step = int(SWATCH + 6 + widest + 2 * GAP)
    return max(1, width // step), step
