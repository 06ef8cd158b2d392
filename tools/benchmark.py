"""Run the results grid (what is missing of it), or measure speed, and write the tables of docs/results.md.

Examples:
    python tools/benchmark.py                        run what is missing of the grids in results/, write the tables
    python tools/benchmark.py --only "MWAM*"         only these rows
    python tools/benchmark.py --report               only write the tables
    python tools/benchmark.py --speed                measure speed on the CPU (--device cuda: on a GPU)
"""

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console

from registry import InputError, unknown_name
from zoo.engine import command, keep_freed_memory
from zoo.engine.grid import Grid, Run, run_one, write_results
from zoo.engine.progress import progress_bar

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('grids', nargs='*', default=None, help='grid files; results/*.yaml by default')
    parser.add_argument('--only', default='*', metavar='PATTERN', help='rows whose name matches')
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='runs at a time, one thread each')
    parser.add_argument('--report', action='store_true', help='run nothing, write the tables')
    parser.add_argument('--speed', action='store_true', help='measure speed instead')
    parser.add_argument('--suite', default='*', metavar='PATTERN', help='speed measurements whose name matches')
    parser.add_argument('--device', default='cpu', help='for --speed')
    return parser.parse_args()


@command
def main() -> None:
    """Parse, run, report."""
    import plugins  # noqa: F401  registers them

    args = parse_args()
    if args.speed:
        from speed import measure_all

        os.chdir(ROOT)
        measure_all(args.device, args.suite)
        return
    if args.jobs < 1:
        raise InputError(f'--jobs must be at least 1, got {args.jobs}.')
    grids = [Grid.load(p) for p in args.grids] or every_grid()
    if args.only != '*' and not any(grid.count(args.only) for grid in grids):
        raise unknown_name('row (--only)', args.only, [row['name'] for grid in grids for row in grid.rows])
    os.chdir(ROOT)  # the grids name their configs from there
    if not args.report:
        for grid in grids:
            run_grid(grid, args.only, args.jobs)
    write_results(every_grid(), Path('docs/results.md'))
    Console().print('Wrote docs/results.md')


def every_grid() -> list[Grid]:
    """The grids of this repository: the page shows all of them, whichever were run."""
    return [Grid.load(p) for p in sorted((ROOT / 'results').glob('*.yaml'))]


def run_grid(grid: Grid, only: str, jobs: int) -> None:
    """Run what is missing; what depends on other runs waits for them. Each finished run is a file at once."""
    context = multiprocessing.get_context('spawn')  # torch's threads do not survive a fork
    with progress_bar() as bar, ProcessPoolExecutor(jobs, context, keep_freed_memory) as pool:
        task = bar.add_task(grid.name, total=grid.count(only), completed=grid.count(only, done=True))
        while runs := grid.missing(only):
            futures = {pool.submit(run_one, run): run for run in runs}
            for future in as_completed(futures):
                run: Run = futures[future]
                run.save(future.result())
                line = f'{run.row}, seed {run.seed}: {future.result()["seconds"]:.0f} s'
                bar.print(line) if not bar.disable else print(line, flush=True)
                bar.advance(task)


if __name__ == '__main__':
    main()
