"""BraTS: brain tumours in four MR sequences."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from registry import DATASETS, InputError, unknown_name

from .base import MultimodalDataset, Sample, choose_split
from .brain_volumes import brain_box, brain_mask, standardise
from .listing import find_folder
from .nifti import SUFFIXES, Grid, Volume, check_same_grid, find_nifti, read_nifti, write_labels

SEQUENCES = ('flair', 't1ce', 't1', 't2')  # also the order of the channels in the npy layout
SPLITS = ('train', 'val', 'test')
PROPORTION = (219, 50, 100)  # of the 369 cases of BraTS 2020, as in the MWAM paper
LEAST = 128
ENHANCING = (3, 4)  # our class, their label
HOME = 'https://www.med.upenn.edu/cbica/brats2020/data.html'


class Case(NamedTuple):
    """One head, preprocessed."""

    volumes: dict[str, np.ndarray]  # sequence -> (D, H, W) float32, those that there are
    labels: np.ndarray  # (D, H, W) uint8, 0..3


@DATASETS.register_module()
class BraTS(MultimodalDataset):
    """Brain tumours in the sequences flair, t1ce, t1 and t2 (Menze et al., TMI 2015; 369 labelled cases in 2020).

    Two layouts are read. ``'nifti'``, the official one: ``<case>/<case>_{flair,t1ce,t1,t2,seg}.nii[.gz]`` in ``root``
    or in folders of it such as HGG and LGG, preprocessed at each reading as the published code does it once: cropped to
    the brain's box, at least 128 voxels a side, each sequence standardised with the statistics of the brain.
    ``'npy'``, that of mmFormer and RFNet, which ``tools/prepare_brats.py`` writes: ``vol/<case>_vol.npy`` float32
    (D, H, W, 4) in the order above and ``seg/<case>_seg.npy`` (D, H, W). The axes are those of the files.

    Inputs are (1, D, H, W) float32, the target is (D, H, W) int64: 0 background, 1 necrotic and non-enhancing core,
    2 oedema, 3 enhancing tumour (4 in the official files). Sizes differ from case to case: train with `VolumeCrop`,
    test with a batch size of 1.

    The cases of a split are those in ``<root>/<split>.txt``, one a line, sorted; without such a list all cases are
    split in the ``proportion`` given, by a hash of seed and name: the same on every machine, and a case that is added
    moves only those at the borders between splits.

    Args:
        root: The folder of the data set.
        split: ``'train'``, ``'val'`` or ``'test'``.
        modalities: A subset of the sequences in any order; None for all. The brain is what those show that are read.
        layout: ``'nifti'`` or ``'npy'``; None: ``'npy'`` where there is a folder ``vol``.
        list_file: The list of the split, where it is not ``<root>/<split>.txt``.
        proportion: Of training, validation and test, three numbers of at least 0.
        seed: Of the split without a list.
        least: The smallest side of the brain's box, in voxels; None: nothing is cropped. Only for ``'nifti'``.
        allow_missing: A sequence whose file is not there (in the npy layout: whose channel is NaN) is absent for that
            case instead of an error.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown split, modality, layout, or case in a list.
        InputError: No such folder or list, no case, or an argument out of its range. Later, with the file: one that is
            missing or can not be read, sequences that differ in shape or affine, or an unknown label.
    """

    all_modalities = SEQUENCES
    all_channels: ClassVar[dict[str, int]] = dict.fromkeys(SEQUENCES, 1)
    spatial_dims = 3
    classes = ('background', 'NCR/NET', 'ED', 'ET')

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        layout: str | None = None,
        list_file: str | Path | None = None,
        proportion: Sequence[float] = PROPORTION,
        seed: int = 0,
        least: int | None = LEAST,
        allow_missing: bool = False,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms)
        self.root = find_folder(root, 'BraTS', f'The data are given on request, {HOME}.')
        choose_split(split, SPLITS, 'BraTS')
        if layout not in (None, 'nifti', 'npy'):
            raise unknown_name('layout of BraTS', layout, ('nifti', 'npy'))
        self.layout = layout or ('npy' if (self.root / 'vol').is_dir() else 'nifti')
        self.least, self.allow_missing = check_least(least), allow_missing
        self.folders = find_cases(self.root) if self.layout == 'nifti' else find_arrays(self.root)
        given = Path(list_file) if list_file is not None else self.root / f'{split}.txt'
        if list_file is not None or given.is_file():
            self.cases = read_cases(given, self.folders)
        else:
            self.cases = split_cases(self.folders, proportion, seed)[split]
        if not self.cases:
            raise InputError(
                f'{self.root}: the split {split!r} is empty, {len(self.folders)} cases in the proportion '
                f'{list(proportion)}.'
            )

    def __len__(self) -> int:
        return len(self.cases)

    def source(self, index: int) -> str:
        case = self.cases[index]
        if self.layout == 'npy':
            return str(self._array_file('vol', case))
        return str(self.folders[case])

    def load(self, index: int) -> Sample:
        name = self.cases[index]
        case = self._read_arrays(name) if self.layout == 'npy' else self._read_nifti(name)
        return {
            'inputs': {m: torch.from_numpy(v)[None] for m, v in case.volumes.items()},
            'present': torch.tensor([m in case.volumes for m in self.modalities]),
            'target': torch.from_numpy(case.labels).long(),
            'info': {'case': name, 'files': self.source(index)},
        }

    def load_target(self, index: int) -> Tensor:
        if self.layout == 'nifti':  # the box that is cut out depends on the sequences
            return self.load(index)['target']
        return torch.from_numpy(self._read_array('seg', self.cases[index])).long()

    def presence(self) -> Tensor | None:
        if not self.allow_missing:
            return None
        return torch.tensor([self._here(name) for name in self.cases])

    def _here(self, name: str) -> list[bool]:
        if self.layout == 'nifti':
            return [find_nifti(self.folders[name], f'{name}_{m}') is not None for m in self.modalities]
        corner = self._read_stack(name)[0, 0, 0]
        return [not np.isnan(corner[SEQUENCES.index(m)]) for m in self.modalities]

    def _read_nifti(self, name: str) -> Case:
        return read_case(self.folders[name], self.modalities, self.least, self.allow_missing)

    def _read_arrays(self, name: str) -> Case:
        volume, labels = self._read_stack(name), self._read_array('seg', name)
        if labels.shape != volume.shape[:3] or not np.issubdtype(labels.dtype, np.integer):
            raise InputError(
                f'{self._array_file("seg", name)}: expected integers of the shape {volume.shape[:3]} of its volume, '
                f'got {labels.dtype} {labels.shape}.'
            )
        if labels.min() < 0 or labels.max() >= self.num_classes:
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise InputError(f'{self._array_file("seg", name)}: label {wrong}, expected 0..{self.num_classes - 1}.')
        here = [m for m, is_here in zip(self.modalities, self._here(name)) if is_here]
        if lacking := [m for m in self.modalities if m not in here]:
            file = self._array_file('vol', name)
            if not self.allow_missing:
                raise InputError(f'{file}: {lacking[0]} is NaN; allow_missing=True treats it as absent.')
            if not here:
                raise InputError(f'{file}: no modality left, all of {", ".join(self.modalities)} are NaN.')
        return Case({m: volume[..., SEQUENCES.index(m)] for m in here}, labels)

    def _read_stack(self, name: str) -> np.ndarray:
        return check_stack(self._read_array('vol', name), self._array_file('vol', name))

    def _array_file(self, kind: str, name: str) -> Path:
        return self.root / kind / f'{name}_{kind}.npy'

    def _read_array(self, kind: str, name: str) -> np.ndarray:
        return read_array(self._array_file(kind, name))

    @classmethod
    def find_files(cls, path: Path) -> dict[str, dict[str, Path]] | None:
        """A case (its folder, one of its files, or ``<case>_vol.npy``), or a folder of cases in either layout."""
        path = Path(os.path.abspath(path))  # `resolve` would follow links, and names of cases may be those of links
        if path.name.endswith('_vol.npy'):
            return {path.name.removesuffix('_vol.npy'): dict.fromkeys(SEQUENCES, path)}
        if arrays := sorted(path.glob('*_vol.npy')) or sorted((path / 'vol').glob('*_vol.npy')):
            return {name: files for array in arrays for name, files in cls.find_files(array).items()}
        for folder in (path, path.parent):
            if folder.is_dir() and (files := sequence_files(folder)) and (folder == path or path in files.values()):
                return {folder.name: files}
        return {name: sequence_files(folder) for name, folder in case_folders(path).items()} or None

    @classmethod
    def read_files(
        cls, files: Mapping[str, str | Path], least: int | None = LEAST, **arguments: Any
    ) -> tuple[dict[str, Tensor], Grid]:
        """Sequences of one head, prepared as those of the data set: cropped and standardised together.

        Raises:
            InputError: See `read_head`; or a stack ``_vol.npy`` of another form, or beside NIfTI files.
        """
        files = {m: Path(f) for m, f in files.items()}
        stacks = [f for f in files.values() if f.suffix == '.npy']
        if not stacks:
            volumes, grid = read_head(files, least)
        elif len(set(files.values())) > 1:
            raise InputError(f'{stacks[0]}: it holds all sequences of a case; other files can not stand beside it.')
        else:
            stack = check_stack(read_array(stacks[0]), stacks[0])
            volumes = {m: stack[..., SEQUENCES.index(m)] for m in files}
            volumes = {m: v for m, v in volumes.items() if not np.isnan(v[0, 0, 0])}
            if not volumes:
                raise InputError(f'{stacks[0]}: no modality left, all of {", ".join(files)} are NaN.')
            grid = Grid(stack.shape[:3], (slice(None),) * 3, None)
        return {m: torch.from_numpy(v)[None] for m, v in volumes.items()}, grid

    @classmethod
    def write_prediction(cls, path: Path, labels: np.ndarray, grid: Grid) -> Path:
        """NIfTI on the grid of the sequences, uncropped, with the enhancing tumour as 4; of a stack ``.npy``, 0..3.

        Raises:
            InputError: The file can not be written.
        """
        if grid.affine is None:
            file = path.with_name(f'{path.name}.npy')
            try:
                np.save(file, labels.astype(np.uint8))
            except OSError as error:
                raise InputError(f'{file}: can not be written ({error.strerror or error}).') from None
            return file
        file = path.with_name(f'{path.name}.nii.gz')
        ours, theirs = ENHANCING
        write_labels(file, np.where(labels == ours, theirs, labels), grid)
        return file

    @classmethod
    def _read_file(cls, modality: str, file: Path, **arguments: Any) -> Tensor:
        return cls.read_files({modality: file}, least=None)[0][modality]


def read_case(
    folder: Path, modalities: Sequence[str] = SEQUENCES, least: int | None = LEAST, allow_missing: bool = False
) -> Case:
    """One case of the official layout, cropped and standardised.

    Args:
        folder: ``.../<case>``.
        modalities: The sequences to read.
        least: See `BraTS`.
        allow_missing: Leave sequences out whose file is not there.

    Raises:
        InputError: A file is missing or can not be read, the files are not on one grid, a sequence is empty or
            constant, or there is an unknown label.
    """
    files = {m: find_nifti(folder, f'{folder.name}_{m}') for m in modalities}
    lacking = [m for m, f in files.items() if f is None]
    if lacking and not allow_missing:
        raise InputError(
            f'{folder / f"{folder.name}_{lacking[0]}.nii.gz"}: no such file, nor .nii; '
            'allow_missing=True treats the sequence as absent.'
        )
    if len(lacking) == len(files):
        raise InputError(f'{folder}: no modality left, none of {", ".join(modalities)} has a file.')
    labels = read_nifti(find_labels(folder))
    volumes, grid = read_head({m: f for m, f in files.items() if f is not None}, least, labels)
    return Case(volumes, join_labels(labels.array, labels.file)[grid.box])


def read_head(files: Mapping[str, Path], least: int | None, *others: Volume) -> tuple[dict[str, np.ndarray], Grid]:
    """Sequences of one head, cropped and standardised.

    Args:
        files: Sequence to NIfTI file, at least one.
        least: See `BraTS`.
        others: What must lie on the same grid.

    Returns:
        volumes: Sequence to (D, H, W) float32.
        grid: Where they lie in the files.

    Raises:
        InputError: A file can not be read, the files are not on one grid, or a sequence is empty or constant.
    """
    read = {m: read_nifti(f) for m, f in files.items()}
    first = next(iter(read.values()))
    check_same_grid([*read.values(), *others])
    mask = brain_mask({m: v.array for m, v in read.items()})
    try:
        box = (slice(None),) * 3 if least is None else brain_box(mask, least)
    except InputError as error:
        raise InputError(f'{first.file.parent}: {error} in all sequences.') from None
    standard = {}
    for m, volume in read.items():
        try:
            standard[m] = standardise(volume.array[box], mask[box])
        except InputError as error:
            raise InputError(f'{volume.file}: {error}.') from None
    return standard, Grid(first.array.shape, box, first.affine, first.header)


def read_array(file: Path) -> np.ndarray:
    """An npy file, of which only the part is read that is used.

    Raises:
        InputError: No such file, or none that can be read.
    """
    try:
        return np.load(file, mmap_mode='c')
    except FileNotFoundError:
        raise InputError(f'{file}: no such file.') from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f'{file}: can not be read as an array ({error}).') from None


def check_stack(stack: np.ndarray, file: Path) -> np.ndarray:
    """``stack`` itself, all sequences of a case.

    Raises:
        InputError: It is not float32 (D, H, W, 4).
    """
    if stack.ndim != 4 or stack.shape[3] != len(SEQUENCES) or stack.dtype != np.float32:
        raise InputError(f'{file}: expected float32 (D, H, W, {len(SEQUENCES)}), got {stack.dtype} {stack.shape}.')
    return stack


def find_labels(folder: Path) -> Path:
    """The label file of a case; in BraTS 2020 that of case 355 bears another name, ``..._Segm.nii``.

    Raises:
        InputError: There is none.
    """
    if file := find_nifti(folder, f'{folder.name}_seg'):
        return file
    others = [*folder.glob('*_Segm.nii'), *folder.glob('*_Segm.nii.gz')]
    if len(others) != 1:
        raise InputError(f'{folder / f"{folder.name}_seg.nii.gz"}: no such file, nor .nii.')
    return others[0]


def join_labels(labels: np.ndarray, file: Path) -> np.ndarray:
    """Official labels as classes: 4, the enhancing tumour, becomes 3, which the files since 2023 have already.

    Returns:
        uint8 of the same shape, 0..3.

    Raises:
        InputError: Another label, a fraction, or 3 beside 4 as in BraTS 2015, where 3 means something else.
    """
    found = np.unique(labels)
    if wrong := [float(v) for v in found if v not in (0, 1, 2, 3, 4)]:
        raise InputError(f'{file}: unknown label {wrong[0]:g}, expected 0, 1, 2 and 4 (or 3).')
    if 3 in found and 4 in found:
        raise InputError(f'{file}: labels 3 and 4 in one file, as before 2017; expected 0, 1, 2 and one of both.')
    return np.minimum(labels, ENHANCING[0]).astype(np.uint8)


def find_cases(root: Path) -> dict[str, Path]:
    """Name to folder of the cases below ``root``, one or two folders deep, sorted by name.

    Raises:
        InputError: None at all, or two of one name.
    """
    if not (found := case_folders(root)):
        raise InputError(f'{root}: no case; expected <case>/<case>_flair.nii.gz and so on, or a folder vol.')
    return found


def case_folders(root: Path) -> dict[str, Path]:
    """`find_cases`, empty where there are none."""
    found: dict[str, Path] = {}
    for folder in sorted({f.parent for depth in ('*/*', '*/*/*') for s in SUFFIXES for f in root.glob(f'{depth}{s}')}):
        if not sequence_files(folder):
            continue
        if folder.name in found:
            raise InputError(f'{folder}: there is also {found[folder.name]}, and names of cases occur once.')
        found[folder.name] = folder
    return dict(sorted(found.items()))


def sequence_files(folder: Path) -> dict[str, Path]:
    """Sequence to its file in the folder of a case, those that there are."""
    return {m: f for m in SEQUENCES if (f := find_nifti(folder, f'{folder.name}_{m}'))}


def find_arrays(root: Path) -> dict[str, Path]:
    """Name to volume of the cases in the npy layout, sorted by name.

    Raises:
        InputError: None at all.
    """
    found = {f.name.removesuffix('_vol.npy'): f for f in sorted((root / 'vol').glob('*_vol.npy'))}
    if not found:
        raise InputError(f'{root / "vol"}: no case; expected <case>_vol.npy.')
    return dict(sorted(found.items()))


def read_cases(file: Path, known: Iterable[str]) -> list[str]:
    """The cases in a list, sorted, each once.

    Raises:
        NameNotFound: One that is not ``known``.
        InputError: No such list, or an empty one.
    """
    if not file.is_file():
        raise InputError(f'{file}: no such list.')
    lines = file.read_text(encoding='utf-8-sig', errors='surrogateescape').splitlines()
    names = sorted({line.strip() for line in lines} - {''})
    if not names:
        raise InputError(f'{file}: the list is empty.')
    known = set(known)
    for name in names:
        if name not in known:
            raise unknown_name(f'case (in {file})', name, sorted(known)[:5])
    return names


def split_cases(names: Iterable[str], proportion: Sequence[float] = PROPORTION, seed: int = 0) -> dict[str, list[str]]:
    """Split to its cases, sorted; which ones depends on the seed and the names only.

    >>> {split: len(cases) for split, cases in split_cases(map(str, range(369))).items()}
    {'train': 219, 'val': 50, 'test': 100}

    Raises:
        InputError: The proportion is not three numbers of at least 0 with a positive sum.
    """
    if len(shares := tuple(proportion)) != len(SPLITS) or min(shares) < 0 or not 0 < sum(shares) < float('inf'):
        raise InputError(f'proportion is three numbers of at least 0 for train, val and test, got {proportion!r}.')
    order = sorted(names, key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode(errors='surrogateescape')).digest())
    borders = [round(sum(shares[: i + 1]) / sum(shares) * len(order)) for i in range(len(shares))]
    return {s: sorted(order[a:b]) for s, a, b in zip(SPLITS, [0, *borders], borders)}


def check_least(least: int | None) -> int | None:
    """``least`` itself.

    Raises:
        InputError: It is neither None nor an integer of at least 1.
    """
    if least is not None and (not isinstance(least, int) or isinstance(least, bool) or least < 1):
        raise InputError(f'least is a number of voxels of at least 1, or None, got {least!r}.')
    return least
