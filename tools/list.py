"""List what the zoo holds: hosts, their parts, plugins, data sets, metrics and configs, with what each config costs.

Examples:
    python tools/list.py                              everything
    python tools/list.py configs "r18*mwam*"          the configs that match, by path or by name
    python tools/list.py configs my_config.py --json  one config, wherever it lies
    python tools/list.py configs rfnet_brats --parts  also what each part of the host costs; --parts 2 is finer
    python tools/list.py encoders "convnext*"         also the models of timm that match
    python tools/list.py --docs                       write docs/zoo.md
"""

import argparse
import ast
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from registry import (
    ATTACKS,
    DATASETS,
    ENCODERS,
    FUSIONS,
    HEADS,
    HOSTS,
    LOSSES,
    METRICS,
    NECKS,
    PLUGINS,
    InputError,
    NameNotFound,
    nearest,
    unknown_name,
)
from zoo.engine import command, load_config
from zoo.engine.checkpoint import write_text
from zoo.engine.config import plugin_names
from zoo.engine.cost import cost_key, host_cost
from zoo.engine.progress import track

ROOT = Path(__file__).resolve().parents[1]
REGISTRIES = {
    'hosts': HOSTS,
    'encoders': ENCODERS,
    'fusions': FUSIONS,
    'necks': NECKS,
    'heads': HEADS,
    'losses': LOSSES,
    'attacks': ATTACKS,
    'plugins': PLUGINS,
    'datasets': DATASETS,
    'metrics': METRICS,
}
KINDS = (*REGISTRIES, 'configs')
COST = ('host', 'modalities', 'plugins', 'parameters', 'branches', 'macs', 'input')
COUNTED = (
    'Parameters are those of the whole host; a branch is the part of them that one modality has for itself. MACs are '
    'multiply-accumulates of convolutions, matrix products and attention for one sample with all modalities, in eval '
    'mode, half of the floating point operations that torch.utils.flop_counter counts.'
)
# no sentence begins with a digit: "Alg. 1", "Eq. 2" and "0.5, 0.55 ... 0.95" go on
FULL_STOP = re.compile(
    r'(?<!\bal)(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)(?<!\bSec)(?<!\bFig)(?<!\bEq)(?<!\bAlg)\.(?!\s+\d)(?=\s|$)'
)
DOCS = {
    'hosts': "Whole multimodal models: `type` of a config's `model`, or `zoo.create_host(name, ...)`.",
    'encoders': 'What turns one modality into features. The name of any model of timm works too: '
    '`python tools/list.py encoders "convnext*"` lists those that match.',
    'fusions': 'What merges the features of the modalities that are present.',
    'necks': 'What acts on fused maps before the head.',
    'heads': 'What turns fused features into a prediction. On maps the decoders of two libraries work too: '
    '`smp.Unet`, `smp.DeepLabV3Plus`, ... and `mmseg.UPerHead`, `mmseg.SegformerHead`, ...',
    'losses': 'Of (logits, target). `smp.DiceLoss`, `mmseg.LovaszLoss` and the others of these libraries work too.',
    'attacks': 'What perturbs inputs: `--attack` of `tools/attack.py`, `attack` of the plugin `AdversarialTraining`.',
    'plugins': 'Interventions on the training of any host: `plugins` of a config, or `--plugins` of `tools/train.py`.',
    'datasets': 'What can be trained and tested on.',
    'metrics': 'What the modality sweep scores with: `val_evaluator` and `test_evaluator` of a config.',
    'configs': COUNTED,
}
DOCS_HEAD = ['config', 'what it trains', 'host', 'plugins', 'input', 'branches', 'parameters', 'MACs']

Row = dict[str, Any]


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('kind', nargs='?', help=f'{", ".join(KINDS)}; all of them by default')
    parser.add_argument(
        'pattern', nargs='?', default='*', help='a shell pattern on the names, or the path of one config'
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of tables')
    parser.add_argument(
        '--parts',
        nargs='?',
        type=int,
        const=1,
        default=0,
        metavar='DEPTH',
        help='of configs: parameters and MACs of each part of the host, to the unit; 2 and more divide parts further',
    )
    parser.add_argument(
        '--docs',
        nargs='?',
        type=Path,
        const=ROOT / 'docs' / 'zoo.md',
        metavar='FILE',
        help='write all tables as Markdown, to docs/zoo.md by default',
    )
    args = parser.parse_args()
    if args.docs and (args.kind or args.json or args.parts):
        parser.error('--docs writes everything: leave out the kind, the pattern, --json and --parts')
    if args.parts < 0:
        parser.error(f'DEPTH must be at least 0, got {args.parts}')
    if args.parts and args.kind != 'configs':
        parser.error('--parts is for configs: python tools/list.py configs NAME --parts')
    if args.docs and args.docs.suffix != '.md':
        parser.error(f'--docs takes the name of a Markdown file (.md), got {str(args.docs)!r}')
    return args


@command
def main() -> None:
    """Parse, collect, show."""
    args = parse_args()
    if args.kind not in (None, *KINDS):
        raise unknown_name('kind of part', args.kind, KINDS)
    if args.docs and not args.docs.parent.is_dir():
        raise InputError(f'{str(args.docs)!r} can not be written: there is no folder {str(args.docs.parent)!r}.')
    import plugins  # noqa: F401  registers them

    with redirect_stdout(sys.stderr):  # configs and libraries may print, and JSON must stay pure
        found = {kind: collect(kind, args.pattern, args.parts) for kind in ([args.kind] if args.kind else KINDS)}
    if args.docs:
        for row in found['configs']:
            if reason := row.get('error') or row.get('lacks'):
                raise InputError(f'{row["config"]}: {reason} Nothing was written.')
        write_docs(args.docs, markdown(found))
        return
    if args.json:
        print(json.dumps(found[args.kind] if args.kind else found, indent=2, ensure_ascii=False))
    else:
        show(found)
    if broken := [row['config'] for row in found.get('configs', ()) if 'error' in row]:
        raise InputError(f'{len(broken)} of {len(found["configs"])} configs can not be built: {", ".join(broken)}.')


# ---- collecting


def collect(kind: str, pattern: str, depth: int = 0) -> list[Row]:
    """The rows of one kind whose names match a shell pattern, without regard to case.

    Args:
        kind: One of `KINDS`.
        pattern: On the names.
        depth: Of the parts of configs' hosts, see `host_cost`.

    Raises:
        NameNotFound: A name without wildcard that is not there.
    """
    rows, known = configs(pattern, depth) if kind == 'configs' else parts(kind, pattern)
    if not rows and not re.search(r'[*?\[]', pattern):
        raise NameNotFound(
            f'No {kind.removesuffix("s")} {pattern!r}.{nearest(pattern, known)} '
            f'"python tools/list.py {kind}" lists what there is.'
        )
    return rows


def parts(kind: str, pattern: str) -> tuple[list[Row], list[str]]:
    """Registered names with the first sentence of their docstrings, and all names."""
    known = REGISTRIES[kind].module_dict
    plain = pattern.replace('_', '').lower()  # late_fusion is LateFusion
    names = sorted(name for name in known if fnmatchcase(name.replace('_', '').lower(), plain))
    rows = [{'name': name, 'description': first_sentence(known[name].__doc__)} for name in names]
    if kind == 'encoders' and pattern != '*':
        import timm

        models = [(name, timm.model_entrypoint(name).__doc__) for name in timm.list_models(pattern.lower())]
        rows += [{'name': name, 'description': first_sentence(text, 'A model of timm.')} for name, text in models]
    return rows, list(known)


def configs(pattern: str, depth: int = 0) -> tuple[list[Row], list[str]]:
    """The configs of the zoo that match, or the one file that ``pattern`` names, and the names of all.

    Raises:
        InputError: A single config can not be built.
    """
    files = sorted(p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts)
    known = [shown(p) for p in files]
    one = Path(pattern).is_file()
    chosen = [Path(pattern)] if one else [p for p, name in zip(files, known) if matches(name, pattern)]
    costs: dict[str, Any] = {}
    rows = [attempt(p, costs, depth) for p in track(chosen, None if one else 'configs')]
    if len(rows) == 1 and (reason := rows[0].get('error') or rows[0].get('lacks')):
        raise InputError(reason)
    return rows, [*known, *(p.stem for p in files)]


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern fits a config's path, with or without its folders and its suffix.

    Args:
        name: ``configs/FOLDER/FILE.py``.
        pattern: A shell pattern.
    """
    pattern = pattern.lower().removesuffix('.py')
    levels = name.lower().removesuffix('.py').split('/')
    return any(fnmatchcase('/'.join(levels[i:]), pattern) for i in range(len(levels)))


def attempt(path: Path, costs: dict[str, Any], depth: int = 0) -> Row:
    """`describe_config`. One that can not be built gets a row without numbers, with the reason as ``error``, or as
    ``lacks`` where only an optional library is not installed."""
    try:
        return describe_config(path, costs, depth)
    except Exception as error:  # configs and models are code: whatever one raises must not hide the others
        if os.environ.get('COUNTERPOISE_TRACEBACK'):
            raise
        reason = ' '.join(str(error).split())
        if not isinstance(error, (InputError, NameNotFound, ImportError)):
            reason = f'{type(error).__name__}: {reason}'
        lacks = isinstance(error, ImportError) or isinstance(error.__cause__, ImportError)
        row = {'config': shown(path), 'description': config_sentence(path), **dict.fromkeys(COST)}
        return {**row, 'lacks' if lacks else 'error': reason}


def describe_config(path: Path, costs: dict[str, Any], depth: int = 0) -> Row:
    """What a config trains, and what its host costs.

    Args:
        path: The file.
        costs: Those counted before, by `cost_key`; extended.
        depth: See `host_cost`.

    Raises:
        InputError: It can not be read or built.
        NameNotFound: An unknown part.
    """
    cfg = load_config(path)
    if (key := cost_key(cfg)) not in costs:
        costs[key] = host_cost(cfg, depth)
    cost = costs[key]
    row = {
        'config': shown(path),
        'description': config_sentence(path),
        'host': cost.host,
        'modalities': list(cost.modalities),
        'plugins': plugin_names(cfg),
        'parameters': cost.parameters,
        'branches': cost.branches,
        'macs': cost.macs,
        'input': cost.input,
    }
    if cost.training_only:
        row['training_only'] = cost.training_only
    if cost.parts:
        row['parts'] = [asdict(part) for part in cost.parts]
    return row


def shown(path: Path) -> str:
    """A config's path from the root of the repository, or as it was given where it lies outside."""
    full = path.resolve()
    return full.relative_to(ROOT).as_posix() if full.is_relative_to(ROOT) else str(path)


def config_sentence(path: Path) -> str:
    """The first sentence of a config's docstring; nothing where the file is not Python."""
    try:
        return first_sentence(ast.get_docstring(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError, OSError):
        return ''


def first_sentence(text: str | None, default: str = '') -> str:
    """The first sentence of a docstring, on one line, with single quotation marks around code."""
    words = ' '.join((text or default).strip().split('\n\n')[0].split()).replace('``', '`')
    end = FULL_STOP.search(words)
    return words[: end.end()] if end else words


# ---- showing


def show(found: Mapping[str, list[Row]]) -> None:
    """Print one table for each kind."""
    console = Console()
    for kind, rows in found.items():
        console.print(f'[bold]{kind}[/] ({len(rows)})')
        if rows:
            console.print(config_table(rows) if kind == 'configs' else part_table(rows))
        for row in rows:
            if 'parts' in row:
                console.print(host_table(row))
    if found.get('configs'):
        console.print(COUNTED, style='dim')


def part_table(rows: Iterable[Row]) -> Table:
    """Names and descriptions."""
    table = Table('name', 'description', box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(f'[bold]{escape(row["name"])}', escape(row['description']))
    return table


def host_table(row: Row) -> Table:
    """The parts of a config's host, in whole numbers."""
    table = Table(row['config'], 'parameters', 'MACs', box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = 'right', True
    for part in row['parts']:
        macs = '–' if part['macs'] is None else f'{part["macs"]:,}'
        table.add_row(escape(part['name']), f'{part["parameters"]:,}', macs)
    return table


def config_table(rows: Iterable[Row]) -> Table:
    """One row for each config, one line in it for each modality; fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column('config', ratio=1, overflow='fold')
    table.add_column('input', no_wrap=True)
    for name in ('branch', 'all', 'MACs'):
        table.add_column(name, no_wrap=True, justify='right')
    for row in rows:
        name = f'[bold]{escape(row["config"].removeprefix("configs/"))}[/]'
        if reason := row.get('error') or row.get('lacks'):
            table.add_row(f'{name}\n[red]{escape(reason)}[/]')
            continue
        lines = [name, *map(escape, (' + '.join([row['host'], *row['plugins']]), row['description']))]
        if unused := row.get('training_only'):
            lines.append(f'[dim]{short(unused)} of the parameters only train.[/]')
        inputs = row['input'] or dict.fromkeys(row['modalities'])
        table.add_row(
            '\n'.join(lines),
            '\n'.join(f'{m} {sides(shape)}' for m, shape in inputs.items()),
            '\n'.join(short(n) for n in row['branches'].values()),
            short(row['parameters']),
            short(row['macs']),
        )
    return table


def sides(shape: list[int] | None) -> str:
    """``3x48x48``."""
    return 'x'.join(map(str, shape)) if shape else '?'


def short(number: int | None) -> str:
    """Three digits and a prefix: ``2.14 M``."""
    if number is None:
        return '?'
    for power, prefix in ((12, ' T'), (9, ' G'), (6, ' M'), (3, ' k')):
        if number >= 0.9995 * 10**power:
            value = number / 10**power
            return f'{value:.{2 - (value >= 9.995) - (value >= 99.95)}f}{prefix}'
    return str(number)


def write_docs(path: Path, text: str) -> None:
    """Write a Markdown file.

    Raises:
        InputError: It can not be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise InputError(f'{str(path)!r} can not be written: {error.strerror}.') from None


def markdown(found: Mapping[str, list[Row]]) -> str:
    """All tables, for the docs."""
    lines = ['<!-- Written by `python tools/list.py --docs`: change the docstrings and configs, not this file. -->', '']
    lines += ['# The zoo', '']
    for kind, rows in found.items():
        lines += [f'## {kind.capitalize()}', '', DOCS[kind], '']
        if kind != 'configs':
            lines += _table(['name', 'what it is'], [[f'`{r["name"]}`', r['description']] for r in rows])
            continue
        for folder, group in groupby(rows, key=lambda r: r['config'].rsplit('/', 1)[0]):
            lines += [f'### {folder.removeprefix("configs/")}', '', *_table(DOCS_HEAD, map(_docs_cells, group))]
    return '\n'.join(lines)


def _docs_cells(row: Row) -> list[str]:
    inputs = row['input'] or dict.fromkeys(row['modalities'])
    unused = f' ({short(row["training_only"])} only train)' if 'training_only' in row else ''
    return [
        f'[{Path(row["config"]).stem}](../{row["config"]})',
        row['description'],
        row['host'],
        ', '.join(row['plugins']) or '–',
        '<br>'.join(f'{m} {sides(shape)}' for m, shape in inputs.items()),
        '<br>'.join(short(n) for n in row['branches'].values()),
        short(row['parameters']) + unused,
        short(row['macs']),
    ]


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    cells = [[c.replace('|', '\\|') for c in row] for row in rows]
    return [f'| {" | ".join(r)} |' for r in (head, ['---'] * len(head), *cells)] + ['']


if __name__ == '__main__':
    main()
