"""Users' own sets of several modalities for classification: a folder of images for each modality."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from registry import DATASETS, InputError, unknown_name

from .base import MultimodalDataset, Sample, choose_split
from .image_folders import ALL, HOME
from .image_layouts import compiled, group_of, read_rows
from .images import read_channels, read_listed
from .listing import Files, check_headers, find_folder, list_files
from .splits import SHARES, divide_groups


@DATASETS.register_module()
class PairedFolders(MultimodalDataset):
    """Images of several modalities of the same subjects, joined by their names.

    Expects ``<root>/<modality>/<class>/<stem>.png``, or ``<root>/<modality>/<stem>.png`` and a table of labels. What a
    stem has in common with those of the other modalities is its ``key``: there is one sample for each key. A modality
    that lacks it is absent from the sample, and one line says how many do. The samples are divided class by class, the
    same on every machine, and a ``group`` stays together. The images of a sample may differ in size before a `Resize`.

    Args:
        root: The folder of the data set.
        split: One of ``shares``, or ``'all'``.
        channels: Modality to 3 (colour of 8 bits) or 1 (8 or 16 bits, or the luma), of all modalities that there are.
        folders: Modality to the name of its folder, where it is not its own.
        modalities: A subset of those of ``channels`` in any order; None for all.
        classes: Their names in the order of their numbers; None for all that there are, sorted.
        labels: A file below ``root`` of comma-separated values with the columns ``id`` (the key) and ``label`` (the
            name of the class), in which case there are no folders of classes.
        key: A regular expression whose first group, searched in a stem, is the key: ``r'(P[0-9]+)_'`` joins
            ``P01_mri`` and ``P01_ct``. None: the whole stem.
        group: The same, searched in a key, for what a division keeps together: ``r'(P[0-9]+)'`` of a patient with
            several samples. None: each sample stands for itself.
        shares: Split to its share, the shares sum up to 1; None for 0.8 train, 0.1 val, 0.1 test.
        seed: Of the division.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown split, modality or class.
        InputError: A missing folder or table, an empty class, two images of one modality with one key, a key with two
            classes or none, or an argument out of its range.
    """

    all_channels: ClassVar[dict[str, int]] = {}

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        channels: Mapping[str, int] | None = None,
        folders: Mapping[str, str] | None = None,
        modalities: Sequence[str] | str | None = None,
        classes: Sequence[str] | None = None,
        labels: str | None = None,
        key: str | None = None,
        group: str | None = None,
        shares: Mapping[str, float] | None = None,
        seed: int = 0,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        if not isinstance(channels, Mapping) or not channels or any(c not in (1, 3) for c in channels.values()):
            raise InputError(f'PairedFolders: channels is dict(modality=1 or 3, ...), got {channels!r}.')
        self.all_modalities, self.all_channels = tuple(channels), dict(channels)
        super().__init__(modalities, transforms)
        if not isinstance(folders, Mapping | None):
            raise InputError(f'PairedFolders: folders is dict(modality=folder, ...), got {folders!r}.')
        for m in folders or {}:
            if m not in channels:
                raise unknown_name('modality of PairedFolders (in folders)', m, channels)
        root = find_folder(root, 'PairedFolders', HOME)
        places = {m: find_folder(root / (folders or {}).get(m, m), 'PairedFolders', HOME) for m in channels}
        key, group = compiled(key, 'PairedFolders', 'key'), compiled(group, 'PairedFolders', 'group')
        if labels is None:
            images, named = _by_folders(places, key)
        else:
            images = {m: _by_key(list_files(place, 'PairedFolders'), key) for m, place in places.items()}
            named = _by_table(root / labels, set().union(*images.values()))
        if len(images) > 1 and sum(map(len, images.values())) == len(set().union(*images.values())):
            some = ', '.join(min(files) for files in images.values() if files)
            raise InputError(
                f'PairedFolders: no two modalities in {root} have a key in common ({some}): '
                'key=PATTERN says which part of a stem joins them.'
            )
        self.classes = _classes(sorted(set(named.values())), classes, root)
        numbers = {name: i for i, name in enumerate(self.classes)}
        keys = sorted(named)
        parts = divide_groups(
            [numbers[named[k]] for k in keys],
            [group_of(k, group or '', k) for k in keys],
            SHARES if shares is None else shares,
            seed,
        )
        parts = {**parts, ALL: range(len(keys))}
        chosen = [keys[i] for i in parts[choose_split(split, parts, 'PairedFolders')]]
        here = [k for k in chosen if any(k in images[m] for m in self.modalities)]
        if not here:
            raise InputError(
                f'PairedFolders: the split {split!r} of {root} has no image of {", ".join(self.modalities)}.'
            )
        self._images, self._labels = images, [numbers[named[k]] for k in here]
        self.list, self.names = str(root), here
        if lacking := {m: n for m in self.modalities if (n := sum(k not in images[m] for k in here))}:
            listed = ', '.join(f'{n} have no {m}' for m, n in lacking.items())
            warnings.warn(f'PairedFolders {split} in {root}: of {len(here)} samples {listed}.', stacklevel=2)

    def __len__(self) -> int:
        return len(self.names)

    def presence(self) -> Tensor:
        return torch.tensor([[k in self._images[m] for m in self.modalities] for k in self.names])

    def source(self, index: int) -> str:
        return next(iter(self._files(index).values()))

    def load(self, index: int) -> Sample:
        files = self._files(index)
        return {
            'inputs': {m: read_listed(file, self.channels[m]) for m, file in files.items()},
            'present': torch.tensor([m in files for m in self.modalities]),
            'target': self.load_target(index),
            'info': {'files': files},
        }

    def load_target(self, index: int) -> Tensor:
        return torch.tensor(self._labels[index])

    def check_annotations(self) -> None:
        """Read the headers of all images.

        Raises:
            InputError: A file that is no image.
        """
        check_headers([f for i in range(len(self)) for f in self._files(i).values()], 'PairedFolders')

    def _files(self, index: int) -> Files:
        key = self.names[index]
        return {m: self._images[m][key] for m in self.modalities if key in self._images[m]}

    @classmethod
    def input_folders(cls, folders: Mapping[str, str] | None = None, **arguments: Any) -> dict[str, str]:
        """Modality to the name of its folder."""
        return dict(folders or {})

    @classmethod
    def read_input(cls, modality: str, file: str | Path, channels: Mapping[str, int], **arguments: Any) -> Tensor:
        """See `MultimodalDataset.read_input`; the modalities are those of ``channels``."""
        if modality not in channels:
            raise unknown_name('modality of PairedFolders', modality, channels)
        try:
            return read_channels(Path(file), channels[modality]).contiguous()
        except FileNotFoundError:
            raise InputError(f'{file}: no such file.') from None


def _by_key(files: Files, pattern: str | None) -> Files:
    found: Files = {}
    for stem, file in sorted(files.items()):
        match = re.search(pattern, stem) if pattern else None
        key = match and match[1] if pattern else stem
        if key is None:
            raise InputError(f'{file}: its name does not match key={pattern!r}.')
        if key in found:
            raise InputError(f'{file}: it has the key {key!r} as {found[key]} has, and a sample has one image of each.')
        found[key] = file
    return found


def _by_folders(places: Mapping[str, Path], pattern: str | None) -> tuple[dict[str, Files], dict[str, str]]:
    """Modality to its files, and key to the name of its class, from the folders of the classes."""
    images: dict[str, Files] = {}
    named: dict[str, str] = {}
    for modality, place in places.items():
        folders = sorted(e.name for e in os.scandir(place) if e.is_dir() and not e.name.startswith('.'))
        if not folders:
            raise InputError(f'PairedFolders: {place} holds no folder of a class; images without give labels=TABLE.')
        images[modality] = {}
        for name in folders:
            files = _by_key(list_files(place / name, 'PairedFolders'), pattern)
            if not files:
                raise InputError(f'{place / name}: there is no image of this class.')
            for key, file in files.items():
                if named.setdefault(key, name) != name:
                    raise InputError(f'{file}: the sample {key!r} is of the class {named[key]!r} elsewhere.')
            images[modality].update(files)
    return images, named


def _by_table(table: Path, keys: set[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for line, row in read_rows(table, ('id', 'label')):
        if row['id'] not in keys:
            raise InputError(f'{table}:{line}: no modality has an image of {row["id"]!r}.')
        if named.setdefault(row['id'], row['label']) != row['label']:
            raise InputError(f'{table}:{line}: {row["id"]!r} has been {named[row["id"]]!r} before.')
    if missing := sorted(keys - named.keys()):
        raise InputError(
            f'{table}: it has no label of {missing[0]!r}{f" and {len(missing) - 1} more" * (len(missing) > 1)}.'
        )
    return named


def _classes(found: Sequence[str], given: Sequence[str] | None, root: Path) -> tuple[str, ...]:
    if given is None:
        return tuple(found)
    given = (given,) if isinstance(given, str) else tuple(given)
    for name in found:
        if name not in given:
            raise unknown_name(f'class of PairedFolders (found in {root})', name, given)
    for name in given:
        if name not in found:
            raise InputError(f'PairedFolders: there is no image of the class {name!r} in {root}.')
    return given
