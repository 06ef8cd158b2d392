"""FLIR-aligned: road scenes in colour and infrared, the pairs that were registered."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry import DATASETS, InputError, unknown_name

from .base import Sample, choose_split
from .listing import find_folder, list_files, read_stems
from .paired_boxes import PairedBoxes

HOME = 'The data are at https://github.com/zhanghengdev/CFR.'
LISTS = {'train': 'align_train.txt', 'val': 'align_validation.txt'}
PAIRS = {'train': 4128, 'val': 1013}
SUFFIXES = {'rgb': '_RGB', 'ir': '_PreviewData'}


@DATASETS.register_module()
class FLIRAligned(PairedBoxes):
    """Persons, cars and bicycles in rgb and ir, 640 x 512: the registered pairs of FLIR ADAS (Zhang et al., ICIP 2020).

    Expects in ``root``: ``JPEGImages`` with ``FLIR_00002_RGB.jpg`` and ``FLIR_00002_PreviewData.jpeg``, ``Annotations``
    with ``FLIR_00002_PreviewData.xml`` (VOC), and ``align_train.txt`` and ``align_validation.txt``, there or in
    ``ImageSets/Main``, one name a line with or without its suffix, or the path of an image. The boxes were drawn in ir
    and are taken for both modalities. A few objects of the class dog are left out.

    Args:
        root: The folder of the data set.
        split: ``'train'`` (4,128 pairs) or ``'val'`` (1,013), on which published work tests.
        modalities: A subset of rgb and ir in any order; None for both.
        suffixes: Modality to what stands between a name and the dot of its file, where it is not as above.
        annotation_suffix: The same for annotations; None for that of ir.
        ir_channels: 1 or 3 equal ones.
        on_bad_box: See `PairedBoxes`.
        ignore: See `PairedBoxes`.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown split, modality or ``on_bad_box``.
        InputError: A missing folder or list, or no samples.
    """

    classes = ('person', 'car', 'bicycle')
    ignored = ('dog',)

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        suffixes: Mapping[str, str] | None = None,
        annotation_suffix: str | None = None,
        ir_channels: int = 1,
        on_bad_box: str = 'drop',
        ignore: Sequence[str] | str = (),
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms, on_bad_box, ignore, {'rgb': 3, 'ir': ir_channels})
        for modality in suffixes or {}:
            if modality not in SUFFIXES:
                raise unknown_name('modality of FLIRAligned (in suffixes)', modality, SUFFIXES)
        suffixes = {**SUFFIXES, **(suffixes or {})}
        annotation_suffix = suffixes['ir'] if annotation_suffix is None else annotation_suffix
        root, name = find_folder(root, 'FLIRAligned', HOME), LISTS[choose_split(split, LISTS, 'FLIRAligned')]
        places = [root / name, root / 'ImageSets' / 'Main' / name]
        file = next((p for p in places if p.is_file()), None)
        if file is None:
            raise InputError(f'FLIRAligned: no list {places[0]}, and none in ImageSets/Main.')
        endings = sorted({*suffixes.values(), annotation_suffix}, key=len, reverse=True)
        listed = list(dict.fromkeys(_without(stem, endings) for stem in read_stems(file)))
        files = list_files(root / 'JPEGImages', 'FLIRAligned')
        images = {m: {s: files[s + end] for s in listed if s + end in files} for m, end in suffixes.items()}
        marks = list_files(root / 'Annotations', 'FLIRAligned', ('.xml',))
        annotations = {s: marks[s + annotation_suffix] for s in listed if s + annotation_suffix in marks}
        self.gather(split, root, images, {'Annotations': annotations}, 'Annotations', (), listed, expected=PAIRS[split])


def _without(stem: str, endings: Sequence[str]) -> str:
    """The name without the first of the endings that it has."""
    return next((stem.removesuffix(e) for e in endings if e and stem.endswith(e)), stem)
