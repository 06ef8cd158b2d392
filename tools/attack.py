"""Attack a checkpoint: its score on every subset of its modalities with all of them, or each alone, perturbed.

Prints a table and writes robustness.json, row by row, robustness.csv and robustness.png, scores over eps and steps. A
run that was stopped goes on where it was. Of a host that draws at random (RPAN) each attack is made twice, on one draw
and with gradients averaged over --eot draws, and scored in --draws passes with draws of their own.

Examples:
    python tools/attack.py CONFIG best.pth --attack pgd --eps 0,1/255,2/255,4/255,8/255
    python tools/attack.py CONFIG best.pth --attack pgd "apgd(loss=dlr)" --steps 1,10,50 --subsets full --attacked each
    python tools/attack.py CONFIG best.pth --attack autoattack --eps 4/255 --subsets full --attacked all
    python tools/attack.py CONFIG best.pth --attack square --surrogate OTHER_CONFIG other.pth
"""

import argparse
from pathlib import Path

from rich.console import Console

from zoo.engine import command
from zoo.engine.attack_checkpoint import attack_checkpoint
from zoo.engine.cli import common_flags, config_of
from zoo.engine.trial import fraction, parse_bounds, parse_numbers


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_flags(parser, checkpoint=True)
    parser.add_argument(
        '--attack',
        nargs='+',
        default=['pgd'],
        metavar='NAME',
        help='attacks (tools/list.py attacks), with arguments as "apgd(loss=dlr, steps=50)"; pgd by default',
    )
    parser.add_argument(
        '--eps', default='4/255', help='strengths as shares of the range, 1/255,4/255; 4/255 by default'
    )
    parser.add_argument('--steps', help='steps of attacks that have some, 1,5,10; their own by default')
    parser.add_argument(
        '--attacked',
        default='all,each',
        help='which present modalities are perturbed: all (together), each (alone), or names such as rgb,rgb+depth',
    )
    parser.add_argument(
        '--bounds',
        nargs='+',
        default=[],
        metavar='RANGE',
        help='range of the data, 0,255 or depth=0,10000 or ir=none; by default 0,255 for 8-bit data, else 0,1',
    )
    parser.add_argument('--eot', help='draws for each gradient, 1,20; by default 1, for a random host 1,20')
    parser.add_argument('--draws', type=int, help='passes that score an attack; 1 by default, for a random host 10')
    parser.add_argument(
        '--surrogate', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='craft the attacks on this host (transfer)'
    )
    parser.add_argument('--batch-size', type=int, help="samples that run at a time; the config's by default")
    parser.add_argument('--count', type=int, help='only the first so many samples')
    parser.add_argument('--seed', type=int, default=0, help='of all draws (0)')
    parser.add_argument('--out', help='where to write; the folder of the checkpoint by default')
    return parser.parse_args()


@command
def main() -> None:
    """Parse, attack, show."""
    import plugins  # noqa: F401  registers them

    args = parse_args()
    cfg = config_of(args)
    result = attack_checkpoint(
        cfg,
        args.checkpoint,
        attacks=args.attack,
        eps=parse_numbers(args.eps, fraction, '--eps'),
        steps=parse_numbers(args.steps, int, '--steps') if args.steps else (),
        attacked=args.attacked,
        eot=parse_numbers(args.eot, int, '--eot') if args.eot else None,
        draws=args.draws,
        bounds=parse_bounds(args.bounds),
        surrogate=args.surrogate,
        out=Path(args.out) if args.out else None,
        device=args.device,
        trust=args.trust_checkpoint,
        batch_size=args.batch_size,
        count=args.count,
        seed=args.seed,
    )
    console = Console()
    console.print(result.table(f'{args.checkpoint} under attack (test)'))
    for doubt in result.doubts():
        console.print(f'[yellow]doubtful:[/] {doubt}. Are gradients masked? See docs/attacks.md.', soft_wrap=True)


if __name__ == '__main__':
    main()
