"""Train a host with balancing plugins, then score it on every subset of its modalities.

Example: python tools/train.py configs/late_fusion/r18_digitscenes.py --plugins MWAM "ModalityDropout(p=0.3)"
"""

import argparse
import re
from pathlib import Path

from rich.console import Console

from zoo.engine import Runner, command, load_config, parse_options
from zoo.engine.cli import common_flags


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_flags(parser)
    parser.add_argument(
        '--plugins',
        nargs='+',
        metavar='PLUGIN',
        help='replace the plugins of the config: names, or "NAME(argument=value, ...)"; none for the plain baseline',
    )
    parser.add_argument('--work-dir', help='where to write; work_dirs/<config> by default')
    parser.add_argument('--seed', type=int, help='replaces that of the config')
    parser.add_argument(
        '--resume', action='store_true', help='continue from the latest checkpoint of the work directory'
    )
    parser.add_argument(
        '--amp', nargs='?', const='bfloat16', metavar='DTYPE', help='mixed precision: bfloat16 (default) or float16'
    )
    parser.add_argument('--no-test', action='store_true', help='do not score the test data at the end')
    return parser.parse_args()


def default_work_dir(args: argparse.Namespace) -> Path:
    """``work_dirs/<config>``, with the plugins and the seed of the command line in its name: runs stay apart."""
    names = [re.sub(r'[^\w.=]+', '_', p.lower()).strip('_') for p in args.plugins or []]
    names += [f'seed{args.seed}'] if args.seed is not None else []
    return Path('work_dirs') / '_'.join([Path(args.config).stem, *names])


@command
def main() -> None:
    """Parse, build, run."""
    import plugins  # noqa: F401  registers them

    args = parse_args()
    options = parse_options(args.cfg_options)
    if args.amp:
        options['optim_wrapper.dtype'] = args.amp
    cfg = load_config(args.config, args.plugins, options, args.seed)
    work_dir = args.work_dir or cfg.get('work_dir') or default_work_dir(args)
    runner = Runner(cfg, work_dir, args.device, args.trust_checkpoint)
    if args.resume:
        runner.resume_from()
    result = runner.train_and_test(test=not args.no_test)
    if result is not None and runner.rank == 0:
        Console().print(result.table(f'{runner.work_dir} (test)'))


if __name__ == '__main__':
    main()
