"""Grids of runs: which rows with which seeds, what is missing, and the table of what is there."""

import inspect
import json
import math
import os
import platform
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.config import Config

from registry import PLUGINS, InputError, unknown_name

from .attack_checkpoint import attack_checkpoint
from .checkpoint import write_text
from .config import load_config
from .runner import Runner
from .trial import CLEAN, fraction

ROW_KEYS = ('name', 'config', 'group', 'plugins', 'options', 'tune', 'static_from', 'teacher', 'seeds')
GRID_KEYS = ('title', 'config', 'seeds', 'rows')
ATTACK_KEYS = ('attacks', 'eps', 'steps', 'count')
WEIGHTS = Path('work_dirs') / 'grids'  # of teachers
TUNING_SEEDS = 2  # rates are chosen on the validation data of this many seeds


@dataclass(frozen=True)
class Run:
    """One training: a row's recipe with one seed.

    Attributes:
        teacher: The run whose best weights teach this one.
        weights: Where these are kept of a teacher; they are not part of the results.
    """

    row: str
    seed: int
    path: Path
    config: str
    plugins: list[str] | None
    options: dict[str, Any]
    attack: dict[str, Any] = field(default_factory=dict)
    teacher: 'Run | None' = None
    weights: Path | None = None

    @property
    def done(self) -> bool:
        """Whether there is a result of this very recipe; one of an older recipe of the row does not count."""
        if not self.path.is_file():
            return False
        result = json.loads(self.path.read_text(encoding='utf8'))
        return {k: result.get(k) for k in self.recipe} == self.recipe

    @property
    def recipe(self) -> dict[str, Any]:
        """What makes a result one of this run."""
        recipe = {'plugins': self.plugins or [], 'options': self.options}
        if self.teacher:
            recipe['teacher'] = self.teacher.row
        return {**recipe, 'attack': self.attack} if self.attack else recipe

    def save(self, result: Mapping[str, Any]) -> None:
        """Write the result; its existence says that the run is done."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({**self.recipe, **result}, indent=1) + '\n')


def run_one(run: Run) -> dict[str, Any]:
    """Train and test in a temporary folder, on one thread; returns the sweep, the validation score and the costs."""
    import plugins  # noqa: F401  registers them: this runs in a process of its own

    torch.set_num_threads(1)
    start = time.perf_counter()
    cfg = load_config(run.config, run.plugins, run.options, run.seed)
    cfg.log_level = 'ERROR'
    if run.teacher:
        _give_teacher(cfg, run.teacher)
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(cfg, folder, 'cpu')
        result = runner.train_and_test().to_dict()
        robust = _attack(run, Path(folder) / 'best.pth') if run.attack else {}
        if run.weights:
            run.weights.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder) / 'best.pth', run.weights)
        scalars = runner.message_hub.log_scalars
    logged = {k.removeprefix('train/'): v.current() for k, v in scalars.items() if k.startswith('train/plugin/')}
    for subset in result['subsets']:
        for key in ('metrics', 'per_class'):  # result files stay small
            subset.pop(key, None)
    return {
        'row': run.row,
        'seed': run.seed,
        'sweep': {k: result[k] for k in ('metric', 'modalities', 'subsets', 'average')},
        'validation': runner.state['best_score'],
        'best_epoch': runner.state['best_epoch'],
        'logged': logged,
        **robust,
        'seconds': round(time.perf_counter() - start, 1),
        'date': date.today().isoformat(),
        'hardware': hardware(),
    }


def _give_teacher(cfg: Config, teacher: Run) -> None:
    """Let a run teach every plugin of a config that has a teacher."""
    model = load_config(teacher.config, teacher.plugins, teacher.options, teacher.seed).model.to_dict()
    for plugin in cfg.plugins:
        if 'teacher' in inspect.signature(PLUGINS.find(plugin['type'])).parameters:
            plugin.update(teacher=model, checkpoint=str(teacher.weights))


def _attack(run: Run, path: Path) -> dict[str, dict[str, float]]:
    """Scores of the complete set of modalities under the grid's attacks on all of them, by what ran."""
    options = {**run.options, 'test_cfg.subsets': ['full']}
    cfg = load_config(run.config, run.plugins, options, run.seed)
    chosen = {k: v for k, v in run.attack.items() if k != 'eps'}
    found = attack_checkpoint(cfg, path, eps=[fraction(str(run.attack['eps']))], attacked='all', device='cpu', **chosen)
    scores = {}
    for row in found.rows:
        if row['attack'] == CLEAN and 'count' not in run.attack:
            continue  # the complete score
        name = '-'.join(str(v) for v in (row['name'], row['steps']) if v is not None)
        scores[f'{name}, EOT {row["eot"]}' if (row['eot'] or 1) > 1 else name] = row['score']
    return {'robust': scores}


def hardware() -> str:
    """The processor and the versions that a figure was measured with."""
    name = platform.processor() or platform.machine()
    if Path('/proc/cpuinfo').is_file():
        if found := re.search(r'model name\s*: (.+)', Path('/proc/cpuinfo').read_text(encoding='utf8')):
            name = found.group(1)
    return f'{name}, {os.cpu_count()} cores, torch {torch.__version__.split("+")[0]}'


@dataclass
class Grid:
    """Rows and seeds of one results table, and the folder of their results.

    A row has a ``name`` and may have ``seeds`` (how many of the grid's, the first ones), ``plugins`` (expressions as
    ``--plugins`` takes them, none by default; null keeps those of the config), ``options`` (as ``--cfg-options``),
    ``config`` instead of the grid's, ``group``, ``tune`` (one option and its candidates, chosen by the complete score
    on the validation data), ``static_from``, the name of an MWAM row whose mean weights become a fixed factor for each
    branch, or ``teacher``, the name of the row whose best weights, of the same seed, teach the row's plugins: they are
    kept in ``work_dirs``, and made again where they lack.

    A grid may have an ``attack``: ``attacks``, ``eps``, ``steps`` and ``count`` of `attack_checkpoint`, under which
    every trained host is scored with all its modalities.
    """

    name: str
    title: str
    config: str
    seeds: list[int]
    rows: list[dict[str, Any]]
    folder: Path
    attack: dict[str, Any] = field(default_factory=dict)
    results: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> 'Grid':
        """Read a grid file.

        Raises:
            InputError: No such file, or not a grid.
            NameNotFound: A key that means nothing.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f'No grid {str(path)!r}.')
        try:
            data = yaml.safe_load(path.read_text(encoding='utf8'))
        except yaml.YAMLError as error:
            raise InputError(f'{str(path)!r} is not YAML: {" ".join(str(error).split())}') from None
        data = data if isinstance(data, dict) else {}
        for key in data:
            if key not in (*GRID_KEYS, 'attack'):
                raise unknown_name(f'key of the grid {path.name}', key, (*GRID_KEYS, 'attack'))
        for key in data.get('attack', ()):
            if key not in ATTACK_KEYS:
                raise unknown_name(f'key of the attack of {path.name}', key, ATTACK_KEYS)
        if lacking := [k for k in GRID_KEYS if k not in data]:
            raise InputError(f'{str(path)!r} is no grid: it lacks {", ".join(lacking)}.')
        for row in data['rows']:
            for key in row:
                if key not in ROW_KEYS:
                    raise unknown_name(f'key of a row of {path.name}', key, ROW_KEYS)
        _check_teachers(path, data)
        return cls(path.stem, folder=path.with_suffix(''), **data)

    def path(self, row: str, seed: int, variant: str = '') -> Path:
        """Where a run's result is kept."""
        stem = re.sub(r'[^a-z0-9.]+', '_', f'{row} {variant}'.lower()).strip('_')
        return self.folder / f'{stem}_seed{seed}.json'

    def missing(self, only: str = '*') -> list[Run]:
        """The runs that have no result and wait for no other."""
        runs = [run for row in self.rows if fnmatchcase(row['name'], only) for run in self._runs(row)]
        runs = [run for run in runs if not run.done]
        first = {r.teacher.path: r.teacher for r in runs if r.teacher and not r.teacher.weights.is_file()}
        ready = [r for r in runs if r.path not in first and not (r.teacher and r.teacher.path in first)]
        return [*first.values(), *ready]

    def count(self, only: str = '*', done: bool = False) -> int:
        """How many runs the chosen rows take, or have done."""
        total = 0
        for row in self.rows:
            if fnmatchcase(row['name'], only):
                paths = [self.path(row['name'], s) for s in self.seeds[: row.get('seeds')]]
                for value in _candidates(row):
                    paths += [self.path(row['name'], s, f'tune {value}') for s in self.seeds[:TUNING_SEEDS]]
                total += sum(p.is_file() for p in paths) if done else len(paths)
        return total

    def read(self, row: str) -> list[dict[str, Any]]:
        """The results of a row that are there, by seed."""
        paths = [self.path(row, s) for s in self.seeds]
        return [json.loads(p.read_text(encoding='utf8')) for p in paths if p.is_file()]

    def _runs(self, row: Mapping[str, Any]) -> Iterable[Run]:
        plugins, options = row.get('plugins', []), dict(row.get('options', {}))
        config = row.get('config', self.config)
        if 'tune' in row:
            chosen = self._tuned(row)
            if chosen is None:
                (key,) = row['tune']
                for value in _candidates(row):
                    for seed in self.seeds[:TUNING_SEEDS]:
                        path = self.path(row['name'], seed, f'tune {value}')
                        yield Run(f'{row["name"]}, {value}', seed, path, config, plugins, {**options, key: value})
                return
            options.update(chosen)
        if source := row.get('static_from'):
            if not (factors := self._mean_weights(source)):
                return
            plugins = [f'StaticWeights(factors={factors})']
        teachers = {r.get('teacher') for r in self.rows}
        by_seed = {}
        if 'teacher' in row:
            by_seed = {r.seed: r for r in self._runs(next(r for r in self.rows if r['name'] == row['teacher']))}
        for seed in self.seeds[: row.get('seeds')]:
            path = self.path(row['name'], seed)
            weights = WEIGHTS / self.name / f'{path.stem}.pth' if row['name'] in teachers else None
            teacher = by_seed.get(seed)
            yield Run(row['name'], seed, path, config, plugins, options, self.attack, teacher, weights)

    def _tuned(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """The candidate with the best mean validation score; None while any is missing."""
        (key,) = row['tune']
        scores = {}
        for value in _candidates(row):
            paths = [self.path(row['name'], s, f'tune {value}') for s in self.seeds[:TUNING_SEEDS]]
            if not all(p.is_file() for p in paths):
                return None
            scores[value] = statistics.fmean(json.loads(p.read_text(encoding='utf8'))['validation'] for p in paths)
        return {key: max(scores, key=scores.get)}

    def _mean_weights(self, row: str) -> dict[str, float] | None:
        """MWAM's weights, averaged over its steps and seeds; None while a seed is missing."""
        results = self.read(row)
        if len(results) < len(self.seeds):
            return None
        found: dict[str, list[float]] = {}
        for result in results:
            for key, value in result['logged'].items():
                if match := re.fullmatch(r'plugin/MWAM/(\w+)/K_mean', key):
                    found.setdefault(match[1], []).append(value)
        return {m: round(statistics.fmean(v), 4) for m, v in found.items()}


def _check_teachers(path: Path, data: Mapping[str, Any]) -> None:
    rows = {row['name']: row for row in data['rows']}
    count = {name: row.get('seeds', len(data['seeds'])) for name, row in rows.items()}
    for name, n in count.items():
        if not isinstance(n, int) or not 1 <= n <= len(data['seeds']):
            raise InputError(f'seeds of {name} in {path.name} must be in 1..{len(data["seeds"])}, got {n!r}.')
    for name, row in rows.items():
        if (teacher := row.get('teacher')) is None:
            continue
        if teacher not in rows:
            raise unknown_name(f'row of {path.name} (teacher of {name})', teacher, rows)
        if 'tune' in row or {'tune', 'teacher'} & rows[teacher].keys():
            raise InputError(
                f'{name} in {path.name}: a row that is taught can not be tuned, its teacher neither tuned nor taught.'
            )
        if count[teacher] < count[name]:
            raise InputError(
                f'{name} in {path.name} has {count[name]} seeds, its teacher {teacher} only {count[teacher]}.'
            )


def _candidates(row: Mapping[str, Any]) -> list[Any]:
    return next(iter(row['tune'].values())) if 'tune' in row else []


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % confidence interval (Student's t); NaN with one value."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def summary(results: list[dict[str, Any]]) -> dict[str, list[float]]:
    """What a table shows of the runs of one row: each a list over seeds."""
    columns: dict[str, list[float]] = {}
    for result in results:
        sweep = result['sweep']
        incomplete = [s for s in sweep['subsets'] if len(s['modalities']) < len(sweep['modalities'])]
        full = next(s['score'] for s in sweep['subsets'] if len(s['modalities']) == len(sweep['modalities']))
        values = {'complete': full, **result.get('robust', {})}
        if incomplete:
            values['worst subset'] = min(s['score'] for s in incomplete)
            values['average'] = sweep['average']['score_all']
            values['PCR'] = sweep['average']['pcr_incomplete']
        values.update({'+'.join(s['modalities']): s['score'] for s in incomplete})
        for key, value in values.items():
            columns.setdefault(key, []).append(value)
    return columns


def write_results(grids: Iterable[Grid], path: Path) -> None:
    """Write the tables of all grids."""
    text = [
        '# Results',
        '',
        '<!-- Written by `python tools/benchmark.py --report`; do not edit. -->',
        '',
        'Mean and 95 % interval (Student) over seeds, in percent. *complete*: all modalities; *worst subset* and',
        '*average* over all non-empty subsets; *PCR*: the performance collapse rate, averaged over the incomplete',
        'subsets; read it beside the complete score: it falls when that falls. The epoch is chosen by the complete',
        'score on the validation data, never on the test data, and evaluation drops no sample. DigitScenes and',
        'BrainPhantoms are test benches: nothing here stands for a published benchmark. Raw results: the folders of',
        '`results/`.',
        '',
    ]
    for grid in grids:
        if any(grid.read(row['name']) for row in grid.rows):
            text += _table(grid)
    write_text(path, '\n'.join(text).rstrip() + '\n')


def _table(grid: Grid) -> list[str]:
    rows = {row['name']: summary(results) for row in grid.rows if (results := grid.read(row['name']))}
    lines = [f'## {grid.title}', '', f'`{grid.config}`, {len(grid.seeds)} seeds', '']
    for group, chosen in _groups(grid, rows).items():
        columns = list(dict.fromkeys(c for name in chosen for c in rows[name]))
        robust = {key for name in chosen for result in grid.read(name) for key in result.get('robust', ())}
        scores = [c for c in columns if c in ('complete', 'worst subset', 'average', 'PCR') or c in robust]
        lines += [f'### {group.capitalize()}', ''] if group else []
        lines += _markdown(chosen, rows, scores)
        if subsets := [c for c in columns if c not in scores]:
            lines += ['', 'The same runs, subset by subset:', '', *_markdown(chosen, rows, ['complete', *subsets])]
        lines.append('')
    lines += [f'- {note}' for note in _notes(grid)]
    return [*lines, '']


def _groups(grid: Grid, rows: Mapping[str, Any]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {'': []}
    for row in grid.rows:
        if row['name'] in rows:
            groups.setdefault(row.get('group', ''), []).append(row['name'])
    return {k: v for k, v in groups.items() if v}


def _markdown(names: list[str], rows: Mapping[str, dict[str, list[float]]], columns: list[str]) -> list[str]:
    lines = ['| | ' + ' | '.join(columns) + ' |', '|---|' + '---:|' * len(columns)]
    for name in names:
        cells = []
        for column in columns:
            values = rows[name].get(column)
            mean, half = interval(values) if values else (math.nan, math.nan)
            cells.append('' if not values else f'{mean:.1f} ± {half:.1f}' if len(values) > 1 else f'{mean:.1f}')
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return lines


def _named(grid: Grid, key: str, value: Any) -> str:
    """The rows with a value; the title of a group stands for all of its rows."""
    members: dict[str, list[Mapping[str, Any]]] = {}
    for row in grid.rows:
        members.setdefault(row.get('group', ''), []).append(row)
    names = []
    for group, rows in members.items():
        chosen = [row['name'] for row in rows if row.get(key) == value]
        names += [group.capitalize()] if group and len(chosen) == len(rows) > 1 else chosen
    return '; '.join(names)


def _notes(grid: Grid) -> list[str]:
    notes = []
    everything = [r for row in grid.rows for r in grid.read(row['name'])]
    for row in grid.rows:
        if 'tune' in row and (chosen := grid._tuned(row)):
            ((key, value),) = chosen.items()
            candidates = f'of {_candidates(row)}, by the validation data of {TUNING_SEEDS} seeds'
            notes.append(f'{row["name"]}: `{key}={value}`, {candidates}.')
        if (source := row.get('static_from')) and (factors := grid._mean_weights(source)):
            notes.append(f'{row["name"]}: {", ".join(f"{m} {v}" for m, v in factors.items())}.')
    for config in dict.fromkeys(row['config'] for row in grid.rows if 'config' in row):
        notes.append(f'{_named(grid, "config", config)}: `{config}`.')
    for n in sorted({row['seeds'] for row in grid.rows if 'seeds' in row}):
        notes.append(f'{_named(grid, "seeds", n)}: the first {n} seeds.')
    if attack := grid.attack:
        shares = {'eps': attack['eps'], 'steps': attack.get('steps'), 'samples': attack.get('count', 'all')}
        listed = ', '.join(f'{k} {v}' for k, v in shares.items() if v)
        notes.append(
            f'Attacks of all modalities: {", ".join(attack["attacks"])}, {listed}; *clean*: these samples as they are.'
        )
    for row in grid.rows:
        there, wanted = len(grid.read(row['name'])), len(grid.seeds[: row.get('seeds')])
        if 0 < there < wanted:
            notes.append(f'{row["name"]}: {there} of {wanted} seeds so far.')
    if everything:
        seconds = statistics.median(r['seconds'] for r in everything)
        dates = sorted({r['date'] for r in everything})
        machines = ', '.join(sorted({r['hardware'] for r in everything}))
        when = ' to '.join(dict.fromkeys((dates[0], dates[-1])))
        notes.append(f'{len(everything)} runs, median {seconds:.0f} s on one thread; {machines}; {when}.')
    return notes
