"""Score a checkpoint on every subset of its modalities.

Prints a table and, where the metric scores single classes, one of them; writes modality_sweep.json, modality_sweep.csv
and per_class.csv, and of a detector pr_curves.png and pr_curves.csv, precision over recall on each subset.

Example: python tools/test.py configs/late_fusion/r18_digitscenes.py work_dirs/r18_digitscenes/best.pth
"""

import argparse
import os
from pathlib import Path

from rich.console import Console

from zoo.engine import command, evaluate_checkpoint
from zoo.engine.cli import common_flags, config_of


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_flags(parser, checkpoint=True)
    parser.add_argument('--out', help='where to write; the folder of the checkpoint by default')
    return parser.parse_args()


@command
def main() -> None:
    """Parse, build, run."""
    import plugins  # noqa: F401  registers them

    args = parse_args()
    cfg = config_of(args)
    out = Path(args.out) if args.out else None
    result = evaluate_checkpoint(cfg, args.checkpoint, out, args.device, args.trust_checkpoint)
    if int(os.environ.get('RANK', 0)) == 0:
        console = Console()
        if classes := result.class_table(f'{args.checkpoint} (test)'):
            console.print(classes)
        console.print(result.table(f'{args.checkpoint} (test)'))


if __name__ == '__main__':
    main()
