"""DigitScenes: the data set that needs no download."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from registry import DATASETS, InputError, unknown_name

from .base import MultimodalDataset, Sample, choose_split, image_size
from .cache import cache_folder, is_intact, open_array, write_array
from .digit_rendering import Difficulty, record_type, render

GENERATOR = 1  # counts up whenever the same arguments give other pixels, so that old caches are not read
DIGITS = 1797
SPLITS = {'train': (0, 1200), 'val': (1200, 1460), 'test': (1460, DIGITS)}
TASKS = ('class', 'mask', 'box', 'fusion')
LEAST = 24
CHUNK = 600_000  # pixels drawn at a time: some 100 MB
LONG = 30_000_000  # pixels; drawing more takes long enough for a progress bar

CLASSES = tuple(str(d) for d in range(10))


@DATASETS.register_module()
class DigitScenes(MultimodalDataset):
    """Handwritten digits before photographs, seen by three sensors: a test bench, not a benchmark.

    Both sources ship inside scikit-learn (`load_digits`, `load_sample_images`). One scene has a random digit at a
    random place, scale and angle. ``rgb`` (3 channels) shows it half transparent, in any colour, before a photograph:
    hard. ``depth`` (1) shows a relief on a tilted plane: easy, the modality that takes training over. ``ir`` (1) shows
    it warm, blurred and noisy: in between. No result on these scenes stands for a published benchmark.

    The 1797 digits are split for good, 1200 / 260 / 337, whatever the arguments; scene ``i`` depends on the arguments
    and ``i`` only. Scenes are drawn once and kept in one memory-mapped file for each set of arguments.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``.
        task: ``'class'``, target () int64, the digit 0..9; ``'mask'``, (H, W) int64, 0 for background and digit + 1;
            ``'box'``, a dict of ``boxes`` (N, 4) float32, (x1, y1, x2, y2) in pixels, and ``labels`` (N,) int64;
            ``'fusion'``, None: the images themselves are what is wanted.
        modalities: A subset of rgb, depth, ir in any order; None for all.
        size: Height and width, or one number for both, each at least 24.
        seed: Of the scenes; the split does not depend on it.
        per_digit: Scenes for each digit; the data set has this many times its number of digits.
        max_digits: Scenes have 1 to this many digits, at most 4; None: 1 for ``'class'``, which allows no more, else 3.
        difficulty: The arguments of `Difficulty`; None for its defaults.
        root: Folder of the cached file; None: the environment variable COUNTERPOISE_CACHE, else the user's cache.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown split, task or modality.
        InputError: A size below 24, an argument out of its range, or a cache folder that can not be written.
    """

    all_modalities = ('rgb', 'depth', 'ir')
    all_channels: ClassVar[dict[str, int]] = {'rgb': 3, 'depth': 1, 'ir': 1}

    def __init__(
        self,
        split: str = 'train',
        task: str = 'class',
        modalities: Sequence[str] | str | None = None,
        size: int | Sequence[int] = 48,
        seed: int = 0,
        per_digit: int = 1,
        max_digits: int | None = None,
        difficulty: Mapping[str, Any] | None = None,
        root: str | Path | None = None,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms)
        if task not in TASKS:
            raise unknown_name('task of DigitScenes', task, TASKS)
        self.split, self.task = choose_split(split, SPLITS, 'DigitScenes'), task
        self.size = image_size(size, LEAST)
        self.slots = (1 if task == 'class' else 3) if max_digits is None else _integer('max_digits', max_digits, 1, 4)
        if task == 'class' and self.slots > 1:
            raise InputError(f"The task 'class' has one digit in a scene, got max_digits={max_digits}.")
        self.seed, self.per_digit = _integer('seed', seed, 0), _integer('per_digit', per_digit, 1)
        self.difficulty = _difficulty(difficulty or {})
        self.classes = {'mask': ('background', *CLASSES), 'fusion': ()}.get(task, CLASSES)
        self.path = cache_folder(root) / self._file_name()
        self._cached = None
        shape, dtype = (len(self),), record_type(self.size, self.slots)
        if not is_intact(self.path, dtype, shape):
            write_array(self.path, dtype, shape, self._draw())

    def __len__(self) -> int:
        start, stop = SPLITS[self.split]
        return (stop - start) * self.per_digit

    def load(self, index: int) -> Sample:
        if self._cached is None:
            self._cached = open_array(self.path)
        record = self._cached[index]
        return {
            'inputs': {m: torch.from_numpy(record[m].copy()) for m in self.modalities},
            'present': torch.ones(len(self.modalities), dtype=torch.bool),
            'target': self._target(record),
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_cached': None}  # a worker opens the file itself; pickling would copy all of it

    def _target(self, record: np.void) -> Any:
        if self.task == 'fusion':
            return None
        if self.task == 'class':
            return torch.tensor(int(record['labels'][0]))
        if self.task == 'mask':
            return torch.from_numpy(record['mask'].astype(np.int64))
        used = record['labels'] >= 0
        labels = torch.from_numpy(record['labels'][used].astype(np.int64))
        return {'boxes': torch.from_numpy(record['boxes'][used]), 'labels': labels}

    def _file_name(self) -> str:
        what = [GENERATOR, self.split, self.size, self.slots, self.seed, self.per_digit, asdict(self.difficulty)]
        digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]
        return f'digit_scenes_{self.split}_{self.size[0]}x{self.size[1]}_{digest}.npy'

    def _draw(self) -> Iterable[np.ndarray]:
        images, labels = split_digits(self.split)
        key = (self.seed, list(SPLITS).index(self.split))
        pixels = self.size[0] * self.size[1]
        chunk = max(1, CHUNK // pixels)
        parts = render(images, labels, len(self), self.size, self.slots, key, self.difficulty, chunk)
        if len(self) * pixels < LONG:
            return parts
        from rich.progress import track

        return track(parts, f'Drawing {len(self)} scenes', total=-(-len(self) // chunk), transient=True)


@lru_cache(maxsize=3)
def split_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The digits of one split: (N, 8, 8), values 0..16, and (N,) classes.

    The order is that of an arithmetic permutation: digits of one writer lie together in the source and are spread over
    the splits, and no change of a random generator between versions can move a digit from one split to another.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    start, stop = SPLITS[split]
    chosen = np.arange(start, stop) * 1000 % DIGITS  # 1000 and 1797 have no common divisor: every digit once
    return digits.images[chosen], digits.target[chosen]


def _difficulty(given: Mapping[str, Any]) -> Difficulty:
    known = [f.name for f in fields(Difficulty)]
    for name in given:
        if name not in known:
            raise unknown_name('difficulty argument of DigitScenes', name, known)
    return Difficulty(**given)


def _integer(name: str, value: int, least: int, most: int | None = None) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        allowed = f'at least {least}' if most is None else f'in {least}..{most}'
        raise InputError(f'{name} is an integer {allowed}, got {value!r}.')
    return value
