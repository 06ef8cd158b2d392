"""Lay out NYU-Depth V2 as the data set NYUv2 reads it, from the official files.

MAT is nyu_depth_v2_labeled.mat, --splits the official splits.mat (trainNdxs, testNdxs), --mapping the table
classMapping40.mat (mapClass: 894 labels to 40 classes), --mapping-13 the table class13Mapping.mat (40 classes to 13).
Writes train.txt, test.txt, {train,test}/{rgb,depth,depth_raw,labels_40}/0001.png, and labels_13 where its table is
given. A file appears only when it is complete: an interrupted run is continued by starting it again.

Example: python tools/prepare_nyuv2.py nyu_depth_v2_labeled.mat --splits splits.mat --mapping classMapping40.mat \
    --out data/nyuv2
"""

import argparse
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from rich.console import Console

from registry import InputError
from zoo.engine import command
from zoo.engine.checkpoint import write_text
from zoo.engine.evaluate import make_writable
from zoo.engine.progress import track

if TYPE_CHECKING:
    from h5py import File

ARRAYS = {'images': 4, 'depths': 3, 'rawDepths': 3, 'labels': 3}  # name -> dimensions
CACHE = 2**28  # bytes of decompressed chunks that h5py keeps: a chunk holds parts of several images
DEEPEST = 65.535  # metres


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('mat', type=Path, help='nyu_depth_v2_labeled.mat')
    parser.add_argument('--splits', type=Path, required=True, help='splits.mat')
    parser.add_argument('--mapping', type=Path, required=True, help='classMapping40.mat')
    parser.add_argument('--mapping-13', type=Path, help='class13Mapping.mat, for labels_13')
    parser.add_argument('--out', type=Path, required=True, help='the folder to write')
    return parser.parse_args()


@command
def main() -> None:
    """Parse, read, write."""
    args = parse_args()
    splits = read_splits(args.splits)
    tables = {40: read_mapping(args.mapping, classes=40)}
    if args.mapping_13:
        tables[13] = read_mapping_13(args.mapping_13)[tables[40]]
    with open_mat(args.mat) as mat:
        count = check_arrays(mat, args.mat)
        for split, numbers in splits.items():
            if numbers.min() < 1 or numbers.max() > count:
                raise InputError(
                    f'{args.splits}: its {split} numbers are {numbers.min()}..{numbers.max()}, '
                    f'but {args.mat} holds 1..{count}.'
                )
        make_writable(args.out)
        work = [(split, int(number)) for split, numbers in splits.items() for number in numbers]
        written = sum(write_scene(mat, args.out, *item, tables, args.mat) for item in track(work, 'Writing scenes'))
    for split, numbers in splits.items():
        write_text(args.out / f'{split}.txt', ''.join(f'{number:04d}\n' for number in numbers))
    sizes = ' and '.join(f'{len(numbers)} {split}' for split, numbers in splits.items())
    Console().print(f'{args.out}: {sizes} scenes, {written} of them written now.', highlight=False)


def read_splits(file: Path) -> dict[str, np.ndarray]:
    """The numbers of the scenes of each split, from 1 on, in the order of the file.

    Raises:
        InputError: No such file, not a MATLAB file, without these numbers, or with one number twice.
    """
    content = load_mat(file)
    splits = {}
    for split, name in (('train', 'trainNdxs'), ('test', 'testNdxs')):
        splits[split] = numbers = _integers(content, name, file)
        if not numbers.size:
            raise InputError(f'{file}: {name} is empty.')
    together = np.concatenate(list(splits.values()))
    if len(np.unique(together)) < len(together):
        raise InputError(f'{file}: a scene is named twice.')
    return splits


def read_mapping(file: Path, classes: int) -> np.ndarray:
    """Label of the official file -> class, as an array to index: uint8, entry 0 for void.

    Raises:
        InputError: No such file, not a MATLAB file, or without a table of 1..``classes``.
    """
    return _table(_integers(load_mat(file), 'mapClass', file), classes, file)


def read_mapping_13(file: Path) -> np.ndarray:
    """One of the 40 classes -> one of 13, as an array to index: (41,) uint8, entry 0 for void.

    Raises:
        InputError: No such file, not a MATLAB file, or without a table of 40 entries.
    """
    content = load_mat(file)
    try:
        content = {'classMapping13': content['classMapping13'][0][0][0]}  # a struct whose first field is the table
    except (KeyError, IndexError, TypeError):
        raise InputError(f'{file}: expected a struct classMapping13.') from None
    table = _table(_integers(content, 'classMapping13', file), 13, file)
    if len(table) != 41:
        raise InputError(f'{file}: expected a table of 40 classes, got {len(table) - 1}.')
    return table


def load_mat(file: Path) -> Mapping[str, Any]:
    """The arrays of a MATLAB file before version 7.3.

    Raises:
        InputError: No such file, or another format.
    """
    from scipy.io import loadmat

    if not file.is_file():
        raise InputError(f'{file}: no such file.')
    try:
        return loadmat(file)
    except Exception as error:  # scipy's reader raises many kinds on a damaged file
        raise InputError(f'{file}: can not be read as a MATLAB file ({error}).') from None


def _integers(content: Mapping[str, Any], name: str, file: Path) -> np.ndarray:
    values = content.get(name)
    if values is None or not np.issubdtype(np.asarray(values).dtype, np.number):
        raise InputError(f'{file}: expected an array of numbers {name}.')
    return np.asarray(values).ravel().astype(np.int64)


def _table(values: np.ndarray, classes: int, file: Path) -> np.ndarray:
    if not values.size or values.min() < 1 or values.max() > classes:
        raise InputError(f'{file}: expected classes 1..{classes} in its table.')
    return np.concatenate([[0], values]).astype(np.uint8)


def open_mat(file: Path) -> 'File':
    """The official file, which is HDF5.

    Raises:
        InputError: h5py is not installed, no such file, or another format.
    """
    try:
        import h5py
    except ImportError:
        raise InputError("Reading the official file needs h5py: pip install 'counterpoise[nyuv2]'.") from None
    if not file.is_file():
        raise InputError(f'{file}: no such file. It is nyu_depth_v2_labeled.mat of NYU-Depth V2.')
    try:
        return h5py.File(file, 'r', rdcc_nbytes=CACHE)
    except OSError as error:
        raise InputError(f'{file}: can not be read as HDF5, the format of MATLAB 7.3 ({error}).') from None


def check_arrays(mat: 'File', file: Path) -> int:
    """How many scenes the official file holds.

    Raises:
        InputError: An array is missing, or their shapes do not fit together.
    """
    for name, ndim in ARRAYS.items():
        if name not in mat or len(getattr(mat[name], 'shape', ())) != ndim:
            raise InputError(f'{file}: expected an array {name} of {ndim} dimensions.')
    count, channels, *size = mat['images'].shape
    for name in ARRAYS:
        shape = mat[name].shape
        if channels != 3 or (shape[0], *shape[-2:]) != (count, *size):
            raise InputError(
                f'{file}: {name} has the shape {shape}, images {mat["images"].shape}: (N, 3, W, H) expected.'
            )
    return count


def write_scene(
    mat: 'File', out: Path, split: str, number: int, tables: Mapping[int, np.ndarray], source: Path
) -> bool:
    """Write what is missing of one scene; whether anything was.

    Raises:
        InputError: Values that do not fit into its files, damaged data, or a folder that can not be written.
    """

    def colour(array: np.ndarray) -> np.ndarray:
        return array.T  # (3, W, H), as MATLAB stores it, to (H, W, 3)

    def millimetres(array: np.ndarray) -> np.ndarray:
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= DEEPEST):
            raise InputError(f'{source}: a depth of scene {number} is not within 0..{DEEPEST} m.')
        return (array.T * 1e3).astype(np.uint16)  # cut, not rounded: the published statistics are of such files

    def classes(table: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        def look_up(array: np.ndarray) -> np.ndarray:
            if array.max() >= len(table):
                raise InputError(f'{source}: label {array.max()} of scene {number} is above {len(table) - 1}.')
            return table[array.T]

        return look_up

    parts = {'rgb': ('images', colour), 'depth': ('depths', millimetres), 'depth_raw': ('rawDepths', millimetres)}
    parts |= {f'labels_{k}': ('labels', classes(table)) for k, table in tables.items()}
    written = False
    for folder, (name, convert) in parts.items():
        file = out / split / folder / f'{number:04d}.png'
        if file.is_file():
            continue
        try:
            array = mat[name][number - 1]
        except OSError as error:
            raise InputError(f'{source}: {name} of scene {number} can not be read ({error}).') from None
        write_png(file, convert(array))
        written = True
    return written


def write_png(file: Path, pixels: np.ndarray) -> None:
    """Write an image so that nobody sees half of it.

    Raises:
        InputError: It can not be written.
    """
    temporary = file.with_name(f'.{file.name}.{os.getpid()}')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, format='PNG')
        os.replace(temporary, file)
    except OSError as error:
        raise InputError(f'{file}: can not be written ({error.strerror or error}).') from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


if __name__ == '__main__':
    main()
