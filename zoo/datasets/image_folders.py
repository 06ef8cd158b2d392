"""Classification of single images: a folder for each class, and public medical sets."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from registry import DATASETS, InputError, unknown_name

from .base import Sample, choose_split
from .image_layouts import LAYOUTS, Entry, Folders, Layout, compiled, read_source
from .images import read_listed
from .listing import check_headers, find_folder
from .one_modality import OneModality
from .splits import SHARES, check_shares, divide_groups

ALL = 'all'
SPLITS = ('train', 'training', 'val', 'valid', 'validation', 'test', 'testing')  # folders that are no classes
HOME = 'docs/datasets.md shows the layouts.'


@DATASETS.register_module()
class ImageFolders(OneModality):
    """Images in ``<root>/<class>/<name>``, or in the layout of a public set.

    The images are divided class by class, the same on every machine, and images of one group (a lesion, a slide, a
    patient) stay together; see `divide_groups`. Where a public set has an official split of its own, that is the split.

    Args:
        root: The folder of the data set.
        split: One of ``shares``, an official split, or ``'all'``: everything that has no official split, undivided.
        layout: A public set: nickparvar, iq_othnccd, tuberculosis, bccd, ham10000, sipakmed, kather2016, cnmc2019 or
            kvasir; None for folders of any classes.
        classes: Where there is no layout, their names in the order of their numbers; None for the names of all folders
            in ``root``, sorted.
        group: A regular expression whose first group, searched in ``<class>/<stem>``, says what must stay together.
            None: as the layout has it, image by image without one; '' always image by image, which flatters.
        shares: Split to its share, the shares sum up to 1; None for 0.8 train, 0.1 val, 0.1 test. Those of official
            splits do not count, the others keep their proportions.
        seed: Of the division.
        modality: What the images are called.
        channels: See `OneModality`.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown layout or split.
        InputError: A missing folder or table, an unknown or empty class, a name without group, or wrong shares.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        layout: str | None = None,
        classes: Sequence[str] | None = None,
        group: str | None = None,
        shares: Mapping[str, float] | None = None,
        seed: int = 0,
        modality: str = 'image',
        channels: int = 3,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modality, channels, transforms)
        owner = 'ImageFolders' if layout is None else f'ImageFolders ({layout})'
        if layout is not None and layout not in LAYOUTS:
            raise unknown_name('layout of ImageFolders', layout, LAYOUTS)
        if layout is not None and classes is not None:
            raise InputError(f'{owner}: the layout says the classes, leave them out.')
        root = find_folder(root, owner, HOME)
        facts = Layout(_folder_classes(root, classes), Folders(('{}',))) if layout is None else LAYOUTS[layout]
        shares = dict(SHARES if shares is None else shares)
        check_shares(shares)
        choose_split(split, {**shares, **facts.official, ALL: 1}, owner)
        self.classes = tuple(facts.classes)
        group = compiled(group, owner, 'group')
        if split in facts.official:
            self.entries = read_source(root, facts.official[split], facts.classes, owner)
        else:
            entries = read_source(root, facts.source, facts.classes, owner, group)
            if facts.published not in (None, len(entries)):
                warnings.warn(
                    f'{owner} in {root}: {len(entries)} images, published are {facts.published}.', stacklevel=2
                )
            left = {s: share for s, share in shares.items() if s not in facts.official}
            self.entries = entries if split == ALL else self._part(entries, split, left, seed, owner)
        self.list = str(root)  # by these two training and validation are compared
        self.names = [e.name for e in self.entries]

    def _part(
        self, entries: Sequence[Entry], split: str, shares: Mapping[str, float], seed: int, owner: str
    ) -> list[Entry]:
        shares = {s: share / sum(shares.values()) for s, share in shares.items()}
        parts = divide_groups([e.label for e in entries], [e.group for e in entries], shares, seed)
        chosen = [entries[i] for i in parts[split]]
        if lacking := sorted(set(range(self.num_classes)) - {e.label for e in chosen}):
            warnings.warn(
                f'{owner}: the split {split!r} has no image of {self.classes[lacking[0]]!r}, which has too few groups.',
                stacklevel=3,
            )
        return chosen

    def __len__(self) -> int:
        return len(self.entries)

    def source(self, index: int) -> str:
        return self.entries[index].file

    def load(self, index: int) -> Sample:
        file = self.entries[index].file
        return {
            'inputs': {self.modality: read_listed(file, self.channels[self.modality])},
            'present': torch.ones(1, dtype=torch.bool),
            'target': self.load_target(index),
            'info': {'files': {self.modality: file}},
        }

    def load_target(self, index: int) -> Tensor:
        return torch.tensor(self.entries[index].label)

    def check_annotations(self) -> None:
        """Read the headers of all images.

        Raises:
            InputError: A file that is no image.
        """
        check_headers([e.file for e in self.entries], type(self).__name__)


def _folder_classes(root: Path, given: Sequence[str] | None) -> dict[str, str]:
    found = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))
    if not found:
        raise InputError(f'ImageFolders: {root} holds no folder; expected {root}/<class>/<name>.png.')
    if given is None:
        if named := [n for n in found if n.lower() in SPLITS]:
            raise InputError(
                f'ImageFolders: {root} holds the folders {", ".join(found)}, and {named[0]} is no class: give '
                f"root={str(root / named[0])!r} with split='all'."
            )
        return {n: n for n in found}
    given = (given,) if isinstance(given, str) else tuple(given)
    for name in found:
        if name not in given:
            raise unknown_name(f'class (of the folder {root / name})', name, given)
    return {n: n for n in given}
