"""Which files there are: folders and lists of stems; and whether they are images."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from registry import InputError

from .base import MANY
from .images import header_size

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
Files = dict[str, str]  # stem -> path


def list_files(folder: str | Path, owner: str, suffixes: Collection[str] = IMAGES) -> Files:
    """Stem to path of the files in a folder that end so, whatever the case; hidden files do not count.

    Raises:
        InputError: Two files of one stem, or no such folder.
    """
    found: Files = {}
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f'{owner}: no folder {folder}.') from None
    except OSError as error:
        raise InputError(f'{owner}: the folder {folder} can not be read ({error.strerror}).') from error
    for entry in entries:
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() not in suffixes or entry.name.startswith('.'):
            continue
        if stem in found:
            raise InputError(
                f'{entry.path}: there is also {Path(found[stem]).name}, and one sample has one file of each.'
            )
        found[stem] = entry.path
    return found


def find_folder(root: str | Path, owner: str, hint: str) -> Path:
    """``root`` itself.

    Raises:
        InputError: No such folder; the message ends with ``hint``.
    """
    if not Path(root).is_dir():
        raise InputError(f'{owner}: no folder {root}. {hint}')
    return Path(root)


def read_stems(file: Path) -> list[str]:
    """The stems in a list, one a line, each once; empty lines do not count.

    A line may also be the name or the path of an image: its folder and the suffix of an image are left out.

    Raises:
        InputError: No such list, an empty one, or one that can not be read.
    """
    try:
        text = file.read_text(encoding='utf-8-sig', errors='surrogateescape')
    except FileNotFoundError:
        raise InputError(f'{file}: no such list.') from None
    except OSError as error:
        raise InputError(f'{file}: the list can not be read ({error.strerror}).') from error
    stems = list(dict.fromkeys(_stem(line.strip()) for line in text.splitlines() if line.strip()))
    if not stems:
        raise InputError(f'{file}: the list is empty.')
    return stems


def _stem(entry: str) -> str:
    name = entry.replace('\\', '/').rpartition('/')[2]
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGES else name  # a stem may have dots of its own


def check_headers(files: Sequence[str], owner: str) -> list[tuple[int, int]]:
    """(H, W) of images, from their headers; many make a progress bar.

    Args:
        files: The images.
        owner: The data set that has them.

    Raises:
        InputError: One that can not be read.
    """
    from rich.progress import track

    title = f'Checking images of {owner}'
    return [header_size(f) for f in track(files, title, transient=True, disable=len(files) <= MANY)]
