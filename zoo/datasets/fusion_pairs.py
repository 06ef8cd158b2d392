"""Pairs for image fusion: a visible and an infrared image of one view, in the layouts of public sets."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from registry import DATASETS, InputError, unknown_name

from .base import MultimodalDataset, Sample, choose_split
from .image_folders import ALL, HOME
from .images import read_channels, read_listed
from .listing import Files, check_headers, find_folder, list_files
from .rgbd_folder import choose_names
from .splits import SHARES, divide

NAMES = {'vis': ('vi', 'vis', 'visible', 'crop_lr_visible'), 'ir': ('ir', 'infrared', 'cropinfrared')}
FLAT = re.compile(r'(VIS|IR)[_-]?(\d.*)', re.IGNORECASE)
SPLITS = {'train': 'train', 'val': 'train', 'test': 'test'}  # a validation split is taken from the training images
SHOWN = 5  # files that a message names


@dataclass(frozen=True)
class Layout:
    """How a public set lies on the disk.

    Attributes:
        folder: Of a modality's images below the root; None where all lie in the root.
        names: What the modalities' folders are called.
        published: Split to the numbers of pairs that are published, ``'all'`` where the set is not divided.
    """

    folder: str | None
    names: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def divided(self) -> bool:
        """Whether there are folders for splits."""
        return self.folder is not None and '{split}' in self.folder


LAYOUTS = {
    'msrs': Layout('{split}/{modality}', {'vis': 'vi', 'ir': 'ir'}, {'train': (1083,), 'test': (361,)}),
    'llvip': Layout('{modality}/{split}', {'vis': 'visible', 'ir': 'infrared'}, {'train': (12025,), 'test': (3463,)}),
    'm3fd': Layout('{modality}', {'vis': 'Vis', 'ir': 'Ir'}, {'all': (300, 4200)}),  # those to fuse, those with boxes
    'roadscene': Layout('{modality}', {'vis': 'crop_LR_visible', 'ir': 'cropinfrared'}, {'all': (221,)}),
    'flat': Layout(None),
}


@DATASETS.register_module()
class FusionPairs(MultimodalDataset):
    """Registered pairs of a visible (vis) and an infrared (ir) image, in the layout of a public set, without a target.

    Files are paired by their stems, in natural order. Images of 16 bits in one channel are brought to 0..255 as they
    are, without stretching. The two of a pair have one size, unless a `Resize` follows.

    Args:
        root: The folder of the data set.
        split: Of msrs and llvip ``'train'``, ``'test'``, or ``'val'`` where ``val_fraction`` takes one from the
            training images; of the others one of ``shares``, or ``'all'``.
        layout: msrs: ``<split>/vi/<stem>.png`` and ``<split>/ir``; llvip: ``visible/<split>`` and ``infrared/<split>``;
            m3fd: ``Vis`` and ``Ir``; roadscene: ``crop_LR_visible`` and ``cropinfrared``; flat, as TNO is handed
            around: ``VIS<n>.*`` and ``IR<n>.*`` in one folder. Instead of vi, visible, ... any of these names will do,
            and vis and infrared, whatever the case.
        modalities: A subset of vis and ir in any order; None for both.
        vis_channels: 3 colours, or 1 for the luma, which a host of one channel needs.
        val_fraction: See `LLVIP`; of msrs and llvip only.
        shares: Split to its share, the shares sum up to 1; None for 0.8 train, 0.1 val, 0.1 test. Of sets that are not
            divided.
        seed: Of this division.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown layout, split or modality.
        InputError: A missing folder, no images, files without a partner, or an argument out of its range.
    """

    all_modalities = ('vis', 'ir')
    all_channels: ClassVar[dict[str, int]] = {'vis': 3, 'ir': 1}

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        layout: str = 'msrs',
        modalities: Sequence[str] | str | None = None,
        vis_channels: int = 3,
        val_fraction: float = 0.0,
        shares: Mapping[str, float] | None = None,
        seed: int = 0,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        if vis_channels not in (1, 3):
            raise InputError(f'FusionPairs: vis_channels is 1 or 3, got {vis_channels!r}.')
        self.all_channels = {'vis': vis_channels, 'ir': 1}
        super().__init__(modalities, transforms)
        if layout not in LAYOUTS:
            raise unknown_name('layout of FusionPairs', layout, LAYOUTS)
        owner, facts = f'FusionPairs ({layout})', LAYOUTS[layout]
        root = find_folder(root, owner, HOME)
        if facts.divided:
            part = SPLITS[choose_split(split, SPLITS, owner)]
            self._files, stems = _paired(_images(root, facts, owner, part), owner)
            names, self.list = choose_names(stems, split, val_fraction, f'{owner} in {root}'), str(root / part)
        else:
            if val_fraction:
                raise InputError(f'{owner} has no training images of its own: shares divides it, not val_fraction.')
            part = ALL
            self._files, stems = _paired(_images(root, facts, owner), owner)
            parts = {**divide(stems, SHARES if shares is None else shares, seed), ALL: stems}
            names, self.list = parts[choose_split(split, parts, owner)], str(root)
        if len(stems) not in facts.published.get(part, (len(stems),)):
            published = ' or '.join(map(str, facts.published[part]))
            warnings.warn(f'{owner} in {self.list}: {len(stems)} pairs, published are {published}.', stacklevel=2)
        self.names = sorted(names, key=natural)

    def __len__(self) -> int:
        return len(self.names)

    def source(self, index: int) -> str:
        return self._files[self.modalities[0]][self.names[index]]

    def load(self, index: int) -> Sample:
        files = {m: self._files[m][self.names[index]] for m in self.modalities}
        return {
            'inputs': {m: _eight_bits(read_listed(file, self.channels[m])) for m, file in files.items()},
            'present': torch.ones(len(files), dtype=torch.bool),
            'target': None,
            'info': {'files': files},
        }

    def check_annotations(self) -> None:
        """Read the headers of all images.

        Raises:
            InputError: A file that is no image, or pairs of two sizes where no `Resize` comes first.
        """
        files = [[self._files[m][n] for n in self.names] for m in self.modalities]
        sizes = [check_headers(f, 'FusionPairs') for f in files]
        if self.transforms and getattr(self.transforms[0], 'any_sizes', False):
            return
        wrong = [
            f'{own[0]} ({", ".join(f"{height}x{width}" for height, width in s)})'
            for own, *s in zip(zip(*files), *sizes)
            if len(set(s)) > 1
        ]
        if wrong:
            raise InputError(
                f'FusionPairs: the images of {len(wrong)} pairs differ in size (H x W): {_first(wrong)}. Fusion takes '
                'registered images; a Resize that comes first makes them alike.'
            )

    @classmethod
    def input_folders(cls, layout: str = 'msrs', **arguments: Any) -> dict[str, str]:
        """Modality to the name of its folder."""
        return dict(LAYOUTS[layout].names) if layout in LAYOUTS else {}

    @classmethod
    def find_files(cls, path: Path) -> dict[str, dict[str, Path]] | None:
        """The samples in a folder of ``VIS<n>.*`` and ``IR<n>.*``."""
        if not path.is_dir():
            return None
        flat = _flat(list_files(path, 'FusionPairs'), 'FusionPairs')
        keys = sorted(set().union(*flat.values()), key=natural)
        return {k: {m: Path(files[k]) for m, files in flat.items() if k in files} for k in keys} or None

    @classmethod
    def _read_file(cls, modality: str, file: Path, vis_channels: int = 3, **arguments: Any) -> Tensor:
        return _eight_bits(read_channels(file, vis_channels if modality == 'vis' else 1))


def natural(name: str) -> list[tuple[bool, int | str]]:
    """A key that sorts numbers in names by their size.

    >>> sorted(['a10', 'a9', 'b'], key=natural)
    ['a9', 'a10', 'b']
    """
    parts = filter(None, re.split(r'(\d+)', name))
    return [(False, int(part)) if part.isdecimal() else (True, part) for part in parts]


def _eight_bits(x: Tensor) -> Tensor:
    """An image on the scale of 8 bits: one of 16, which is floating point, is shrunk."""
    return x * (255 / 65535) if x.is_floating_point() else x


def _images(root: Path, layout: Layout, owner: str, split: str = '') -> dict[str, Files]:
    """Modality to its images by stem."""
    if layout.folder is None:
        return _flat(list_files(root, owner), owner)
    if layout.folder.startswith('{split}'):
        root = find_folder(root / split, owner, HOME)
    found = {m: _subfolder(root, m, owner) for m in NAMES}
    behind = split if layout.folder.endswith('{split}') else ''
    return {m: list_files(folder / behind, owner) for m, folder in found.items()}


def _subfolder(root: Path, modality: str, owner: str) -> Path:
    folders = {e.name.lower(): e.name for e in os.scandir(root) if e.is_dir()}
    for name in NAMES[modality]:
        if name in folders:
            return root / folders[name]
    there = ', '.join(sorted(folders.values())) or 'none'
    raise InputError(
        f'{owner}: no folder of {modality} in {root}, which would be one of {", ".join(NAMES[modality])}; '
        f'it has: {there}.'
    )


def _flat(files: Files, owner: str) -> dict[str, Files]:
    found: dict[str, Files] = {m: {} for m in NAMES}
    for stem, file in sorted(files.items()):
        if match := FLAT.fullmatch(stem):
            own = found[match[1].lower()]
            if match[2] in own:
                raise InputError(f'{owner}: {file} and {own[match[2]]} would be one image.')
            own[match[2]] = file
    return found


def _paired(images: dict[str, Files], owner: str) -> tuple[dict[str, Files], list[str]]:
    """The images and the stems that they share."""
    stems = sorted(set().union(*images.values()), key=natural)
    if not stems:
        raise InputError(f'{owner}: there are no images.')
    lonely = [next(f[s] for f in images.values() if s in f) for s in stems if any(s not in f for f in images.values())]
    if lonely:
        raise InputError(f'{owner}: {len(lonely)} files have no partner of the same stem: {_first(lonely)}.')
    return images, stems


def _first(items: Sequence[str]) -> str:
    return ', '.join(items[:SHOWN]) + (', ...' if len(items) > SHOWN else '')
