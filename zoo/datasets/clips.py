"""What data sets of short videos share: clips in lists, a folder of frames each, and several frames of a clip."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from registry import InputError, unknown_name

from .base import MANY, MultimodalDataset, Sample, choose_split, image_size
from .images import read_listed
from .listing import IMAGES, find_folder
from .rgbd_folder import choose_names
from .transforms import RandomFlip, RandomResizedCrop, Resize

ON_MISSING = ('error', 'absent', 'skip')


class Clip(NamedTuple):
    """One line of a list."""

    names: tuple[str, ...]  # what its files may be called; the first one that is there counts
    label: int
    place: str  # file:line


class Entry(NamedTuple):
    """One sample: a clip with what there is of it."""

    name: str
    label: int
    place: str
    files: dict[str, Any]  # modality -> where it is


class ClipDataset(MultimodalDataset):
    """Base of data sets whose samples are clips of video, classified.

    A subclass says ``lists`` and ``folders``, reads a list (`read_clips`), finds files (`find`) and reads them
    (`read`). ``frames`` positions are taken in a clip: it is cut into equal parts, of which training takes a random
    position each, and testing the middle. Training then cuts out a random part of the pictures, of 8 to 100 % of the
    area, resizes it to ``size`` and mirrors half of them; testing resizes. All modalities of a sample share positions
    and geometry.

    Args:
        root: The folder of the data set.
        split: One of those in ``lists``.
        modalities: A subset of ``all_modalities`` in any order; None for all.
        size: Height and width of the pictures, or one number for both.
        augment: Whether to use the pipeline of training; None: in the training split only.
        frames: T. Pictures are (C, H, W) where it is 1, else (C, T, H, W): see `FrameAverage`.
        lists: Split to list below ``root``; those that are not named keep their default. ``'val'`` shares that of
            ``'train'`` where there is no list of validation.
        folders: Name to folder below ``root``, ``{split}`` in it stands for the split whose list it is; those that are
            not named keep their default.
        val_fraction: The share of the training list, 0 <= share < 1, that the split ``'val'`` gets and ``'train'``
            loses where they share it: evenly spaced lines, the same in every run.
        on_missing: What a clip is that lacks a modality: an ``'error'``; with it ``'absent'``, unless it lacks all; or
            left out, ``'skip'``. One line says how many there are. None: as is usual for the set, mostly an error.
        transforms: See `MultimodalDataset`; they come after those above.

    Raises:
        NameNotFound: An unknown split, modality, list, folder or ``on_missing``.
        InputError: No such folder or list, a wrong line, a clip without its files, or an argument out of its range.
    """

    lists: Mapping[str, str] = {'train': 'train.txt', 'val': 'train.txt', 'test': 'test.txt'}
    folders: Mapping[str, str] = {}
    origin: ClassVar[str] = ''
    flow: ClassVar[tuple[str, ...]] = ()  # modalities that are optical flow
    least_frames: ClassVar[int] = 1  # clips with fewer have none
    usually: ClassVar[str] = 'error'  # what ``on_missing`` is by default

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        size: int | Sequence[int] = 224,
        augment: bool | None = None,
        frames: int = 1,
        lists: Mapping[str, str] | None = None,
        folders: Mapping[str, str] | None = None,
        val_fraction: float = 0.0,
        on_missing: str | None = None,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms)
        owner = type(self).__name__
        if not isinstance(frames, int) or isinstance(frames, bool) or frames < 1:
            raise InputError(f'{owner}: frames is a whole number of at least 1, got {frames!r}.')
        on_missing = self.usually if on_missing is None else on_missing
        if on_missing not in ON_MISSING:
            raise unknown_name(f'on_missing of {owner}', on_missing, ON_MISSING)
        shared = self.lists['train'] == self.lists['val'] and 'val' not in (lists or ())
        self.lists = _changed(self.lists, lists, f'{owner} (in lists)')
        if shared:
            self.lists['val'] = self.lists['train']
        self.folders = _changed(self.folders, folders, f'{owner} (in folders)')
        choose_split(split, self.lists, owner)
        self.root, self.split, self.frames = find_folder(root, owner, self.origin), split, frames
        self.augment = split == 'train' if augment is None else augment
        self.list = self.root / self.lists[split]
        divided = self.lists['train'] == self.lists['val']
        self.part = 'train' if divided and split == 'val' else split  # whose list and folders it has
        clips = self.read_clips(self.list)
        if not clips:
            raise InputError(f'{self.list}: it has no clip of the split {split!r}.')
        if divided:
            clips = self.divide(clips, split, val_fraction)
        elif val_fraction:
            raise InputError(f'{owner} has a validation split of its own: leave val_fraction={val_fraction!r} out.')
        self.entries = self._entries(clips, on_missing)
        self.names = [e.name for e in self.entries]
        size = image_size(size)
        pipeline = [RandomResizedCrop(size), RandomFlip(flow=self.flow)] if self.augment else [Resize(size)]
        self.transforms = [*pipeline, *self.transforms]

    def read_clips(self, file: Path) -> list[Clip]:
        """The clips that a list has of ``self.part``; sets ``classes`` where the class does not say them."""
        raise NotImplementedError

    def find(self, modality: str) -> Mapping[str, Any]:
        """Name of a clip to where its files of a modality are."""
        raise NotImplementedError

    def wanted(self, modality: str, name: str) -> str:
        """Where the files of a clip are looked for, for messages."""
        raise NotImplementedError

    def read(self, modality: str, where: Any, positions: Sequence[float]) -> Tensor:
        """One modality of a clip.

        Args:
            modality: Its name.
            where: What `find` said.
            positions: Shares of the clip in 0..1, one for each of ``frames``.
        """
        raise NotImplementedError

    def divide(self, clips: Sequence[Clip], split: str, val_fraction: float) -> list[Clip]:
        """Those of the list of training and validation that a split has."""
        return choose_names(clips, split, val_fraction, str(self.list))

    def folder(self, name: str) -> Path:
        """One of ``folders``."""
        return self.root / self.folders[name].format(split=self.part)

    def __len__(self) -> int:
        return len(self.entries)

    def source(self, index: int) -> str:
        entry = self.entries[index]
        return f'{entry.place} ({entry.name})'

    def presence(self) -> Tensor:
        return torch.tensor([[m in e.files for m in self.modalities] for e in self.entries])

    def load(self, index: int) -> Sample:
        entry = self.entries[index]
        steps = torch.rand(self.frames).tolist() if self.augment else [0.5] * self.frames
        positions = [(i + step) / self.frames for i, step in enumerate(steps)]
        return {
            'inputs': {m: self.read(m, where, positions) for m, where in entry.files.items()},
            'present': torch.tensor([m in entry.files for m in self.modalities]),
            'target': self.load_target(index),
            'info': {'name': entry.name},
        }

    def load_target(self, index: int) -> Tensor:
        return torch.tensor(self.entries[index].label)

    def _entries(self, clips: Sequence[Clip], on_missing: str) -> list[Entry]:
        owner, found = type(self).__name__, {m: self.find(m) for m in self.modalities}
        entries, lacking, left_out = [], dict.fromkeys(self.modalities, 0), 0
        for clip in clips:
            names = {m: next((n for n in clip.names if n in found[m]), None) for m in self.modalities}
            files = {m: found[m][name] for m, name in names.items() if name is not None}
            for m in (missing := [m for m in self.modalities if m not in files]):
                lacking[m] += 1
                if on_missing == 'error':
                    raise InputError(
                        f'{clip.place}: {clip.names[0]} has no {m}, expected {self.wanted(m, clip.names[0])}. '
                        f"on_missing='absent' takes it as absent, 'skip' leaves such clips out."
                    )
            if missing and (on_missing == 'skip' or not files):
                left_out += 1
            else:
                entries.append(Entry(clip.names[0], clip.label, clip.place, files))
        if any(lacking.values()):
            listed = ', '.join(f'{n} have no {m}' for m, n in lacking.items() if n)
            text = f'{owner} {self.split} in {self.root}: of {len(clips)} clips {listed}; {left_out} are left out.'
            if not entries:
                first = clips[0].names[0]
                places = ', '.join(self.wanted(m, first) for m in self.modalities)
                raise InputError(f'{text} The first one was looked for as {places}.')
            warnings.warn(text, stacklevel=4)
        return entries


def list_frames(folder: str | Path) -> list[str]:
    """The names of the images in a folder in the order of the numbers in them.

    Raises:
        InputError: No such folder, or none in it.
    """
    try:
        names = [e.name for e in os.scandir(folder) if _is_image(e.name)]
    except OSError as error:
        raise InputError(f'{folder}: the folder of frames can not be read ({error.strerror}).') from error
    if not names:
        raise InputError(f'{folder}: the folder holds no frame.')
    return sorted(names, key=_natural)


def list_clips(folder: Path, owner: str, least: int = 1) -> dict[str, str]:
    """Name to path of the folders in a folder that hold at least so many images; many make a progress bar.

    Raises:
        InputError: No such folder.
    """
    from rich.progress import track

    try:
        clips = {e.name: e.path for e in os.scandir(folder) if e.is_dir() and not e.name.startswith('.')}
    except OSError as error:
        raise InputError(f'{owner}: no folder {folder} ({error.strerror}).') from None
    title = f'Looking at the clips of {owner}'
    clips = track(clips.items(), title, total=len(clips), transient=True, disable=len(clips) <= MANY)
    return {name: path for name, path in clips if _has_images(path, least)}


def read_frames(folder: str | Path, positions: Sequence[float]) -> Tensor:
    """Frames of a clip in colour, at shares of its length in 0..1: uint8 (3, H, W), of several (3, T, H, W).

    Raises:
        InputError: No frames, one that can not be read, or frames that differ in size.
    """
    names = list_frames(folder)
    return stack([read_listed(Path(folder) / names[int(p * len(names))], 3) for p in positions], folder)


def stack(pictures: Sequence[Tensor], folder: str | Path) -> Tensor:
    """One picture itself, several (C, H, W) as (C, T, H, W).

    Raises:
        InputError: They differ in size.
    """
    if len(sizes := {tuple(p.shape[1:]) for p in pictures}) > 1:
        raise InputError(f'{folder}: its frames differ in size (H, W): {sorted(sizes)}.')
    return pictures[0] if len(pictures) == 1 else torch.stack(list(pictures), dim=1)


def read_lines(file: Path, owner: str, origin: str = '') -> list[tuple[int, str]]:
    """The lines of a list with their numbers, empty ones left out.

    Raises:
        InputError: No such list, an empty one, or one that can not be read.
    """
    try:
        text = file.read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        raise InputError(f'{owner}: no list {file}. {origin}'.strip()) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{file}: the list can not be read ({error}).') from error
    lines = [(i, line.strip()) for i, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise InputError(f'{file}: the list is empty.')
    return lines


def _changed(defaults: Mapping[str, str], changes: Mapping[str, str] | None, owner: str) -> dict[str, str]:
    if not isinstance(changes, Mapping | None):
        raise InputError(f'{owner}: expected dict(name=path, ...), got {changes!r}.')
    for name in changes or {}:
        if name not in defaults:
            raise unknown_name(f'name of {owner}', name, defaults)
    return {**defaults, **(changes or {})}


def _has_images(folder: str, least: int) -> bool:
    with os.scandir(folder) as entries:
        for entry in entries:
            least -= _is_image(entry.name)
            if least <= 0:
                return True
    return False


def _is_image(name: str) -> bool:
    return not name.startswith('.') and os.path.splitext(name)[1].lower() in IMAGES


def _natural(name: str) -> list[Any]:
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r'(\d+)', name))]
