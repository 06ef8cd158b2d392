"""CASIA-SURF: face anti-spoofing with three sensors, in the folders of its authors."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from registry import DATASETS, InputError

from .base import MultimodalDataset, Sample, choose_split, image_size
from .images import read_image
from .transforms import RandomCrop, RandomFlip, RandomRotation, Resize

LISTS = {'train': 'train_list.txt', 'val': 'val_private_list.txt', 'test': 'test_private_list.txt'}
HOME = 'https://sites.google.com/view/face-anti-spoofing-challenge/dataset-download/casia-surfcvpr2019'


class Entry(NamedTuple):
    """One line of a list."""

    line: int
    files: dict[str, str]  # modality -> path relative to the root
    label: int


@DATASETS.register_module()
class CASIASURF(MultimodalDataset):
    """Real faces (1) and attacks (0) in rgb, depth and ir (Zhang et al., CVPR 2019).

    Expects ``train_list.txt``, ``val_private_list.txt`` and ``test_private_list.txt`` in ``root``, one sample a line:
    ``rgb_path depth_path ir_path label``, paths relative to ``root``.

    Every modality is read as three channels of 8 bits. The three crops of one face need not have the same size, so
    each is resized on its own. Training follows the published recipe of MMANet and SF-MD: resize to 9/7 of ``size``
    (144 for 112), rotation within 30 degrees on a canvas of 0.8, random crop, random flip, all of them shared by the
    modalities. Two deviations: the angle is any real number, theirs an integer; the crop may also lie at the last row
    and column. Testing only resizes. The published normalisation is (x - 127.5) / 128, the preprocessor's work.

    Args:
        root: The folder of the data set.
        split: ``'train'``, ``'val'`` or ``'test'``.
        modalities: A subset of rgb, depth, ir in any order; None for all.
        size: Height and width that are delivered, or one number for both.
        augment: Whether to use the geometry of training; None: in the training split only.
        allow_missing: A file that is not there makes its modality absent for that sample instead of an error.
        channel_order: ``'bgr'`` as in the published code, or ``'rgb'`` as pretrained encoders expect.
        transforms: See `MultimodalDataset`; they come after the geometry.

    Raises:
        NameNotFound: An unknown split or modality.
        InputError: No such folder or list, or a line that is not three paths and 0 or 1.
    """

    all_modalities = ('rgb', 'depth', 'ir')
    all_channels: ClassVar[dict[str, int]] = {'rgb': 3, 'depth': 3, 'ir': 3}
    classes = ('attack', 'real')

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        size: int | Sequence[int] = 112,
        augment: bool | None = None,
        allow_missing: bool = False,
        channel_order: str = 'bgr',
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms)
        if channel_order not in ('bgr', 'rgb'):
            raise InputError(f"channel_order is 'bgr' or 'rgb', got {channel_order!r}.")
        self.root, self.allow_missing, self.channel_order = Path(root), allow_missing, channel_order
        choose_split(split, LISTS, 'CASIASURF')
        self.list = self.root / LISTS[split]
        self.entries = read_list(self.list)
        size = image_size(size)
        if split == 'train' if augment is None else augment:
            larger = [math.ceil(s * 9 / 7) for s in size]
            geometry = [Resize(larger), RandomRotation(30, canvas=0.8), RandomCrop(size), RandomFlip()]
        else:
            geometry = [Resize(size)]
        self.transforms = [*geometry, *self.transforms]

    def __len__(self) -> int:
        return len(self.entries)

    def source(self, index: int) -> str:
        return f'{self.list}:{self.entries[index].line}'

    def load(self, index: int) -> Sample:
        entry = self.entries[index]
        files = {m: self.root / entry.files[m] for m in self.modalities}
        present = [not self.allow_missing or f.is_file() for f in files.values()]
        if not any(present):
            listed = ', '.join(str(f) for f in files.values())
            raise InputError(f'{self.source(index)}: no modality left, none of these exists: {listed}.')
        inputs = {m: self._read(m, f, index) for (m, f), here in zip(files.items(), present) if here}
        return {
            'inputs': inputs,
            'present': torch.tensor(present),
            'target': self.load_target(index),
            'info': {'files': {m: str(f) for m, f in files.items()}},
        }

    @classmethod
    def _read_file(cls, modality: str, file: Path, channel_order: str = 'bgr', **arguments: Any) -> Tensor:
        return read_image(file, flip_channels=channel_order == 'bgr')

    def load_target(self, index: int) -> Tensor:
        return torch.tensor(self.entries[index].label)

    def _read(self, modality: str, file: Path, index: int) -> Tensor:
        try:
            return self._read_file(modality, file, self.channel_order)
        except FileNotFoundError:
            raise InputError(
                f'{file}: no such file, named at {self.source(index)}; '
                'allow_missing=True treats its modality as absent.'
            ) from None


def read_list(file: Path) -> list[Entry]:
    """The samples named in one list of CASIA-SURF, empty lines skipped.

    Raises:
        InputError: No such folder or list, an empty list, or a malformed line.
    """
    if not file.parent.is_dir():
        raise InputError(f'CASIASURF: no folder {file.parent}. The data set is given on request at {HOME}.')
    if not file.is_file():
        raise InputError(f'CASIASURF: no list {file}; expected {", ".join(LISTS.values())} beside the image folders.')
    entries = []
    for number, text in enumerate(file.read_text(encoding='utf-8', errors='surrogateescape').splitlines(), start=1):
        fields = text.split()
        if not fields:
            continue
        if len(fields) != 4:
            raise InputError(f'{file}:{number}: expected "rgb_path depth_path ir_path label", got {text.strip()!r}.')
        if fields[3] not in ('0', '1'):
            raise InputError(f'{file}:{number}: the label is 0 (attack) or 1 (real), got {fields[3]!r}.')
        entries.append(Entry(number, dict(zip(CASIASURF.all_modalities, fields)), int(fields[3])))
    if not entries:
        raise InputError(f'{file}: the list is empty.')
    return entries
