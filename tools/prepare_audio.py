"""Turn a folder of WAV files into spectrograms, which are read faster.

Writes <name>.npy (F, T) float32 for each <name>.wav of SOURCE, and prepared.json, which says how: a data set that wants
another recipe refuses the folder. A file appears only when it is complete: an interrupted run is continued by starting
it again. A recipe that takes another piece of a clip in each epoch can not be written.

Example: python tools/prepare_audio.py data/cremad/AudioWAV --out data/cremad/audio_npy --seconds 3
"""

import argparse
from pathlib import Path

from rich.console import Console

from registry import InputError
from zoo.datasets.audio import PREPARED, RECIPES, Spectrograms
from zoo.datasets.listing import list_files
from zoo.engine import command
from zoo.engine.evaluate import make_writable
from zoo.engine.prepared import check_settings, write_npy
from zoo.engine.progress import track


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='the folder of the WAV files')
    parser.add_argument('--out', type=Path, required=True, help='the folder to write')
    parser.add_argument('--recipe', default='fd_cmkd', help=f'one of {", ".join(RECIPES)} (%(default)s)')
    parser.add_argument('--seconds', type=float, help="the length of a clip; the recipe's own by default")
    parser.add_argument('--sample-rate', type=int, help="samples a second; the recipe's own by default")
    return parser.parse_args()


@command
def main() -> None:
    """Parse, read, write."""
    args = parse_args()
    spectrograms = Spectrograms('prepare_audio', args.recipe, args.seconds, args.sample_rate)
    if spectrograms.recipe.anywhere:
        raise InputError(f'{args.recipe} takes a piece from anywhere in training: leave the sound as it is.')
    files = list_files(args.source, 'prepare_audio', ('.wav',))
    if not files:
        raise InputError(f'{args.source}: there is no WAV file.')
    make_writable(args.out)
    check_settings(args.out / PREPARED, spectrograms.settings)
    written = 0
    for name, file in track(sorted(files.items()), 'Writing spectrograms'):
        if not (target := args.out / f'{name}.npy').is_file():
            write_npy(target, spectrograms.read(Path(file))[0].numpy())
            written += 1
    size = 'x'.join(map(str, spectrograms.shape))
    Console().print(f'{args.out}: {len(files)} spectrograms of {size}, {written} of them written now.', highlight=False)


if __name__ == '__main__':
    main()
