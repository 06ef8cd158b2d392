"""Image files as tensors, with errors that name the file."""

import struct
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from registry import InputError

UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)  # Pillow raises them all
BITS = {'L': 8, 'P': 8, 'I;16': 16, 'I;16L': 16, 'I;16B': 16}  # mode of one channel -> bits; of P the indices count


def orientation(image: Image.Image) -> int:
    """How EXIF says an image lies, from its header alone: 1 as it is to be seen, 5 to 8 with its sides swapped."""
    if 'exif' not in image.info:  # as in TIFF, which Pillow turns by itself
        return 1
    try:
        way = image.getexif().get(ExifTags.Base.Orientation)
    except UNREADABLE:  # the pixels may be fine
        return 1
    return way if way in range(1, 9) else 1


def upright(image: Image.Image) -> Image.Image:
    """The image as it is to be seen, itself where EXIF does not say that it is to be turned."""
    return image if orientation(image) == 1 else ImageOps.exif_transpose(image)


def header_size(file: str | Path) -> tuple[int, int]:
    """(H, W) of an image as it is to be seen, from its header alone.

    Raises:
        InputError: No such file, or no header of an image.
    """
    try:
        with Image.open(file) as image:
            width, height = image.size if orientation(image) < 5 else image.size[::-1]
    except UNREADABLE as error:
        raise InputError(f'{file}: can not be read as an image ({error}).') from error
    return height, width


def read_image(file: Path, flip_channels: bool = False, grey: bool = True) -> Tensor:
    """An 8-bit image as uint8 (3, H, W), in memory (H, W, 3) as it was decoded; transparency is dropped.

    An image that EXIF says to be turned is turned.

    Args:
        file: The image.
        flip_channels: Blue first instead of red.
        grey: Whether to repeat a grey image to three channels or to refuse it.

    Raises:
        FileNotFoundError: No such file.
        InputError: It is no image, cut off, has more than 8 bits, or is grey where that is refused.
    """
    try:
        with Image.open(file) as image:
            image, mode = upright(image), image.mode
            pixels = np.array(image if mode == 'RGB' else image.convert('RGB'))  # convert would copy
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise InputError(f'{file}: can not be read as an image ({error}).') from error
    if mode.startswith(('I', 'F')):
        raise InputError(f'{file}: expected 8 bits a channel, got an image of mode {mode!r}.')
    if not grey and Image.getmodebase(mode) == 'L':
        raise InputError(f'{file}: expected three channels, got a grey image (mode {mode!r}).')
    if flip_channels:
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_plane(file: Path, bits: int | None = None) -> Tensor:
    """An image of one channel as (1, H, W): 8 bits as uint8, 16 bits as uint16. Of a palette the indices are read.

    An image that EXIF says to be turned is turned.

    Args:
        file: The image.
        bits: 8 or 16, what it must have; None takes either.

    Raises:
        FileNotFoundError: No such file.
        InputError: It is no image, cut off, or has several channels or another number of bits.
    """
    try:
        with Image.open(file) as image:
            mode, pixels = image.mode, np.array(upright(image))
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise InputError(f'{file}: can not be read as an image ({error}).') from error
    found = BITS.get(mode)
    if found is None or found != (bits or found):
        expected = '8 or 16' if bits is None else bits
        got = f'an image of mode {mode!r}' if found is None else f'{found} bits'
        raise InputError(f'{file}: expected one channel of {expected} bits, got {got}.')
    return torch.from_numpy(pixels.astype(np.uint16 if found == 16 else np.uint8, copy=False))[None]


def read_channels(file: Path, channels: int) -> Tensor:
    """An image as (channels, H, W): three channels in colour, a grey image repeated; one channel as it was measured or,
    of a colour image, its luma (ITU-R BT.601). 8 bits are uint8, the 16 bits of one channel float32. An image that EXIF
    says to be turned is turned.

    Raises:
        FileNotFoundError: No such file.
        InputError: It can not be read so, or ``channels`` is neither 1 nor 3.
    """
    if channels == 3:
        return read_image(file)
    if channels != 1:
        raise InputError(f'{file}: images are read with 1 or 3 channels, not {channels!r}.')
    try:
        with Image.open(file) as image:
            if image.mode.startswith(('I', 'F')):
                plane = read_plane(file)
                return plane if plane.dtype == torch.uint8 else plane.float()
            image = upright(image)
            image.draft('L', image.size)  # a JPEG holds its luma: colours need not be decoded
            pixels = np.array(image if image.mode == 'L' else image.convert('L'))
    except (FileNotFoundError, InputError):
        raise
    except UNREADABLE as error:
        raise InputError(f'{file}: can not be read as an image ({error}).') from error
    return torch.from_numpy(pixels)[None]


def read_listed(file: str | Path, channels: int) -> Tensor:
    """See `read_channels`, of a file that was there when its folder was listed.

    Raises:
        InputError: It is gone, or can not be read.
    """
    try:
        return read_channels(Path(file), channels)
    except FileNotFoundError:
        raise InputError(f'{file}: no such file any more; it was there when the folder was listed.') from None
