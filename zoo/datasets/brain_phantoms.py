"""BrainPhantoms: volumes with a tumour that need no download."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from registry import DATASETS, InputError

from .base import MultimodalDataset, Sample, choose_split
from .brain_volumes import standardise
from .brats import SEQUENCES, BraTS
from .transforms.volume import volume_size

SPLITS = {'train': 160, 'val': 24, 'test': 48}  # phantoms
LEAST = 16
TISSUES = ('brain', 'ventricles', 'NCR/NET', 'ED', 'ET')

# Brightness of each tissue. The oedema, and with it the whole tumour, is told from all else best in flair; in t2 the
# ventricles look like it. The rim is bright and the core dark in t1ce alone, where the oedema is hard to see.
CONTRAST = {
    'flair': (1.0, 0.55, 1.7, 1.9, 1.7),
    't1ce': (1.0, 0.55, 0.6, 0.9, 1.9),
    't1': (1.0, 0.55, 0.7, 0.8, 0.75),
    't2': (1.0, 1.75, 1.8, 1.55, 1.45),
}


@DATASETS.register_module()
class BrainPhantoms(MultimodalDataset):
    """Ellipsoids with the sequences and classes of `BraTS`: a test bench, not a benchmark.

    A head is an ellipsoid with two ventricles and one tumour: an oedema around a rim around a core, each an ellipsoid
    at a random place within the last; one tumour in five has no rim. flair shows the whole tumour best, t1ce the core
    and its rim; t2 takes ventricles for tumour, t1 shows little of anything. A smooth field, different for each
    sequence, and noise lie over the brain; then each sequence is standardised as in BraTS. No result on these volumes
    stands for a published benchmark.

    Phantom ``i`` depends on seed, split, size, noise and ``i`` only and is drawn whenever it is read, in about 10 ms
    with 32 voxels a side.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``: 160, 24 and 48 phantoms.
        modalities: A subset of flair, t1ce, t1, t2 in any order; None for all.
        size: (D, H, W), or one number for all, each at least 16.
        seed: Of the phantoms.
        count: Another number of phantoms; more begin with the same ones.
        noise: Standard deviation, where healthy tissue has the brightness 1.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown split or modality.
        InputError: A size below 16, or another argument out of its range.
    """

    all_modalities = SEQUENCES
    all_channels: ClassVar[dict[str, int]] = dict.fromkeys(SEQUENCES, 1)
    spatial_dims = 3
    classes = BraTS.classes
    find_files, read_files, write_prediction = BraTS.find_files, BraTS.read_files, BraTS.write_prediction

    def __init__(
        self,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        size: int | Sequence[int] = 48,
        seed: int = 0,
        count: int | None = None,
        noise: float = 0.2,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms)
        self.split, self.size = choose_split(split, SPLITS, 'BrainPhantoms'), volume_size(size, LEAST)
        self.count = SPLITS[split] if count is None else count
        for name, value, least in (('seed', seed, 0), ('count', self.count, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f'{name} of BrainPhantoms is an integer of at least {least}, got {value!r}.')
        if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise < float('inf'):
            raise InputError(f'noise of BrainPhantoms is a number of at least 0, got {noise!r}.')
        self.seed, self.noise = seed, noise

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, list(SPLITS).index(self.split), index])
        tissue = draw_tissue(rng, self.size)
        volumes = {m: paint(rng, tissue, CONTRAST[m], self.noise) for m in SEQUENCES}  # all: each draws from `rng`
        return {
            'inputs': {m: torch.from_numpy(volumes[m])[None] for m in self.modalities},
            'present': torch.ones(len(self.modalities), dtype=torch.bool),
            'target': torch.from_numpy(np.maximum(tissue - 1, 0)).long(),
        }


def draw_tissue(rng: np.random.Generator, size: tuple[int, int, int]) -> np.ndarray:
    """(D, H, W) int8: -1 outside the head, else the index of one of `TISSUES`."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in size]
    radii = rng.uniform(0.78, 0.92, 3)
    tissue = np.where(_ellipsoid(axes, (0, 0, 0), radii), np.int8(0), np.int8(-1))
    shift = rng.uniform(-0.05, 0.05, 3)
    for side in (-1, 1):
        middle = shift + np.array([0, 0, 0.17 * side])
        tissue[_ellipsoid(axes, middle, radii * rng.uniform((0.3, 0.14, 0.1), (0.42, 0.2, 0.16)))] = 1
    oedema = rng.uniform(0.3, 0.48, 3)
    direction = rng.normal(size=3)
    centre = direction / np.linalg.norm(direction) * rng.uniform(0.25, 0.5) * radii
    rim = oedema * rng.uniform(0.62, 0.78)
    centre_rim = centre + rng.uniform(-0.5, 0.5, 3) * (oedema - rim)
    core = rim * rng.uniform(0.5, 0.7)
    enhancing = rng.random() >= 0.2
    head = tissue >= 0
    for middle, half, index in ((centre, oedema, 3), (centre_rim, rim, 4 if enhancing else 2), (centre_rim, core, 2)):
        tissue[_ellipsoid(axes, middle, half) & head] = index
    return tissue


def paint(rng: np.random.Generator, tissue: np.ndarray, contrast: Sequence[float], noise: float) -> np.ndarray:
    """One sequence of a head, (D, H, W) float32, standardised inside the head; one value outside."""
    brightness = np.array([*contrast, 0], np.float32)[tissue]  # -1 finds the last one
    slope = rng.uniform(-0.08, 0.08, 3)
    for axis, (n, s) in enumerate(zip(tissue.shape, slope)):
        brightness *= np.linspace(1 - s, 1 + s, n, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    head = tissue >= 0
    brightness += noise * rng.standard_normal(tissue.shape, dtype=np.float32) * head
    return standardise(brightness, head)


def _ellipsoid(axes: Sequence[np.ndarray], centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    parts = [((x - np.float32(c)) / np.float32(r)) ** 2 for x, c, r in zip(axes, centre, radii)]
    return parts[0][:, None, None] + parts[1][:, None] + parts[2] <= 1
