"""Arrays that are made once and read back memory-mapped: one file each, written so that no reader sees half of it."""

import os
import uuid
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from registry import InputError

VARIABLE = 'COUNTERPOISE_CACHE'
CHECKSUM = 4  # bytes of CRC-32 that follow the data; numpy does not look beyond it


def cache_folder(root: str | Path | None = None) -> Path:
    """Where cached files go: ``root``, else the environment variable COUNTERPOISE_CACHE, else the user's cache folder.

    The last is ``$XDG_CACHE_HOME/counterpoise``, or ``~/.cache/counterpoise``.
    """
    if root is not None:
        return Path(root).expanduser()
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser()
    base = os.environ.get('XDG_CACHE_HOME')
    return (Path(base) if base else Path('~/.cache').expanduser()) / 'counterpoise'


def open_array(path: Path) -> np.ndarray:
    """The array in ``path``, read-only and memory-mapped."""
    return np.load(path, mmap_mode='r')


def is_intact(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Whether ``path`` holds an array of this type and shape, complete and unchanged since it was written."""
    if not is_complete(path, dtype, shape):
        return False
    try:
        array = open_array(path)
        with open(path, 'rb') as file:
            file.seek(array.offset + array.nbytes)
            stored = file.read()
        return stored == _checksum(zlib.crc32(array.view(np.uint8)))
    except (OSError, ValueError, EOFError):
        return False


def is_complete(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Whether ``path`` holds an array of this type and shape to its end; what it holds is not read."""
    try:
        array = open_array(path)
        return (
            array.dtype == dtype
            and array.shape == shape
            and (path.stat().st_size == array.offset + array.nbytes + CHECKSUM)
        )
    except (OSError, ValueError, EOFError):  # absent, cut off, or no array at all
        return False


def write_array(path: Path, dtype: np.dtype, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
    """Write an array that comes in ``parts`` along its first axis, under a temporary name until it is complete.

    Several processes may write the same file: each replaces it as a whole, and whoever has it open keeps what it read.

    Raises:
        InputError: The folder can not be written, or the disk is full.
    """
    temporary = path.with_name(
        f'{path.stem}.{uuid.uuid4().hex}.tmp'
    )  # not tempfile: it hides the file from other users
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, 'xb') as file:
            header = {'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False, 'shape': shape}
            np.lib.format.write_array_header_1_0(file, header)
            crc = 0
            for part in parts:
                data = np.ascontiguousarray(part, dtype).view(np.uint8)
                crc = zlib.crc32(data, crc)
                file.write(data)
            file.write(_checksum(crc))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f'Can not write the cache {path}: {error}. Set {VARIABLE} or root to another folder.'
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _checksum(crc: int) -> bytes:
    return crc.to_bytes(CHECKSUM, 'little')
