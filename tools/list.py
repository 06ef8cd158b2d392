"""List what the zoo holds: hosts, encoders, fusions, plugins, datasets and configs, with what each config costs.

Examples:
    python tools/list.py                              everything
    python tools/list.py configs "r18*mwam*"          the configs that match, by path or by name
    python tools/list.py configs my_config.py --json  one config, wherever it lies
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
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from registry import DATASETS, ENCODERS, FUSIONS, HOSTS, PLUGINS, InputError, nearest, unknown_name
from zoo.engine import command

ROOT = Path(__file__).resolve().parents[1]
REGISTRIES = {'hosts': HOSTS, 'encoders': ENCODERS, 'fusions': FUSIONS, 'plugins': PLUGINS, 'datasets': DATASETS}
KINDS = (*REGISTRIES, 'configs')
COST = ('host', 'modalities', 'plugins', 'parameters', 'branches', 'macs', 'input')
COUNTED = (
    'Parameters are those of the whole host; a branch is the part of them that one modality has for itself. MACs are '
    'multiply-accumulates of convolutions, matrix products and attention for one sample with all modalities, in eval '
    'mode, half of the floating point operations that torch.utils.flop_counter counts.'
)
FULL_STOP = re.compile(r'(?<!\bal)(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)\.(?=\s|$)')
WORDS_BEFORE_A_DOCS_TABLE = {
    'hosts': 'Whole multimodal models: `type` of a config\'s `model`, or `zoo.create_host(name, ...)`.',
    'encoders': 'What turns one modality into features. The name of any model of timm works too: '
    '`python tools/list.py encoders "convnext*"` lists those that match.',
    'fusions': 'What merges the features of the modalities that are present.',
    'plugins': 'Interventions on the training of any host: `plugins` of a config, or `--plugins` of `tools/train.py`.',
    'datasets': 'What can be trained and tested on.',
    'configs': COUNTED,
}

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
        '--docs',
        nargs='?',
        type=Path,
        const=ROOT / 'docs' / 'zoo.md',
        metavar='FILE',
        help='write all tables as Markdown, to docs/zoo.md by default',
    )
    args = parser.parse_args()
    if args.docs and (args.kind or args.json):
        parser.error('--docs writes everything: leave out the kind, the pattern and --json')
    return args


@command
def main() -> None:
    """Parse, collect, show."""
    args = parse_args()
    if args.kind not in (None, *KINDS):
        raise unknown_name('kind of part', args.kind, KINDS)
    import plugins  # noqa: F401  registers them

    with redirect_stdout(sys.stderr):  # configs and libraries may print, and JSON must stay pure
        found = {kind: collect(kind, args.pattern) for kind in ([args.kind] if args.kind else KINDS)}
    failed = [row for row in found.get('configs', ()) if 'error' in row]
    if args.docs:
        if failed:
            raise InputError(f'Nothing is written: {failed[0]["config"]}: {failed[0]["error"]}')
        write_docs(found, args.docs)
    elif args.json:
        print(json.dumps(found[args.kind] if args.kind else found, indent=2, ensure_ascii=False))
    else:
        show(found)
    if broken := [row['config'] for row in failed if not row.pop('lacks_library')]:
        raise InputError(f'{len(broken)} of {len(found["configs"])} configs can not be built: {", ".join(broken)}.')


# ---- collecting


def collect(kind: str, pattern: str) -> list[Row]:
    """The rows of one kind whose names match a shell pattern, without regard to case.

    Raises:
        NameNotFound: A name without wildcard that is not there.
    """
    rows, known = configs(pattern) if kind == 'configs' else parts(kind, pattern)
    if not rows and not re.search(r'[*?\[]', pattern):
        raise unknown_name(kind.removesuffix('s'), pattern, known)
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


def configs(pattern: str) -> tuple[list[Row], list[str]]:
    """The configs of the zoo that match, or the one file that ``pattern`` names, and the paths of all."""
    if (path := Path(pattern)).is_file():
        return [describe_config(path)], []
    files = sorted(p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts)
    known = [p.relative_to(ROOT).as_posix() for p in files]
    if pattern.endswith('.py') and not re.search(r'[*?\[]', pattern) and not any(matches(n, pattern) for n in known):
        raise InputError(f'No config {pattern!r}.{nearest(pattern, known)}')
    chosen = [p for p, name in zip(files, known) if matches(name, pattern)]
    if len(chosen) < 2:
        return [describe_config(p) for p in chosen], [p.stem for p in files]
    from zoo.engine.progress import track

    return [attempt(p) for p in track(chosen, 'configs')], known


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern fits a config's path, with or without its folders and its suffix.

    Args:
        name: ``configs/FOLDER/FILE.py``.
        pattern: A shell pattern.
    """
    pattern = pattern.lower().removesuffix('.py')
    levels = name.lower().removesuffix('.py').split('/')
    return any(fnmatchcase('/'.join(levels[i:]), pattern) for i in range(len(levels)))


def attempt(path: Path) -> Row:
    """`describe_config`; a config that can not be built gets a row with ``error`` instead of numbers."""
    try:
        return describe_config(path)
    except Exception as error:  # configs and models are code: whatever one raises must not hide the others
        if os.environ.get('COUNTERPOISE_TRACEBACK'):
            raise
        reason = ' '.join(str(error).split())
        if not isinstance(error, (InputError, LookupError, ImportError)):
            reason = f'{type(error).__name__}: {reason}'
        lacks_library = isinstance(error, ImportError) or isinstance(error.__cause__, ImportError)
        row = {'config': shown(path), 'description': config_sentence(path), **dict.fromkeys(COST)}
        return {**row, 'error': reason, 'lacks_library': lacks_library}


def describe_config(path: Path) -> Row:
    """What a config trains, and what its host costs.

    Raises:
        InputError: It can not be read or built.
        NameNotFound: An unknown part.
    """
    from zoo.engine import load_config
    from zoo.engine.config import plugin_names

    cfg = load_config(path)
    keys = ('model', 'plugins', 'test_dataloader', 'val_dataloader', 'train_dataloader')
    cost = cached_cost(json.dumps({k: cfg.to_dict()[k] for k in keys if k in cfg}, default=str))
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
    return {**row, 'training_only': cost.training_only} if cost.training_only else row
