"""Semantic segmentation of colour and depth images, in the folders that ESANet's users have."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from registry import InputError, unknown_name

from .base import MultimodalDataset, Sample, choose_split, image_size
from .images import read_image, read_plane
from .transforms import RandomCrop, RandomFlip, RandomHSV, RandomResize, Resize

FOLDERS = {'train': 'train', 'val': 'train', 'test': 'test'}  # a validation split is taken from the training list
DEPTHS = {'refined': 'depth', 'raw': 'depth_raw'}


class RGBDFolder(MultimodalDataset):
    """Base of the data sets in this layout; a subclass says its label sets and where it comes from.

    Expects in ``root``: ``train.txt`` and ``test.txt``, one name a line, and in the folders ``train`` and ``test`` the
    folders ``rgb`` (8-bit colour), ``depth`` and ``depth_raw`` (16-bit, millimetres) and ``labels_<K>`` (8-bit, 0 for
    void and 1..K) with a file ``<name>.png`` each. The target is a mask (H, W) int64 of 0..K-1 and `IGNORE` for void.

    Training follows the published recipe of ESANet in its order: both sides times one factor of U(1.0, 1.4), a random
    crop of ``size`` or a plain resize where the image is not larger, hue, saturation and value of rgb times factors of
    U(0.9, 1.1), a random flip. Depth and labels take the nearest pixel and depth values are not rescaled. Deviations:
    nearest pixels are those at pixel centres, not up to half a pixel off; the crop may also lie at the last row and
    column; colours are rounded, not cut off. Testing resizes the inputs only: masks keep their own size, at which
    scores are computed.

    Args:
        root: The folder of the data set.
        split: ``'train'``, ``'test'``, or ``'val'`` where ``val_fraction`` takes one from the training list.
        modalities: A subset of rgb (3, uint8) and depth (1, float32, millimetres) in any order; None for both.
        size: Height and width that are delivered, or one number for both.
        augment: Whether to use the pipeline of training; None: in the training split only.
        num_classes: Which of the label sets; None for the class's first one.
        depth_mode: ``'refined'``: holes are filled (``depth``), or ``'raw'``: 0 where the sensor saw nothing
            (``depth_raw``), for the preprocessor's argument ``invalid``.
        val_fraction: The share of the training list, 0 <= share < 1, that the split ``'val'`` gets and ``'train'``
            loses: evenly spaced lines, the same in every run. Neighbouring lines often show one room.
        allow_missing: An input file that is not there makes its modality absent for that sample instead of an error.
        transforms: See `MultimodalDataset`; they come after those above.

    Raises:
        NameNotFound: An unknown split, modality or depth mode.
        InputError: No such folder or list, an empty list or split, or an argument out of its range.
    """

    all_modalities = ('rgb', 'depth')
    all_channels: ClassVar[dict[str, int]] = {'rgb': 3, 'depth': 1}
    label_sets: ClassVar[dict[int, tuple[str, ...]]] = {}
    origin: ClassVar[str] = ''

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        size: int | Sequence[int] = (480, 640),
        augment: bool | None = None,
        num_classes: int | None = None,
        depth_mode: str = 'refined',
        val_fraction: float = 0.0,
        allow_missing: bool = False,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms)
        owner = type(self).__name__
        num_classes = next(iter(self.label_sets)) if num_classes is None else num_classes
        if num_classes not in self.label_sets:
            known = ' or '.join(map(str, self.label_sets))
            raise InputError(f'{owner}: num_classes is {known}, got {num_classes!r}.')
        if depth_mode not in DEPTHS:
            raise unknown_name(f'depth_mode of {owner}', depth_mode, DEPTHS)
        self.classes, self.allow_missing = self.label_sets[num_classes], allow_missing
        self.folder = Path(root) / FOLDERS[choose_split(split, FOLDERS, owner)]
        self.folders = self.input_folders(depth_mode)
        self.invalid = {'depth': 0} if depth_mode == 'raw' and 'depth' in self.modalities else {}
        self.labels = f'labels_{num_classes}'
        self.list = self.folder.with_suffix('.txt')
        self.names = choose_names(self._read_list(), split, val_fraction, str(self.list))
        for name in (*(self.folders[m] for m in self.modalities), self.labels):
            if not (self.folder / name).is_dir():
                raise InputError(f'{owner}: no folder {self.folder / name}.')
        size = image_size(size)
        if split == 'train' if augment is None else augment:
            pipeline = [
                RandomResize((1.0, 1.4), nearest='depth'),
                RandomCrop(size, resize_smaller=True, nearest='depth'),
                RandomHSV(h=(0.9, 1.1), s=(0.9, 1.1), v=(0.9, 1.1)),
                RandomFlip(),
            ]
        else:
            pipeline = [Resize(size, inputs_only=True, nearest='depth')]
        self.transforms = [*pipeline, *self.transforms]

    def __len__(self) -> int:
        return len(self.names)

    def source(self, index: int) -> str:
        folders = [*(self.folders[m] for m in self.modalities), self.labels]
        return str(self.folder / f'{{{",".join(folders)}}}' / f'{self.names[index]}.png')

    def load(self, index: int) -> Sample:
        files = {m: self._file(self.folders[m], index) for m in self.modalities}
        present = [not self.allow_missing or f.is_file() for f in files.values()]
        if not any(present):
            raise InputError(f'{self.source(index)}: no modality left, none of its images exists.')
        inputs = {m: self._read(m, f) for (m, f), here in zip(files.items(), present) if here}
        target, labels = self.load_target(index), self._file(self.labels, index)
        sizes = {files[m]: tuple(x.shape[1:]) for m, x in inputs.items()} | {labels: tuple(target.shape)}
        (first, expected), *others = sizes.items()
        for file, size in others:
            if size != expected:
                raise InputError(f'{file}: its size is {_size(size)} (H x W), that of {first} is {_size(expected)}.')
        return {
            'inputs': inputs,
            'present': torch.tensor(present),
            'target': target,
            'info': {'files': {m: str(f) for m, f in files.items()}, 'labels': str(labels)},
        }

    def load_target(self, index: int) -> Tensor:
        file = self._file(self.labels, index)
        try:
            labels = read_plane(file, bits=8)[0]
        except FileNotFoundError:
            raise InputError(f'{file}: no such file, named in {self.list}.') from None
        if (highest := int(labels.max())) > self.num_classes:
            raise InputError(f'{file}: label {highest} is out of range, expected 0 (void) to {self.num_classes}.')
        return (labels - 1).long()  # in 8 bits 0 - 1 is 255: void becomes IGNORE

    def _file(self, folder: str, index: int) -> Path:
        return self.folder / folder / f'{self.names[index]}.png'

    def _read(self, modality: str, file: Path) -> Tensor:
        try:
            return self._read_file(modality, file)
        except FileNotFoundError:
            raise InputError(
                f'{file}: no such file, named in {self.list}; allow_missing=True treats its modality as absent.'
            ) from None

    @classmethod
    def input_folders(cls, depth_mode: str = 'refined', **arguments: Any) -> dict[str, str]:
        """Modality to the name of its folder."""
        return {'rgb': 'rgb', 'depth': DEPTHS[depth_mode]}

    @classmethod
    def _read_file(cls, modality: str, file: Path, **arguments: Any) -> Tensor:
        return read_image(file, grey=False) if modality == 'rgb' else read_plane(file, bits=16).float()

    def _read_list(self) -> list[str]:
        owner, root = type(self).__name__, self.list.parent
        if not root.is_dir():
            raise InputError(f'{owner}: no folder {root}. {self.origin}')
        if not self.list.is_file():
            raise InputError(f'{owner}: no list {self.list}; expected train.txt and test.txt beside train and test.')
        names = self.list.read_text(encoding='utf-8-sig', errors='surrogateescape').split('\n')
        if not (names := [n.strip() for n in names if n.strip()]):
            raise InputError(f'{self.list}: the list is empty.')
        return names


def choose_names(names: Sequence[str], split: str, val_fraction: float, source: str) -> list[str]:
    """The names of a list that belong to a split.

    Args:
        names: All of the list.
        split: ``'train'``, ``'val'`` or ``'test'``.
        val_fraction: The share that validation gets of a training list.
        source: What messages begin with.

    Raises:
        InputError: A share out of range, a validation split without a share, or nothing left.
    """
    if isinstance(val_fraction, bool) or not isinstance(val_fraction, (int, float)) or not 0 <= val_fraction < 1:
        raise InputError(f'val_fraction is a share 0 <= share < 1 of the training list, got {val_fraction!r}.')
    if split == 'test':
        return list(names)
    if split == 'val' and not val_fraction:
        raise InputError(
            f'{source}: there is no validation split; val_fraction=0.1 takes one from the training list '
            "(in train_dataloader too), or use split='test'."
        )
    held = set(spaced(len(names), round(val_fraction * len(names))))
    chosen = [name for i, name in enumerate(names) if (i in held) == (split == 'val')]
    if not chosen:
        raise InputError(f'{source}: val_fraction={val_fraction} of {len(names)} leaves the split {split!r} empty.')
    return chosen


def spaced(count: int, number: int) -> list[int]:
    """``number`` of the indices 0..count-1, evenly spaced.

    >>> spaced(10, 3)
    [1, 5, 8]
    """
    return [(2 * i + 1) * count // (2 * number) for i in range(number)]


def _size(size: Sequence[int]) -> str:
    return 'x'.join(map(str, size))
