"""Say what the predictions of a checkpoint lean on: which modality, and which regions of it.

Takes each modality away in turn, and hides blocks of the inputs, as the plugin `Intervention` does in training, and
measures how far predictions move. Prints a table of means over the test data and writes to the output folder
    explanation.json, explanation.csv    the table; in the .json also the figures of each picture
    explanation.png                      the table as bars
    <sample>_regions.png                 of the first samples: their inputs with the regions that count, one colour
                                         scale for all modalities, what is lost without each, and the prediction
INPUTS are as for tools/predict.py; the test data of the config by default.

Example: python tools/explain.py configs/late_fusion/r18_digitscenes.py work_dirs/r18_digitscenes/best.pth --samples 500
"""

import argparse

from rich.console import Console

from zoo.engine import command, load_config, parse_options
from zoo.engine.cli import common_flags


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_flags(parser)
    parser.add_argument('checkpoint', help='best.pth or iter_<n>.pth of a work directory')
    parser.add_argument('inputs', nargs='*', metavar='INPUT', help='see above')
    parser.add_argument('--out', default='explanation', help='where to write; ./explanation by default')
    parser.add_argument('--samples', type=int, help='at most so many samples; all by default')
    parser.add_argument('--count', type=int, default=8, help='at most so many pictures (8)')
    parser.add_argument(
        '--masks', type=int, default=64, help='masks of a picture, a pass for each and each modality (64)'
    )
    parser.add_argument(
        '--block', type=int, help='side of the hidden blocks in pixels; by default an eighth of the shorter side'
    )
    parser.add_argument('--batch-size', type=int, help="passes that run at a time; the config's by default")
    parser.add_argument('--seed', type=int, default=0, help='of all draws (0)')
    return parser.parse_intermixed_args()  # inputs may follow flags


@command
def main() -> None:
    """Parse, measure, draw."""
    import plugins  # noqa: F401  registers them
    from plugins.explanation import explain_checkpoint

    args = parse_args()
    result = explain_checkpoint(
        load_config(args.config, options=parse_options(args.cfg_options)),
        args.checkpoint,
        args.inputs,
        args.out,
        args.device,
        args.trust_checkpoint,
        args.batch_size,
        args.samples,
        args.count,
        args.masks,
        args.block,
        args.seed,
    )
    console = Console(highlight=False)
    console.print(result.table(f'What predictions of {args.checkpoint} lean on'))
    pictures = len(result.pictures)
    drawn = f' and {pictures} picture{"s" * (pictures > 1)}' if pictures else ''
    console.print(f'Wrote the figures{drawn} to {args.out}.', markup=False, soft_wrap=True)


if __name__ == '__main__':
    main()
