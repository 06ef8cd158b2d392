"""What the tools share that write data for training: a run that is interrupted goes on, and no folder is a mixture."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from registry import InputError

from .checkpoint import write_text


def check_settings(file: Path, settings: dict[str, Any]) -> None:
    """Keep how samples are written beside them, so that a folder does not hold samples of two kinds.

    Raises:
        InputError: Those that are there were written otherwise.
    """
    if file.is_file():
        if (found := json.loads(file.read_text(encoding='utf8'))) != settings:
            raise InputError(f'{file}: what is there was written with {found}, not {settings}: use another --out.')
    else:
        write_text(file, json.dumps(settings) + '\n')


def write_npy(file: Path, array: np.ndarray) -> None:
    """Write an array so that nobody sees half of it.

    Raises:
        InputError: It can not be written.
    """
    temporary = file.with_name(f'.{file.name}.{os.getpid()}')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, 'wb') as stream:
            np.save(stream, np.ascontiguousarray(array))
        os.replace(temporary, file)
    except OSError as error:
        raise InputError(f'{file}: can not be written ({error.strerror or error}).') from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
