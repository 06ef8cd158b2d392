"""MedMNIST: standardised sets of medical images, in the archives of its authors."""

import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from registry import DATASETS, InputError, nearest, unknown_name

from .base import Sample, choose_split
from .cache import cache_folder, is_complete, open_array, write_array
from .one_modality import OneModality

HOME = 'The archives are at https://medmnist.com.'
SPLITS = ('train', 'val', 'test')
SIZES = (28, 64, 128, 224)
ORGANS = (
    'bladder', 'femur-left', 'femur-right', 'heart', 'kidney-left', 'kidney-right', 'liver', 'lung-left',
    'lung-right', 'pancreas', 'spleen',
)  # fmt: skip
CLASSES = {
    'path': (
        'adipose', 'background', 'debris', 'lymphocytes', 'mucus', 'smooth muscle', 'normal colon mucosa',
        'cancer-associated stroma', 'colorectal adenocarcinoma epithelium',
    ),
    'derma': (
        'actinic keratoses', 'basal cell carcinoma', 'benign keratosis', 'dermatofibroma', 'melanoma',
        'melanocytic nevi', 'vascular lesions',
    ),
    'oct': ('choroidal neovascularization', 'diabetic macular edema', 'drusen', 'normal'),
    'pneumonia': ('normal', 'pneumonia'),
    'retina': ('0', '1', '2', '3', '4'),
    'breast': ('malignant', 'normal or benign'),
    'blood': (
        'basophil', 'eosinophil', 'erythroblast', 'immature granulocyte', 'lymphocyte', 'monocyte', 'neutrophil',
        'platelet',
    ),
    'tissue': (
        'collecting duct, connecting tubule', 'distal convoluted tubule', 'glomerular endothelial cells',
        'interstitial endothelial cells', 'leukocytes', 'podocytes', 'proximal tubule segments', 'thick ascending limb',
    ),
    'organa': ORGANS,
    'organc': ORGANS,
    'organs': ORGANS,
}  # fmt: skip
CHUNK = 32 << 20  # bytes that are decompressed at a time
LONG = 1 << 30  # bytes; more takes long enough for a progress bar


@DATASETS.register_module()
class MedMNIST(OneModality):
    """The two-dimensional sets of MedMNIST with one label an image (Yang et al., Scientific Data 2023).

    Expects ``<name>mnist.npz`` (28 x 28) or ``<name>mnist_<size>.npz`` in ``root``, with the arrays
    ``{train,val,test}_images``, uint8 (N, H, W) or (N, H, W, 3), and ``{train,val,test}_labels`` (N, 1): the official
    splits. The published archives are compressed, so that no image can be read without all before it. The images of a
    split are therefore unpacked once into the cache, a file for each content, and memory-mapped from there: the workers
    of a loader share the pages that are in use, and none holds the set in memory.

    Args:
        root: The folder of the archives.
        name: path, derma, oct, pneumonia, retina, breast, blood, tissue, organa, organc or organs, with or without
            "mnist" behind. Chest has fourteen labels an image and is refused; the grades of retina are taken as
            classes.
        split: ``'train'``, ``'val'`` or ``'test'``.
        size: 28, 64, 128 or 224, the side of the images: which archive.
        modality: What the images are called.
        channels: 3, grey images are repeated; or 1, of sets in grey only.
        cache: Folder of the unpacked images; None: the environment variable COUNTERPOISE_CACHE, else the user's cache.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown name or split.
        InputError: A missing or damaged archive, one without the arrays above, labels out of range, ``channels=1`` of
            colour images, or a cache that can not be written.
    """

    def __init__(
        self,
        root: str | Path,
        name: str,
        split: str = 'train',
        size: int = 28,
        modality: str = 'image',
        channels: int = 3,
        cache: str | Path | None = None,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modality, channels, transforms)
        name = str(name).lower().removesuffix('mnist')
        if name == 'chest':
            raise InputError('MedMNIST: chest has several labels an image, and only sets with one are read.')
        if name not in CLASSES:
            raise unknown_name('set of MedMNIST', name, CLASSES)
        if size not in SIZES:
            raise InputError(f'MedMNIST: size is {", ".join(map(str, SIZES))}, got {size!r}.')
        choose_split(split, SPLITS, 'MedMNIST')
        self.classes, self.split = CLASSES[name], split
        self.file = Path(root) / (f'{name}mnist.npz' if size == 28 else f'{name}mnist_{size}.npz')
        self._cached = None
        try:
            with zipfile.ZipFile(self.file) as archive:
                self.labels = self._read_labels(archive)
                self.path = self._unpack(archive, size, cache_folder(cache))
        except FileNotFoundError:
            there = sorted(f.name for f in Path(root).glob(f'{name}mnist*.npz'))
            has = f' There are {", ".join(there)}: another size?' if there else ''
            raise InputError(f'{self.file}: no such file.{has} {HOME}') from None
        except (OSError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise InputError(f'{self.file}: can not be read ({error}); fetch it again. {HOME}') from error

    def __len__(self) -> int:
        return len(self.labels)

    def source(self, index: int) -> str:
        return f'{self.file}: {self.split}_images[{index}]'

    def load(self, index: int) -> Sample:
        if self._cached is None:
            self._cached = open_array(self.path)
        pixels = torch.from_numpy(np.array(self._cached[index]))
        image = (
            pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels[None].expand(self.channels[self.modality], -1, -1)
        )
        return {
            'inputs': {self.modality: image},
            'present': torch.ones(1, dtype=torch.bool),
            'target': self.load_target(index),
        }

    def load_target(self, index: int) -> Tensor:
        return torch.tensor(int(self.labels[index]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_cached': None}  # a worker opens the file itself; pickling would copy all of it

    def _read_labels(self, archive: zipfile.ZipFile) -> np.ndarray:
        key = f'{self.split}_labels'
        with self._open(archive, key) as member:
            shape, dtype = _header(member, f'{self.file}: {key}')
            labels = np.frombuffer(member.read(), dtype)
        if dtype.kind not in 'iu' or shape not in ((len(labels), 1), (len(labels),)):
            raise InputError(f'{self.file}: {key} is {dtype} {shape}, expected integers (N, 1).')
        if (wrong := (labels < 0) | (labels >= self.num_classes)).any():
            at = int(wrong.argmax())
            raise InputError(
                f'{self.file}: {key}[{at}] is {labels[at]}, out of range: expected 0..{self.num_classes - 1}.'
            )
        return labels.astype(np.int64)

    def _unpack(self, archive: zipfile.ZipFile, size: int, folder: Path) -> Path:
        key = f'{self.split}_images'
        with self._open(archive, key) as member:
            shape, dtype = _header(member, f'{self.file}: {key}')
            colours = shape[3:] == (3,)
            if dtype != np.uint8 or shape[1:] not in ((size, size), (size, size, 3)):
                raise InputError(f'{self.file}: {key} is {dtype} {shape}, expected uint8 (N, {size}, {size}[, 3]).')
            if shape[0] != len(self):
                raise InputError(f'{self.file}: there are {shape[0]} {key} and {len(self)} labels.')
            if colours and self.channels[self.modality] == 1:
                raise InputError(f'{self.file}: its images have three channels, give MedMNIST channels=3.')
            # the archive knows the checksum of what it holds: the name says the content, and a complete file is right
            content = archive.getinfo(f'{key}.npy').CRC
            path = folder / f'{self.file.stem}_{self.split}_{content:08x}.npy'
            if not is_complete(path, dtype, shape):
                write_array(path, dtype, shape, _parts(member, shape, f'Unpacking {self.file.name}, {self.split}'))
        return path

    def _open(self, archive: zipfile.ZipFile, key: str) -> IO[bytes]:
        try:
            return archive.open(f'{key}.npy')
        except KeyError:
            found = [n.removesuffix('.npy') for n in archive.namelist()]
            raise InputError(
                f'{self.file}: it has no array {key!r}.{nearest(key, found)} It holds: {", ".join(found)}.'
            ) from None


def _header(member: IO[bytes], source: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in numpy's format, of which the header is read."""
    try:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(member)
    except ValueError as error:
        raise InputError(f'{source} is no array ({error}).') from error
    if fortran or dtype.hasobject:
        raise InputError(f'{source} is an array of objects or in the order of Fortran.')
    return shape, dtype


def _parts(member: IO[bytes], shape: tuple[int, ...], title: str) -> Iterator[np.ndarray]:
    """The rows of an array (N, ...) of bytes, some at a time."""
    from rich.progress import track

    row = int(np.prod(shape[1:]))
    step = max(1, CHUNK // row)
    starts = range(0, shape[0], step)
    for start in track(starts, title, transient=True, disable=shape[0] * row < LONG):
        rows = min(step, shape[0] - start)
        data = member.read(rows * row)
        if len(data) < rows * row:
            raise EOFError('it ends too early')
        yield np.frombuffer(data, np.uint8).reshape(rows, *shape[1:])
    member.read(1)  # at its end the archive compares the checksum
