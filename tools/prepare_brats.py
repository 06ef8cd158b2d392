"""Lay out BraTS as mmFormer and RFNet read it, from the official NIfTI files.

SOURCE holds <case>/<case>_{flair,t1ce,t1,t2,seg}.nii[.gz], also in folders such as HGG and LGG. Writes
vol/<case>_vol.npy (float32, cropped to the brain's box, each sequence standardised inside the brain),
seg/<case>_seg.npy (uint8, 0..3) and train.txt, val.txt, test.txt; lists that are there already are kept. A file appears
only when it is complete: an interrupted run is continued by starting it again.

Example: python tools/prepare_brats.py MICCAI_BraTS2020_TrainingData --out data/brats
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from registry import InputError
from zoo.datasets.brats import (
    LEAST,
    PROPORTION,
    SEQUENCES,
    SPLITS,
    Case,
    check_least,
    find_cases,
    read_case,
    read_cases,
    split_cases,
)
from zoo.engine import command
from zoo.engine.checkpoint import write_text
from zoo.engine.evaluate import make_writable
from zoo.engine.prepared import check_settings, write_npy
from zoo.engine.progress import track


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='the folder of the official files')
    parser.add_argument('--out', type=Path, required=True, help='the folder to write')
    parser.add_argument('--least', type=int, default=LEAST, help='smallest side of the box, in voxels (%(default)s)')
    parser.add_argument('--allow-missing', action='store_true', help='a sequence without file becomes a channel of NaN')
    parser.add_argument('--seed', type=int, default=0, help='of the split (%(default)s)')
    parser.add_argument(
        '--proportion',
        type=float,
        nargs=3,
        default=PROPORTION,
        metavar=('TRAIN', 'VAL', 'TEST'),
        help='of the cases (219 50 100)',
    )
    return parser.parse_args()


@command
def main() -> None:
    """Parse, read, write."""
    args = parse_args()
    if not args.source.is_dir():
        raise InputError(f'{args.source}: no such folder.')
    least, cases = check_least(args.least), find_cases(args.source)
    splits = split_cases(cases, args.proportion, args.seed)
    make_writable(args.out)
    check_settings(args.out / 'prepared.json', {'least': least})
    for split in SPLITS:  # a list that names an unknown case is found before the work
        if (file := args.out / f'{split}.txt').is_file():
            splits[split] = read_cases(file, cases)
    written = sum(
        write_case(args.out, folder, least, args.allow_missing) for folder in track(cases.values(), 'Writing cases')
    )
    for split, names in splits.items():
        if names and not (file := args.out / f'{split}.txt').is_file():
            write_text(file, ''.join(f'{name}\n' for name in names))
    sizes = ', '.join(f'{len(names)} {split}' for split, names in splits.items())
    if unlisted := sorted(set(cases).difference(*splits.values())):
        sizes += f'; in no list, which are those that were there: {len(unlisted)}, {unlisted[0]} first'
    Console().print(f'{args.out}: {len(cases)} cases ({sizes}), {written} of them written now.', highlight=False)


def write_case(out: Path, folder: Path, least: int, allow_missing: bool) -> bool:
    """Write one case unless it is there; whether it was written.

    Raises:
        InputError: See `read_case`, or a folder that can not be written.
    """
    volume, labels = out / 'vol' / f'{folder.name}_vol.npy', out / 'seg' / f'{folder.name}_seg.npy'
    if volume.is_file() and labels.is_file():
        return False
    case = read_case(folder, least=least, allow_missing=allow_missing)
    write_npy(volume, stack(case))
    write_npy(labels, case.labels)
    return True


def stack(case: Case) -> np.ndarray:
    """(D, H, W, 4) float32 in the order of `SEQUENCES`, NaN where a sequence is missing."""
    stacked = np.full((*case.labels.shape, len(SEQUENCES)), np.nan, np.float32)
    for channel, name in enumerate(SEQUENCES):
        if name in case.volumes:
            stacked[..., channel] = case.volumes[name]
    return stacked


if __name__ == '__main__':
    main()
