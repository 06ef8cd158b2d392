"""What data sets of boxes share: under one stem an image of each modality and the files that annotate it."""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from registry import InputError, unknown_name

from .base import MANY, MultimodalDataset, Sample
from .box_files import ON_BAD_BOX, Box, clip_boxes, read_xml
from .images import header_size, read_channels
from .listing import Files

DROPPED = ('bad', 'hidden', 'ignored', 'repeated')
UNEQUAL = ' (files are paired by the stems of their names, which may differ between modalities and annotations)'


class PairedBoxes(MultimodalDataset):
    """Base of the data sets of boxes; a subclass lists the files and calls `gather`.

    The target is ``{'boxes': (N, 4) float32, 'labels': (N,) int64}``, corners (x1, y1, x2, y2) in pixels of the image
    that is delivered; (0, 4) and (0,) without objects. Where each modality is annotated on its own, ``'own'`` holds a
    dict of this form for each modality beside it. Annotation files are read with their sample, so that building takes
    the listing of folders only; `check_annotations` reads all of them.

    A stem that some modalities lack is a sample from which these are absent. A missing annotation file leaves the
    sample out. One line says so, how many samples lack a modality, and a number of samples that differs from the
    published one. An object that a file holds twice counts once.

    Attributes:
        aliases: Spelling of a class in the files to its name, both in the form of `plain`.
        ignored: Names in the files that are left out, in the form of `plain`.

    Args:
        modalities: See `MultimodalDataset`.
        transforms: See `MultimodalDataset`.
        on_bad_box: What to do with boxes that are NaN, empty or outside the image: ``'error'`` names the file, and
            ``'drop'`` leaves them out, counts them in `dropped` and says the number once all samples have been read.
        ignore: More names of classes that are left out.
        channels: Modality to 1 or 3 channels, of all modalities that there are; None for rgb=3, ir=1.

    Raises:
        NameNotFound: An unknown modality or ``on_bad_box``.
        InputError: Another number of channels.
    """

    all_modalities = ('rgb', 'ir')
    all_channels: ClassVar[dict[str, int]] = {'rgb': 3, 'ir': 1}
    aliases: ClassVar[dict[str, str]] = {}
    ignored: ClassVar[tuple[str, ...]] = ()
    min_visible = 0.0
    border = 0
    on_bad_image = 'error'

    def __init__(
        self,
        modalities: Sequence[str] | str | None = None,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
        on_bad_box: str = 'drop',
        ignore: Sequence[str] | str = (),
        channels: Mapping[str, int] | None = None,
    ) -> None:
        self.all_channels = dict(self.all_channels if channels is None else channels)
        self.all_modalities = tuple(self.all_channels)
        for modality, count in self.all_channels.items():
            if count not in (1, 3):
                raise InputError(f'{type(self).__name__}: a modality has 1 or 3 channels, got {modality}={count!r}.')
        super().__init__(modalities, transforms)
        if on_bad_box not in ON_BAD_BOX:
            raise unknown_name(f'on_bad_box of {type(self).__name__}', on_bad_box, ON_BAD_BOX)
        self.on_bad_box = on_bad_box
        ignore = (ignore,) if isinstance(ignore, str) else ignore
        self._ignored = frozenset(map(plain, (*self.ignored, *ignore)))

    def gather(
        self,
        split: str,
        where: str | Path,
        images: Mapping[str, Files],
        annotations: Mapping[str, Files],
        main: str,
        own: Sequence[str] = (),
        listed: Iterable[str] | None = None,
        part: Collection[str] | None = None,
        orphans: bool = False,
        expected: int | None = None,
    ) -> None:
        """Decide which samples there are, and say in one line what was left out and what is not as published.

        Args:
            split: Its name, for messages.
            where: The folder, for messages.
            images: Modality to its files, of ``all_modalities``.
            annotations: Name of a set of annotations to its files.
            main: The set that makes ``boxes`` and ``labels``.
            own: The modalities that also have a set of their own, under their names.
            listed: The stems that a list names; None takes all images.
            part: The stems that belong to the split; None for all.
            orphans: Whether to mention annotation files without image.
            expected: The published number of samples, of which ``part`` is taken.

        Raises:
            InputError: No sample is left, or none has one of the ``modalities``.
        """
        self._images, self._annotations, self._main, self._own = images, annotations, main, tuple(own)
        self._name = f'{type(self).__name__} {split} in {where}'
        self._numbers = {plain(name): i for i, name in enumerate(self.classes)}
        known = set().union(*images.values())
        stems = sorted(known) if listed is None else list(listed)
        here = [s for s in stems if any(s in images[m] for m in self.modalities)]
        self.stems = [s for s in here if not self._unlabelled(s)]
        if not self.stems:
            some = f'{len(here)} images have no annotation file{UNEQUAL}' if here else 'there are no images'
            some = f'{len(stems)} stems are listed, such as {stems[0]!r}, but {some}' if listed and stems else some
            raise InputError(f'{self._name}: no sample; {some}.')
        lacking = {m: [s for s in self.stems if s not in images[m]] for m in self.modalities}
        for m in (m for m, without in lacking.items() if len(without) == len(self.stems)):
            raise InputError(
                f'{self._name}: none of its {len(self.stems)} samples has an image of {m}{UNEQUAL}; if there are none, '
                f'give modalities={[m for m in self.modalities if len(lacking[m]) < len(self.stems)]}.'
            )
        lines = []
        if expected not in (None, len(self.stems)):
            lines.append(f'{len(self.stems)} samples, published are {expected}')
        lines += _left_out('listed names without image', [s for s in stems if s not in known])
        lines += _left_out('images without annotation file', [s for s in here if self._unlabelled(s)])
        if orphans:
            lines += _left_out('annotation files without image', sorted(set(annotations[main]) - known))
        lines += [f'{len(w)} of {len(self.stems)} samples have no {m} {_first(w)}' for m, w in lacking.items() if w]
        if lines:
            warnings.warn(f'{self._name}: {"; ".join(lines)}.', stacklevel=2)
        inside = None if part is None else set(part)
        self.stems = [s for s in self.stems if inside is None or s in inside]
        shape = (len(self.stems), len(DROPPED))
        self._drops = torch.full(shape, -1, dtype=torch.int32).share_memory_()  # the workers of a loader count together

    def _unlabelled(self, stem: str) -> bool:
        own = (m for m in self._own if stem in self._images[m])
        return any(stem not in self._annotations[s] for s in (self._main, *own))

    def __len__(self) -> int:
        return len(self.stems)

    def presence(self) -> Tensor:
        """(N, M) bool: which sample has an image of which modality, from the listing of the folders."""
        return torch.tensor([[s in self._images[m] for m in self.modalities] for s in self.stems])

    @property
    def dropped(self) -> dict[str, int]:
        """How many boxes were left out of the samples read so far, each sample counted once.

        ``bad``: NaN, empty or outside the image; ``hidden``: too little of them left; ``ignored``: by their class;
        ``repeated``: another object of the file has the same class and corners.
        """
        return dict(zip(DROPPED, self._drops.clamp(min=0).sum(0).tolist()))

    def source(self, index: int) -> str:
        return next(iter(self._files(index).values()))

    def load(self, index: int) -> Sample:
        inputs = self._align(self._read_images(self._files(index)))
        size = tuple(next(iter(inputs.values())).shape[1:])
        return {
            'inputs': inputs,
            'present': torch.tensor([m in inputs for m in self.modalities]),
            'target': self._target(index, size),
            'info': {'files': self._files(index), 'labels': self._label_files(index)},
        }

    def load_target(self, index: int) -> dict[str, Any]:
        height, width = self._image_size(index)
        return self._target(index, (height - 2 * self.border, width - 2 * self.border))

    def check_annotations(self) -> None:
        """Read the annotation files of all samples that have not been read yet, which completes `dropped`.

        Raises:
            NameNotFound: An unknown class.
            InputError: An annotation file that can not be used, or the header of an image that can not be read.
        """
        from rich.progress import track

        unread = (self._drops[:, 0] < 0).nonzero().flatten().tolist()
        name = f'Checking annotations of {type(self).__name__}'
        for index in track(unread, name, transient=True, disable=len(unread) <= MANY):
            self.load_target(index)

    def _image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of the image of the first modality, from its header."""
        files = list(self._files(index).values())
        for file in files:
            try:
                return header_size(file)
            except InputError:
                if self.on_bad_image == 'error' or file == files[-1]:
                    raise

    def _files(self, index: int) -> Files:
        """Modality to file, of the modalities that the sample has."""
        stem = self.stems[index]
        return {m: self._images[m][stem] for m in self.modalities if stem in self._images[m]}

    def _label_files(self, index: int) -> list[str]:
        stem, sets = self.stems[index], dict.fromkeys((self._main, *self._own))
        return [self._annotations[s][stem] for s in sets if stem in self._annotations[s]]

    def _read_images(self, files: Files) -> dict[str, Tensor]:
        inputs, problem = {}, None
        for modality, file in files.items():
            try:
                inputs[modality] = self._read(modality, Path(file))
            except FileNotFoundError:
                raise InputError(f'{file}: no such file any more; it was there when the folder was listed.') from None
            except InputError as error:
                if self.on_bad_image == 'error':
                    raise
                problem = error
                warnings.warn(f'{error} Its modality is absent from the sample.', stacklevel=2)
        if not inputs:
            raise problem
        return inputs

    def _read(self, modality: str, file: Path) -> Tensor:
        return read_channels(file, self.channels[modality])

    def _align(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return inputs

    @classmethod
    def _read_file(cls, modality: str, file: Path, ir_channels: int = 1, **arguments: Any) -> Tensor:
        return read_channels(file, ir_channels if modality == 'ir' else cls.all_channels[modality])

    def _target(self, index: int, size: tuple[int, int]) -> dict[str, Any]:
        stem = self.stems[index]
        drops = np.zeros(len(DROPPED), int)
        sets = {}
        for name in dict.fromkeys((self._main, *self._own)):
            file = self._annotations[name].get(stem)
            boxes = [] if file is None else self._read_boxes(file, size)
            sets[name] = self._clean(boxes, size, drops)
        self._count(index, drops)
        own = {m: {k: v.clone() for k, v in sets[m].items()} for m in self._own}
        return {**sets[self._main], 'own': own} if own else sets[self._main]

    def _read_boxes(self, file: str, size: tuple[int, int]) -> list[Box]:
        """The boxes of one annotation file, with corners in pixels of the image as it was annotated."""
        try:
            return read_xml(file)
        except FileNotFoundError:
            raise InputError(f'{file}: no such file any more; it was there when the folder was listed.') from None

    def _clean(self, boxes: Sequence[Box], size: tuple[int, int], drops: np.ndarray) -> dict[str, Tensor]:
        labels = [self._label(b) for b in boxes]
        first: dict[Any, int] = {}
        for i, (box, label) in enumerate(zip(boxes, labels)):
            if label is not None:
                first.setdefault((label, box.corners), i)
        used, ignored = list(first.values()), labels.count(None)
        corners, kept, bad, hidden = clip_boxes(
            [boxes[i] for i in used], size, self.on_bad_box, self.border, self.min_visible
        )
        drops += (bad, hidden, ignored, len(boxes) - ignored - len(used))
        chosen = [labels[used[i]] for i in kept]
        return {'boxes': torch.from_numpy(corners), 'labels': torch.tensor(chosen, dtype=torch.int64)}

    def _label(self, box: Box) -> int | None:
        """The number of a box's class; None where it is ignored."""
        name = plain(box.label)
        name = self.aliases.get(name, name)
        if name in self._ignored:
            return None
        if name not in self._numbers:
            raise unknown_name(f'class of {type(self).__name__} (at {box.where})', box.label, self.classes)
        return self._numbers[name]

    def _count(self, index: int, drops: np.ndarray) -> None:
        if self._drops[index, 0] >= 0:
            return
        self._drops[index] = torch.from_numpy(drops)
        if not bool((self._drops[:, 0] >= 0).all()):
            return
        if any((total := self.dropped).values()):
            listed = ', '.join(f'{n} {reason}' for reason, n in total.items() if n)
            warnings.warn(f'{self._name}: boxes left out of all its samples: {listed}.', stacklevel=2)


def _left_out(what: str, stems: Sequence[str]) -> list[str]:
    return [f'left out {len(stems)} {what} {_first(stems)}'] if stems else []


def _first(stems: Sequence[str]) -> str:
    return f'({stems[0]}{", ..." * (len(stems) > 1)})'


def plain(name: str) -> str:
    """The form in which names of classes are compared.

    >>> plain(' Freight car')
    'freight_car'
    """
    return str(name).strip().lower().replace(' ', '_')
