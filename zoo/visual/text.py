"""Letters: fonts, lines that fit, pictures that are a word."""

from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .scene import GREY, Colour

TITLE, BODY, LARGE = 15, 13, 20  # heights in pixels
PAPER = (242, 242, 242)


@lru_cache(maxsize=8)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has Latin, Greek and Cyrillic letters."""
    from matplotlib import get_data_path

    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(Path(get_data_path(), 'fonts', 'ttf', name)), size)


def fitted(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, cut off with three dots where it is wider than ``width`` pixels."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(f'{text}…') > width:
        text = text[:-1]
    return f'{text}…'


def text_picture(text: str, size: tuple[int, int], colour: Colour = GREY) -> Image.Image:
    """A picture of (width, height) with one line in its middle."""
    image = Image.new('RGB', size, PAPER)
    line = fitted(text, font(LARGE), size[0] - 8)
    ImageDraw.Draw(image).text((size[0] / 2, size[1] / 2), line, colour, font(LARGE), anchor='mm')
    return image
