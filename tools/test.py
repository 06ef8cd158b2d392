"""Score a checkpoint on every subset of its modalities: table, modality_sweep.json and modality_sweep.csv.

Example: python tools/test.py configs/late_fusion/r18_digitscenes.py work_dirs/r18_digitscenes/best.pth
"""

import argparse
import os
from pathlib import Path

from rich.console import Console

from zoo.engine import command, evaluate_checkpoint, load_config, parse_options


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the Python config it was trained with')
    parser.add_argument('checkpoint', help='best.pth or iter_<n>.pth of a work directory')
    parser.add_argument(
        '--subsets', help='all, full, or a list such as rgb+depth,ir; that of the config by default (all)'
    )
    parser.add_argument('--out', help='where to write; the folder of the checkpoint by default')
    parser.add_argument('--device', help='cpu, cuda, cuda:1; the best there is by default')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change single values of the config'
    )
    parser.add_argument(
        '--trust-checkpoint', action='store_true', help='unpickle anything from the checkpoint; may run code'
    )
    return parser.parse_args()


@command
def main() -> None:
    """Parse, build, run."""
    import plugins  # noqa: F401  registers them

    args = parse_args()
    options = parse_options(args.cfg_options)
    if args.subsets:
        options['test_cfg.subsets'] = args.subsets
    cfg = load_config(args.config, options=options)
    out = Path(args.out) if args.out else None
    result = evaluate_checkpoint(cfg, args.checkpoint, out, args.device, args.trust_checkpoint)
    if int(os.environ.get('RANK', 0)) == 0:
        Console().print(result.table(f'{args.checkpoint} (test)'))


if __name__ == '__main__':
    main()
