"""Users' own pairs: a folder of images for each modality and YOLO's text files."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from registry import DATASETS, InputError, unknown_name

from .base import Sample, choose_modalities
from .box_files import Box, read_yolo
from .images import read_channels
from .listing import Files, find_folder, list_files
from .paired_boxes import PairedBoxes

IMAGES = ('images/{folder}/{split}', '{folder}/images/{split}', '{folder}/{split}')
LABELS = ('labels/{folder}/{split}', '{folder}/labels/{split}')
SHARED = 'labels/{split}'


@DATASETS.register_module()
class PairedYOLO(PairedBoxes):
    """Images of several modalities and boxes in text files, paired by the stems of their names.

    Expects in ``root``, for each modality, ``images/<folder>/<split>`` (or ``<folder>/images/<split>``, or
    ``<folder>/<split>``, the first that there is), and ``labels/<split>`` with ``<stem>.txt`` for all modalities, or
    ``labels/<folder>/<split>`` (``<folder>/labels/<split>``) for one. A line is ``class cx cy w h``, the class 0..K-1,
    the others in 0..1; an empty file means that there is no object.

    A stem without image in one modality is a sample from which this modality is absent. Where the modalities of a
    sample differ in size, all are resized to the first present one's (bilinear), and one line says so.

    Args:
        root: The folder of the data set.
        split: The name of a folder.
        classes: Their names in the order of their numbers; None takes ``names`` of ``data.yaml`` in ``root``.
        channels: Modality to 3 (colour, 8 bits) or 1 (8 or 16 bits, or the luma of colour images), of all modalities
            that there are; ``dict(rgb=3, ir=1)`` by default.
        folders: Modality to the name of its folder, where it is not its own.
        modalities: A subset of those of ``channels`` in any order; None for all.
        labels: None: one label file for all modalities, in ``labels/<split>``. The name of a modality: its own files
            for all. ``'both'``: those of each delivered modality under ``'own'``, beside those of ``main_labels``.
        main_labels: With ``labels='both'``: the modality whose files make the target itself; None for those in
            ``labels/<split>``.
        allow_unlabelled: An image without label file has no objects, instead of an error.
        on_bad_box: See `PairedBoxes`; an error by default.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown modality, ``labels``, ``main_labels`` or ``on_bad_box``.
        InputError: A missing folder, no names of classes, an image without label file (unless allowed), a label file
            without image, or a modality without any image.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        classes: Sequence[str] | None = None,
        channels: Mapping[str, int] | None = None,
        folders: Mapping[str, str] | None = None,
        modalities: Sequence[str] | str | None = None,
        labels: str | None = None,
        main_labels: str | None = None,
        allow_unlabelled: bool = False,
        on_bad_box: str = 'error',
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms, on_bad_box, channels=channels)
        channels = self.all_channels
        root = find_folder(root, 'PairedYOLO', 'docs/datasets.md shows the layout.')
        self.classes = _class_names(classes, root)
        self.allow_unlabelled = allow_unlabelled
        self._warned = torch.zeros((), dtype=torch.bool).share_memory_()  # by one worker for all
        for m in folders or {}:
            if m not in channels:
                raise unknown_name('modality of PairedYOLO (in folders)', m, channels)
        folders = {m: (folders or {}).get(m, m) for m in channels}
        images = {m: self._list_images(root, folders[m], split, m in self.modalities) for m in channels}
        main, own = _label_sets(labels, main_labels, channels, self.modalities)
        sets = {s: _list_labels(root, folders.get(s), split) for s in dict.fromkeys((main, *own))}
        self._check_stems(images, sets, main, own)
        self.gather(split, root, images, sets, main, own)

    def _list_images(self, root: Path, folder: str, split: str, needed: bool) -> Files:
        places = [root / place.format(folder=folder, split=split) for place in IMAGES]
        found = next((p for p in places if p.is_dir()), None)
        if found is None and needed:
            raise InputError(f'PairedYOLO: no folder {places[0]}, nor {places[1]}, nor {places[2]}.')
        return list_files(found, 'PairedYOLO') if found else {}

    def _check_stems(
        self, images: Mapping[str, Files], sets: Mapping[str, Files], main: str, own: Sequence[str]
    ) -> None:
        known = set().union(*images.values())
        for name, files in sets.items():
            if alone := sorted(files.keys() - known):
                raise InputError(f'{files[alone[0]]}: no modality has an image of this name{_more(alone)}.')
            wanted = (
                images[name] if name in own and name != main else set().union(*(images[m] for m in self.modalities))
            )
            lacking = sorted(s for s in wanted if s not in files)
            if lacking and not self.allow_unlabelled:
                image = next(f[lacking[0]] for f in images.values() if lacking[0] in f)
                raise InputError(
                    f'{image}: it has no label file {lacking[0]}.txt{_more(lacking)}; an empty file means no object, '
                    'and allow_unlabelled=True takes a missing one for that. Or the images of two modalities are named '
                    'differently: one sample has one stem.'
                )

    def _unlabelled(self, stem: str) -> bool:
        return not self.allow_unlabelled and super()._unlabelled(stem)

    def _read_boxes(self, file: str, size: tuple[int, int]) -> list[Box]:
        try:
            return read_yolo(file, size)
        except FileNotFoundError:
            raise InputError(f'{file}: no such file any more; it was there when the folder was listed.') from None

    def _label(self, box: Box) -> int:
        if not 0 <= box.label < len(self.classes):
            raise InputError(
                f'{box.where}: class {box.label} is out of range, expected 0..{len(self.classes) - 1}: there are '
                f'{len(self.classes)} classes ({", ".join(self.classes[:10])}{", ..." * (len(self.classes) > 10)}).'
            )
        return box.label

    def _align(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        sizes = {m: tuple(x.shape[1:]) for m, x in inputs.items()}
        first = next(iter(sizes.values()))
        if set(sizes.values()) == {first}:
            return inputs
        if not self._warned:
            self._warned.fill_(True)
            listed = ', '.join(f'{m} {h}x{w}' for m, (h, w) in sizes.items())
            warnings.warn(
                f'{self._name}: modalities differ in size (H x W: {listed}); each is resized to the first one.',
                stacklevel=2,
            )
        return {m: x if sizes[m] == first else F.resize(x, list(first), antialias=True) for m, x in inputs.items()}

    @classmethod
    def input_folders(cls, folders: Mapping[str, str] | None = None, **arguments: Any) -> dict[str, str]:
        """Modality to the name of its folder."""
        return dict(folders or {})

    @classmethod
    def read_input(
        cls, modality: str, file: str | Path, channels: Mapping[str, int] | None = None, **arguments: Any
    ) -> Tensor:
        """See `MultimodalDataset.read_input`; the modalities are those of ``channels``."""
        channels = cls.all_channels if channels is None else channels
        choose_modalities(modality, tuple(channels), cls.__name__)
        try:
            return read_channels(Path(file), channels[modality]).contiguous()
        except FileNotFoundError:
            raise InputError(f'{file}: no such file.') from None


def _label_sets(
    labels: str | None, main: str | None, known: Iterable[str], modalities: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """The set of the target, and the modalities with one of their own; '' is the set that all share."""
    if labels is not None and labels not in (*known, 'both'):
        raise unknown_name('labels of PairedYOLO', labels, [*known, 'both'])
    if main is not None and labels != 'both':
        raise InputError(f"PairedYOLO: main_labels={main!r} needs labels='both', got labels={labels!r}.")
    if main is not None and main not in known:
        raise unknown_name('main_labels of PairedYOLO', main, known)
    return (main or '', tuple(modalities)) if labels == 'both' else (labels or '', ())


def _list_labels(root: Path, folder: str | None, split: str) -> Files:
    shared = root / SHARED.format(split=split)
    places = [root / p.format(folder=folder, split=split) for p in LABELS] if folder else [shared]
    found = next((p for p in places if p.is_dir()), None)
    if found is None:
        if folder:
            raise InputError(f'PairedYOLO: no folder {places[0]}, nor {places[1]}.')
        raise InputError(
            f'PairedYOLO: no folder {shared}; labels of one modality, in labels/<folder>/{split}, are taken by '
            "labels=MODALITY, those of each by labels='both' with main_labels=MODALITY."
        )
    return {
        s: f for s, f in list_files(found, 'PairedYOLO', ('.txt',)).items() if s != 'classes'
    }  # annotation tools put it there


def _class_names(given: Sequence[str] | None, root: Path) -> tuple[str, ...]:
    """The names given, else those of ``data.yaml``.

    Raises:
        InputError: None of them, or names in another form.
    """
    file, where = root / 'data.yaml', 'PairedYOLO: classes'
    if given is None:
        if not file.is_file():
            raise InputError(f'PairedYOLO needs classes, the names in the order of their numbers, or names in {file}.')
        where = f'{file}: names'
        try:
            given = (yaml.safe_load(file.read_text(encoding='utf8')) or {}).get('names')
        except (yaml.YAMLError, AttributeError, UnicodeDecodeError, OSError) as error:
            raise InputError(f'{file}: can not be read ({" ".join(str(error).split())}).') from error
        if isinstance(given, Mapping) and sorted(given) == list(range(len(given))):
            given = [given[i] for i in range(len(given))]
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise InputError(f'{where} are a list of names in the order of their numbers, got {given!r}.')
    return tuple(map(str, given))


def _more(stems: Sequence[str]) -> str:
    return f' (and {len(stems) - 1} more)' * (len(stems) > 1)
