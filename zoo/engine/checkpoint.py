"""Checkpoints that survive a crash, hold no code, and say what does not fit."""

import os
import random
import time
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from registry import InputError, PluginWarning

POINTER = 'last_checkpoint'


def plain(value: Any, where: str = 'checkpoint') -> Any:
    """A copy with tensors on the CPU, numpy scalars as Python's and callables left out; anything else is refused.

    Raises:
        TypeError: A value that ``torch.load(weights_only=True)`` could not read back, named.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.generic):  # before float, of which numpy's float64 is a kind
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, Mapping):
        items = {k: v for k, v in value.items() if not callable(v) or isinstance(v, Tensor)}
        return {k: plain(v, f'{where}[{k!r}]') for k, v in items.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(v, f'{where}[{i}]') for i, v in enumerate(value))
    raise TypeError(f'{where} is a {type(value).__name__}: keep tensors, numbers, strings, lists and dicts in a state.')


def save(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write to a temporary name, flush to disk, then rename: a reader never sees half a file."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        with open(temporary, 'wb') as file:
            torch.save(plain(checkpoint), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file at once."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporary.write_text(text, encoding='utf8')
    os.replace(temporary, path)


def load(path: str | Path, trust: bool = False) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Args:
        path: The file.
        trust: Unpickle anything; only for files that you made yourself.

    Raises:
        InputError: No such file, not a checkpoint, or one that holds more than plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'No checkpoint {str(path)!r}.')
    try:
        with open(path, 'rb') as file:
            head = file.read(2)
    except OSError as error:
        raise InputError(f'{str(path)!r} can not be read: {error.strerror}.') from None
    if head not in (b'PK', b'\x80\x02'):  # zip, or torch's format before 1.6
        raise InputError(f'{str(path)!r} can not be read as a checkpoint: it is neither a zip nor a pickle file.')
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=not trust)
    except Exception as error:  # torch and pickle raise a dozen kinds here
        if 'weights_only' in str(error) or 'Unsupported' in str(error):
            raise InputError(
                f'{str(path)!r} holds more than tensors and plain values; loading it could run code. '
                'Use --trust-checkpoint if you made it yourself.'
            ) from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f'{str(path)!r} can not be read as a checkpoint: {reason}') from None
    if not isinstance(checkpoint, dict):
        raise InputError(f'{str(path)!r} holds a {type(checkpoint).__name__}, not a checkpoint.')
    return checkpoint


def load_weights(host: nn.Module, checkpoint: Mapping[str, Any], source: str | Path) -> None:
    """Load a host's weights strictly; only the state of plugins that are not attached is dropped, and a plugin of which
    the checkpoint knows nothing stays as it is.

    Raises:
        InputError: The checkpoint is of another model; the first differences are named.
    """
    given = checkpoint.get('state_dict', checkpoint)
    if not isinstance(given, Mapping) or not all(isinstance(k, str) for k in given):
        raise InputError(f'{str(source)!r} has no state dict: {type(given).__name__}.')
    given = {k.removeprefix('module.'): v for k, v in given.items()}
    attached = tuple(f'plugins.{name}.' for name in host.plugins)
    given = {k: v for k, v in given.items() if not k.startswith('plugins.') or k.startswith(attached)}
    own = host.state_dict()
    for name, plugin in host.plugins.items():
        prefix = f'plugins.{name}.'
        if any(k.startswith(prefix) for k in given):
            continue
        given.update({k: v for k, v in own.items() if k.startswith(prefix)})
        if plugin.structural:
            warnings.warn(
                f'{str(source)!r} was trained without {name}, which begins as it is built.', PluginWarning, stacklevel=2
            )
    problems = [f'lacks {k}' for k in own if k not in given] + [f'has an unknown {k}' for k in given if k not in own]
    problems += [
        f'has {k} of shape {tuple(given[k].shape)} where {tuple(own[k].shape)} is expected'
        for k in own
        if k in given and isinstance(own[k], Tensor) and getattr(given[k], 'shape', None) != own[k].shape
    ]
    if problems:
        more = f' (and {len(problems) - 3} more differences)' if len(problems) > 3 else ''
        raise InputError(
            f'{str(source)!r} does not fit this {type(host).__name__}: it {"; ".join(problems[:3])}{more}.'
        )
    host.load_state_dict(given)


def set_aside(work_dir: Path) -> None:
    """Move the checkpoints of an earlier run into a folder of their own, so that a new run never resumes from them."""
    old = [p for pattern in ('iter_*.pth', 'best.pth', POINTER) for p in work_dir.glob(pattern)]
    if old:
        folder = work_dir / time.strftime('before_%Y%m%d_%H%M%S')
        folder.mkdir(exist_ok=True)
        for path in old:
            os.replace(path, folder / path.name)
    for half in work_dir.glob('.*.pth.*'):  # of a run that died while writing
        half.unlink(missing_ok=True)


def latest(work_dir: Path) -> Path | None:
    """The checkpoint to resume from: what the pointer file names if it is whole, else the newest whole one."""
    pointer = work_dir / POINTER
    if pointer.is_file() and (named := work_dir / pointer.read_text(encoding='utf8').strip()).is_file():
        if zipfile.is_zipfile(named):
            return named
    whole = [p for p in work_dir.glob('iter_*.pth') if zipfile.is_zipfile(p)]
    return max(whole, key=lambda p: p.stat().st_mtime_ns, default=None)


def random_states(device: torch.device) -> dict[str, Any]:
    """The random states of Python, numpy and torch, as plain values."""
    version, keys, gauss = random.getstate()
    name, words, *rest = np.random.get_state()
    states = {
        'python': [version, list(keys), gauss],
        'numpy': [name, words.tolist(), *rest],
        'torch': torch.get_rng_state(),
    }
    if device.type == 'cuda':
        states['cuda'] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Restore what `random_states` gave."""
    version, keys, gauss = states['python']
    random.setstate((version, tuple(keys), gauss))
    name, words, *rest = states['numpy']
    np.random.set_state((name, np.array(words, dtype=np.uint32), *rest))
    torch.set_rng_state(states['torch'])
    if device.type == 'cuda' and 'cuda' in states:
        torch.cuda.set_rng_state(states['cuda'], device)
