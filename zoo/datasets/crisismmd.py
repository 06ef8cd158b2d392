"""CrisisMMD: tweets with their images from seven natural disasters, in the folders of its authors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from registry import DATASETS, InputError, unknown_name
from zoo.foreign_text import brief, tokenizer_of

from .base import MultimodalDataset, Sample, choose_split
from .images import read_image
from .listing import find_folder

SPLITS = {'train': 'train', 'val': 'dev', 'test': 'test'}
RELEASES = {  # folder, and name of the tables there
    'agreed': ('crisismmd_datasplit_agreed_label', 'task_humanitarian_text_img_agreed_lab_{}.tsv'),
    'all': ('crisismmd_datasplit_all', 'task_humanitarian_text_img_{}.tsv'),
}
LABELS = ('label', 'label_text', 'label_image')
MERGED = {  # what the tables say -> class
    'affected_individuals': 'affected_individuals',
    'injured_or_dead_people': 'affected_individuals',
    'missing_or_found_people': 'affected_individuals',
    'rescue_volunteering_or_donation_effort': 'rescue_volunteering_or_donation_effort',
    'infrastructure_and_utility_damage': 'infrastructure_and_utility_damage',
    'vehicle_damage': 'infrastructure_and_utility_damage',
    'other_relevant_information': 'other_relevant_information',
    'not_humanitarian': 'not_humanitarian',
}
CLASSES = tuple(dict.fromkeys(MERGED.values()))
LENGTH = 128  # words of a text
HOME = 'https://crisisnlp.qcri.org/crisismmd'


class Entry(NamedTuple):
    """One pair of a tweet and an image."""

    line: int
    image: str  # relative to the root
    text: str
    label: int


@DATASETS.register_module()
class CrisisMMD(MultimodalDataset):
    """Tweets and their images in five humanitarian classes (Alam et al., ICWSM 2018; merged as by Ofli et al., ISCRAM
    2020).

    Expects ``data_image/`` in ``root``, and the tables of a release there or in the folder in which they come.

    A text is (2, ``max_length``) int64: ids and mask, padded and cut off. All texts of a split are tokenised when the
    data set is made, tweets as they are, with links and mentions.

    Args:
        root: The folder of the data set.
        split: ``'train'``, ``'val'`` (``dev`` in the names of the tables) or ``'test'``.
        release: ``'agreed'``, the pairs whose text and image have the same label, or ``'all'``.
        label: The column of the table that counts: ``label``, ``label_text`` or ``label_image``.
        modalities: A subset of image and text in any order; None for both.
        tokenizer: That of the language model: a folder, or a name on the Hugging Face Hub or in its cache.
        max_length: L, the number of words of a text.
        allow_missing: An image that is not there is absent from its sample instead of an error.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown split, release, column or modality.
        InputError: No such folder or table, a line that has not the columns of the table or an unknown label, a
            tokenizer that can not be loaded, or none at all; transformers is not installed.
    """

    all_modalities = ('image', 'text')
    all_channels: ClassVar[dict[str, int]] = {'image': 3, 'text': 2}
    classes = CLASSES

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        release: str = 'agreed',
        label: str = 'label',
        modalities: Sequence[str] | str | None = None,
        tokenizer: str | Path | None = None,
        max_length: int = LENGTH,
        allow_missing: bool = False,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms)
        choose_split(split, SPLITS, 'CrisisMMD')
        if release not in RELEASES:
            raise unknown_name('release of CrisisMMD', release, RELEASES)
        if label not in LABELS:
            raise unknown_name('column of labels of CrisisMMD', label, LABELS)
        self.root = find_folder(root, 'CrisisMMD', f'The data set is at {HOME}.')
        self.allow_missing = allow_missing
        self.list = _find_table(self.root, release, split)
        self.entries = read_table(self.list, label)
        if 'text' in self.modalities:
            self.texts = tokenise([e.text for e in self.entries], tokenizer, max_length)

    @classmethod
    def own_sizes(cls, max_length: int = LENGTH, **arguments: Any) -> dict[str, tuple[int, ...]]:
        return {'text': (max_length,)}

    def __len__(self) -> int:
        return len(self.entries)

    def source(self, index: int) -> str:
        return f'{self.list}:{self.entries[index].line}'

    def load(self, index: int) -> Sample:
        entry = self.entries[index]
        inputs = {}
        for m in self.modalities:
            if m == 'text':
                inputs[m] = self.texts[index].long()
            elif (image := self._read_image(index)) is not None:
                inputs[m] = image
        if not inputs:
            raise InputError(f'{self.source(index)}: no modality left, {self.root / entry.image} does not exist.')
        return {
            'inputs': inputs,
            'present': torch.tensor([m in inputs for m in self.modalities]),
            'target': self.load_target(index),
            'info': {'files': {m: str(self.root / entry.image) for m in inputs if m == 'image'}, 'text': entry.text},
        }

    @classmethod
    def _read_file(
        cls,
        modality: str,
        file: Path,
        tokenizer: str | Path | None = None,
        max_length: int = LENGTH,
        **arguments: Any,
    ) -> Tensor:
        if modality == 'image':
            return read_image(file)
        return tokenise([file.read_text(encoding='utf-8', errors='replace')], tokenizer, max_length)[0].long()

    def load_target(self, index: int) -> Tensor:
        return torch.tensor(self.entries[index].label)

    def check_annotations(self) -> None:
        """Look whether all images are there, unless they may be missing.

        Raises:
            InputError: One is not.
        """
        if 'image' in self.modalities and not self.allow_missing:
            for index, entry in enumerate(self.entries):
                if not (self.root / entry.image).is_file():
                    raise self._missing(index)

    def _read_image(self, index: int) -> Tensor | None:
        try:
            return read_image(self.root / self.entries[index].image)
        except FileNotFoundError:
            if self.allow_missing:
                return None
            raise self._missing(index) from None

    def _missing(self, index: int) -> InputError:
        return InputError(
            f'{self.root / self.entries[index].image}: no such file, named at {self.source(index)}; '
            'allow_missing=True treats it as absent.'
        )


def _find_table(root: Path, release: str, split: str) -> Path:
    folder, name = RELEASES[release]
    name = name.format(SPLITS[split])
    places = (root / name, root / folder / name)
    table = next((p for p in places if p.is_file()), None)
    if table is None:
        raise InputError(f'CrisisMMD: no table {places[0]} nor {places[1]}. The data set is at {HOME}.')
    return table


def read_table(file: Path, label: str) -> list[Entry]:
    """The pairs that a table of CrisisMMD names.

    Its columns are separated by tabs and nothing is quoted: a quotation mark is one. A tab within a tweet, which leaves
    a line with too many columns, belongs to it.

    Args:
        file: The table, with names of its columns in the first line.
        label: The column of the labels.

    Raises:
        InputError: No such file, one that can not be read or lacks a column, or a line with too few columns or an
            unknown label.
    """
    try:
        lines = file.read_bytes().decode('utf-8-sig').split('\n')
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{file}: the table can not be read ({error}).') from error
    header = lines[0].rstrip('\r').split('\t')
    if lacking := [c for c in ('tweet_text', 'image', label) if c not in header]:
        raise InputError(f'{file}: it has no column {lacking[0]!r}, only {", ".join(header)}.')
    tweet = header.index('tweet_text')
    entries = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = line.rstrip('\r').split('\t')
        excess = len(fields) - len(header)
        if excess < 0:
            raise InputError(f'{file}:{number}: {len(fields)} columns where the first line has {len(header)}.')
        fields[tweet : tweet + excess + 1] = ['\t'.join(fields[tweet : tweet + excess + 1])]
        row = dict(zip(header, fields))
        if row[label] not in MERGED:
            raise InputError(f'{file}:{number}: the {label} {row[label]!r} is none of: {", ".join(MERGED)}.')
        entries.append(Entry(number, row['image'], row['tweet_text'], CLASSES.index(MERGED[row[label]])))
    if not entries:
        raise InputError(f'{file}: the table is empty.')
    return entries


def tokenise(texts: Sequence[str], tokenizer: str | Path | None, length: int) -> Tensor:
    """Texts as ids and mask, (N, 2, ``length``) int32, padded and cut off.

    Args:
        texts: The texts.
        tokenizer: A folder, or a name on the Hugging Face Hub or in its cache.
        length: The number of words of each.

    Raises:
        InputError: No tokenizer, one that can not be loaded or does not know how to pad, or a length that is none.
    """
    if tokenizer is None:
        raise InputError("A text needs a tokenizer, that of the language model: tokenizer='bert-base-uncased', say.")
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise InputError(f'The max_length of a text is a whole number above 0, got {length!r}.')
    read = tokenizer_of(str(tokenizer))
    try:
        found = read(list(texts), padding='max_length', truncation=True, max_length=length, return_tensors='np')
        columns = [found['input_ids'], found['attention_mask']]
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.int32))
    except (ValueError, OverflowError) as error:
        raise InputError(f'The tokenizer {str(tokenizer)!r} can not pad texts to {length} ({brief(error)}).') from error
