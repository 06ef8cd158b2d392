"""How a host holds up under attack: on subsets of its modalities, with some of them attacked, over strengths."""

import csv
import inspect
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import torch
from mmengine.config import Config
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from registry import ATTACKS, InputError, unknown_name
from zoo.attacks import Attack
from zoo.attacks.attack import check_count, seed_device
from zoo.batch import Batch
from zoo.digest import weights_digest
from zoo.host import MultimodalHost
from zoo.visual import Line, write_lines

from . import checkpoint as ckpt
from .config import check_config, keep_structural, load_config, parse_plugin, plain_config
from .data import build_dataloader
from .devices import pick_device, under_torchrun
from .evaluate import build_host, check_dataset, check_metric, make_writable
from .progress import progress_bar
from .sweep import Subset, build_metric, parse_subsets, plugin_settings

CLEAN = 'clean'
DRAWS, EOT = 10, 20  # of hosts that draw at random


@dataclass(frozen=True)
class Trial:
    """One row of the result.

    Attributes:
        present: The modalities that the host has.
        attacked: Those of them that are perturbed.
        attack: As the user wrote it, ``'PGD'``, ``'APGD(loss=dlr)'``; ``'clean'`` for none.
        eps: See `zoo.attacks.Attack`.
        steps: Of attacks that have some.
        eot: Draws for each gradient, of attacks that take some.
    """

    present: Subset
    attacked: Subset = ()
    attack: str = CLEAN
    eps: float = 0.0
    steps: int | None = None
    eot: int | None = None

    def build(self, bounds: Mapping[str, Any]) -> Attack | None:
        """The attack.

        Raises:
            InputError: Arguments that it does not take.
            NameNotFound: No such attack.
        """
        if self.attack == CLEAN:
            return None
        given = {'eps': self.eps, 'steps': self.steps, 'eot': self.eot, 'modalities': self.attacked}
        given['bounds'] = {m: bounds[m] for m in self.attacked}
        return ATTACKS.build({k: v for k, v in given.items() if v is not None} | parse_plugin(self.attack))


def plan(
    modalities: Sequence[str],
    subsets: Sequence[Subset],
    attacks: Sequence[str],
    eps: Sequence[float],
    steps: Sequence[int] = (),
    attacked: str = 'all,each',
    eot: Sequence[int] = (1,),
) -> list[Trial]:
    """The rows that these choices ask for: clean ones first, then weak attacks before strong ones.

    Args:
        modalities: Which can be attacked.
        subsets: What is present, see `parse_subsets`.
        attacks: Expressions such as ``'PGD'`` and ``'APGD(loss=dlr)'``.
        eps: Strengths; 0 is the clean row, which is always there.
        steps: Of attacks that have some; their own default when empty.
        attacked: ``'all'`` present modalities together, ``'each'`` alone, and subsets by name; several with commas.
            Where a subset is not present it is left out.
        eot: Draws for each gradient, of attacks that take some.

    Raises:
        InputError: An expression that is none, or one that names what these arguments do.
        NameNotFound: An unknown attack or modality.
    """
    if wrong := [e for e in eps if not 0 <= e < math.inf]:
        raise InputError(f'eps must be a finite number of at least 0, got {wrong[0]!r}.')
    trials = [Trial(s) for s in subsets]
    for expression in attacks:
        config = parse_plugin(expression)
        takes = inspect.signature(ATTACKS.find(config['type'])).parameters
        for key in ('eps', 'modalities', 'bounds'):
            if key in config:
                raise InputError(f'{expression}: {key} is not an argument of single attacks here, use the flag.')
        lengths = list(steps) if steps and 'steps' in takes and 'steps' not in config else [None]
        draws = list(eot) if 'eot' in takes and 'eot' not in config else [None]
        for present in subsets:
            for chosen in _attacked(attacked, present, modalities):
                for n in draws:
                    for length in lengths:
                        trials += [Trial(present, chosen, expression, e, length, n) for e in eps if e > 0]
    return list(dict.fromkeys(trials))


def _attacked(wanted: str, present: Subset, modalities: Sequence[str]) -> list[Subset]:
    found: list[Subset] = []
    for item in wanted.split(','):
        own = tuple(m for m in present if m in modalities)
        if item.strip() == 'all':
            found.append(own)
        elif item.strip() == 'each':
            found += [(m,) for m in own]
        else:
            found += [s for s in parse_subsets([item], modalities) if set(s) <= set(own)]
    return [s for s in dict.fromkeys(found) if s]


@dataclass
class Robustness:
    """Scores under attack, in percent.

    Attributes:
        metric: Name of the score.
        modalities: Those of the host.
        run: What all rows share: checkpoint, data, seed, draws.
        rows: For each `Trial` its values, ``name`` (what ran, with arguments), ``score``, ``std`` over the draws (None
            for one), ``metrics``, ``samples``.
        higher_is_better: Of the score.
    """

    metric: str
    modalities: Subset
    run: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    higher_is_better: bool = True

    def add(self, trial: Trial, values: Mapping[str, Any]) -> None:
        """A row more."""
        self.rows.append({**_plain(trial), **values})

    def has(self, trial: Trial) -> bool:
        """Whether a trial has its row."""
        wanted = _plain(trial)
        return any(all(r[k] == v for k, v in wanted.items()) for r in self.rows)

    def clean(self, row: Mapping[str, Any]) -> float | None:
        """The score without attack on the same modalities."""
        return next(r['score'] for r in self.rows if r['attack'] == CLEAN and r['present'] == row['present'])

    def save(self, folder: Path) -> None:
        """Write ``robustness.json``: after each row, so that a run that stops keeps them."""
        content = {'metric': self.metric, 'modalities': list(self.modalities), 'run': self.run, 'rows': self.rows}
        ckpt.write_text(folder / 'robustness.json', json.dumps(content, indent=2) + '\n')

    def resume(self, folder: Path) -> None:
        """Take over the rows that an earlier run of the same kind has finished.

        Raises:
            InputError: The file there is of another run.
        """
        path = folder / 'robustness.json'
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text(encoding='utf8'))
            same = found['run'] == json.loads(json.dumps(self.run)) and found['metric'] == self.metric
            rows = found['rows']
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f'{str(path)!r} is no result of this tool: move it away, or choose another --out.'
            ) from None
        if not same:
            raise InputError(
                f'{str(path)!r} holds results of other weights, data or settings: move it away, or choose '
                'another --out.'
            )
        self.rows = rows

    def save_tables(self, folder: Path) -> None:
        """Write ``robustness.csv``, and ``robustness.png`` where something changes along a curve."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator='\n')
        writer.writerow(['present', 'attacked', 'attack', 'eps', 'steps', 'eot', self.metric, 'std', 'samples'])
        for r in self.rows:
            numbers = ['' if r[k] is None else r[k] for k in ('steps', 'eot')]
            scores = ['' if r[k] is None else f'{r[k]:.4f}' for k in ('score', 'std')]
            names = ['+'.join(r['present']), '+'.join(r['attacked']), r['name'], f'{r["eps"]:.6g}']
            writer.writerow([*names, *numbers, *scores, r['samples']])
        ckpt.write_text(folder / 'robustness.csv', text.getvalue())
        if panels := self.curves():
            write_lines(panels, f'{self.metric} %', folder / 'robustness.png')

    def curves(self) -> dict[tuple[str, str], dict[str, Line]]:
        """(Title, axis) to lines: over eps and over steps, a panel for each attack, where there are two values."""
        panels: dict[tuple[str, str], dict[str, Line]] = {}
        for axis, other in (('eps', 'steps'), ('steps', 'eps')):
            groups: dict[tuple, list[dict[str, Any]]] = {}
            for r in self.rows:
                if r['attack'] != CLEAN and r[axis] is not None:
                    key = (r['name'], r[other], r['eot'], '+'.join(r['present']), '+'.join(r['attacked']))
                    groups.setdefault(key, []).append(r)
            for (name, fixed, eot, present, attacked), rows in groups.items():
                if axis == 'eps':
                    rows = [
                        next(r for r in self.rows if r['attack'] == CLEAN and r['present'] == rows[0]['present']),
                        *rows,
                    ]
                elif len({r['steps'] for r in rows}) < 2:
                    continue
                rows = sorted((r for r in rows if r['score'] is not None), key=lambda r: r[axis])
                extra = [f'{fixed} steps' if axis == 'eps' else f'eps {short(fixed)}'] if fixed is not None else []
                extra += [f'EOT {eot}'] if eot and eot > 1 else []
                label = present if attacked == present else f'{present}, {attacked} attacked'
                line = Line([r[axis] for r in rows], [r['score'] for r in rows], [r['std'] or 0.0 for r in rows])
                panels.setdefault((', '.join([name, *extra]), axis), {})[label] = line
        return panels

    def doubts(self) -> list[str]:
        """What speaks for masked gradients: an attack that gets weaker where it should get stronger, or one without
        gradients that is stronger than those with (Athalye et al., ICML 2018). One sample is no doubt."""
        if not self.higher_is_better:
            return []
        found = []
        rows = [r for r in self.rows if r['attack'] != CLEAN and r['score'] is not None]

        def slack(r: Mapping[str, Any]) -> float:
            return max(100 / max(r['samples'], 1), 2 * (r['std'] or 0)) + 1e-6

        def blind(r: Mapping[str, Any]) -> bool:
            return r['name'].startswith('square')

        for axis in ('eps', 'steps'):
            groups: dict[tuple, list[dict[str, Any]]] = {}
            for r in rows:
                if r[axis] is not None:
                    key = tuple(
                        str(r[k]) for k in ('present', 'attacked', 'attack', 'eps', 'steps', 'eot') if k != axis
                    )
                    groups.setdefault(key, []).append(r)
            for group in groups.values():
                group.sort(key=lambda r: r[axis])
                for a, b in pairwise(group):
                    if b['score'] > a['score'] + slack(a):
                        step = [short(r[axis]) if axis == 'eps' else r[axis] for r in (a, b)]
                        found.append(
                            f'{_where(b)}: {b["score"]:.2f} % at {axis} {step[1]}, {a["score"]:.2f} % at {step[0]}'
                        )
        for r in rows:
            if blind(r):
                same = [o for o in rows if all(o[k] == r[k] for k in ('present', 'attacked', 'eps')) and not blind(o)]
                best = min((o['score'] for o in same), default=None)
                if best is not None and r['score'] < best - slack(r):
                    found.append(
                        f'{_where(r)} at eps {short(r["eps"])}: {r["score"]:.2f} %, with gradients {best:.2f} %'
                    )
        return found

    def table(self, title: str | None = None) -> Table:
        """For a terminal."""
        table = Table(title=title, title_justify='left')
        for name in ('present', 'attacked', 'attack'):
            table.add_column(name)
        for name in ('eps', 'steps', 'EOT', f'{self.metric} %', 'lost', 'samples'):
            table.add_column(name, justify='right')
        for r in self.rows:
            score = (
                '–'
                if r['score'] is None
                else f'{r["score"]:.2f}' + (f' ± {r["std"]:.2f}' if r['std'] is not None else '')
            )
            clean = self.clean(r)
            lost = '' if r['attack'] == CLEAN or None in (clean, r['score']) else f'{clean - r["score"]:.2f}'
            counts = ['' if r[k] is None else str(r[k]) for k in ('steps', 'eot')]
            names = ['+'.join(r['present']), '+'.join(r['attacked']) or '–', escape(r['name'])]
            table.add_row(*names, short(r['eps']) if r['eps'] else '', *counts, score, lost, str(r['samples']))
        return table


def attack_checkpoint(
    cfg: Config,
    path: str | Path,
    attacks: Sequence[str] = ('PGD',),
    eps: Sequence[float] = (4 / 255,),
    steps: Sequence[int] = (),
    attacked: str = 'all,each',
    eot: Sequence[int] | None = None,
    draws: int | None = None,
    bounds: Mapping[str, Any] | None = None,
    surrogate: tuple[str, str] | None = None,
    out: Path | None = None,
    device: str | None = None,
    trust: bool = False,
    batch_size: int | None = None,
    count: int | None = None,
    seed: int = 0,
) -> Robustness:
    """Attack a checkpoint on the test data of its config.

    Args:
        cfg: As `load_config` returns it. Subsets are those of ``test_cfg``.
        path: The checkpoint.
        attacks: See `plan`, as for the next three.
        eps: Strengths.
        steps: Of attacks that have some.
        attacked: What is perturbed.
        eot: Draws for each gradient; by default 1, where the attacked host draws at random 1 and 20.
        draws: Passes in which an attacked batch is scored; by default 1, of a host that draws at random 10.
        bounds: Modality to its range, on the scale of the data; those that are not named have (0, 255) where the data
            are 8-bit integers, else (0, 1). ``''`` stands for all.
        surrogate: Config and checkpoint of another host, on which attacks are crafted: a transfer attack.
        out: Where to write; the folder of the checkpoint when None.
        device: See `Runner`.
        trust: Unpickle anything from checkpoints.
        batch_size: That of the config when None.
        count: At most so many samples.
        seed: Of all draws.

    Raises:
        InputError: A config, a checkpoint or values that do not fit.
        NameNotFound: An unknown attack or modality.
    """
    for name, value in (('draws', draws), ('batch_size', batch_size), ('count', count)):
        if value is not None:
            check_count(name, value, 1)
    if under_torchrun():
        raise InputError('Attacks run in one process: start the tool without torchrun.')
    if not cfg.get('test_dataloader'):
        raise InputError('The config has no test_dataloader.')
    saved = ckpt.load(path, trust)
    target = pick_device(device)
    host = _load(cfg, saved, path).to(target)
    check_metric(host, cfg.test_evaluator, 'test_evaluator')
    crafter = host
    if surrogate:
        crafter = _load(load_config(surrogate[0]), ckpt.load(surrogate[1], trust), surrogate[1]).to(target)
        if lacking := [m for m in crafter.modalities if m not in host.modalities]:
            raise InputError(
                f'The surrogate has modalities that the host lacks: {", ".join(lacking)}. The host has '
                f'{", ".join(host.modalities)}.'
            )
    loader = cfg.test_dataloader if batch_size is None else {**cfg.test_dataloader, 'batch_size': batch_size}
    trained = saved.get('meta', {}).get('seed') or 0
    loader = build_dataloader(loader, False, trained, cuda=target.type == 'cuda', num_classes=_classes(host))
    check_dataset(host, loader.dataset.dataset, 'test_dataloader')
    random = draws_at_random(host)
    draws = draws or (DRAWS if random else 1)
    eot = eot or ([1, EOT] if draws_at_random(crafter) else [1])
    subsets = parse_subsets((cfg.get('test_cfg') or {}).get('subsets', 'all'), host.modalities)
    trials = plan(crafter.modalities if surrogate else host.modalities, subsets, attacks, eps, steps, attacked, eot)
    ranges = ranges_of(host, next(iter(loader)), bounds or {})
    for trial in trials:  # whatever is wrong with one is said before the first runs
        if attack := trial.build(ranges):
            attack.check_host(crafter)
    out = out or Path(path).parent
    make_writable(out)
    metric = build_metric(cfg.test_evaluator, host)
    run = {
        'config': Path(cfg.filename).name if cfg.filename else None,
        'checkpoint': Path(path).name,
        'weights': weights_digest(host),
        'surrogate': None
        if surrogate is None
        else {'checkpoint': Path(surrogate[1]).name, 'weights': weights_digest(crafter)},
        'data': json.loads(plain_config(cfg))['test_dataloader']['dataset'],
        'samples': count,
        'batch_size': loader.batch_size,
        'bounds': {m: list(b) if b else None for m, b in ranges.items()},
        'draws': draws,
        'random': random,
        'seed': seed,
        'settings': {**host.settings, **plugin_settings(host), **metric.settings},
    }
    result = Robustness(metric.name, host.modalities, run, higher_is_better=metric.higher_is_better)
    result.resume(out)
    todo = [t for t in trials if not result.has(t)]
    with progress_bar() as bar:
        task = bar.add_task('attacks', total=len(todo) * len(loader))
        for trial in todo:
            values = attempt(
                host, loader, cfg.test_evaluator, trial, ranges, draws, seed, count, crafter, lambda: bar.advance(task)
            )
            result.add(trial, values)
            result.save(out)
    result.save(out)
    result.save_tables(out)
    return result


def attempt(
    host: MultimodalHost,
    loader: DataLoader,
    metric: str | Mapping[str, Any],
    trial: Trial,
    bounds: Mapping[str, Any],
    draws: int = 1,
    seed: int = 0,
    count: int | None = None,
    crafter: MultimodalHost | None = None,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The row of one trial: what ran, its scores, and of how many samples.

    Args:
        host: Whose score it is.
        loader: Of the test data.
        metric: Name or config of a metric.
        trial: What to do.
        bounds: Modality to its range.
        draws: Passes in which each attacked batch is scored, with draws of their own.
        seed: Of all draws.
        count: At most so many samples.
        crafter: The host on which the attack is crafted; the same when None.
        advance: Called after each batch.
    """
    attack = trial.build(bounds)
    crafter = crafter or host
    classes = getattr(getattr(loader.dataset, 'dataset', None), 'classes', None) or ()
    metrics = [build_metric(metric, host, classes) for _ in range(draws)]
    mask = torch.tensor([m in trial.present for m in host.modalities])
    generator = torch.Generator().manual_seed(seed)
    samples = 0
    for data in _first(loader, count):
        batch = host.make_batch(**host.data_preprocessor(data, False)).view(host.modalities).restrict(mask)
        rows = batch.present.any(1)
        if rows.any():
            batch = batch if rows.all() else batch.select(rows)
            if attack:
                batch = _attacked_batch(attack, host, crafter, batch, generator)
            samples += len(batch)
            with host.aside(training=False), torch.no_grad():
                for m in metrics:
                    seed_device(int(torch.randint(2**62, (), generator=generator)), host.device)
                    with ExitStack() as stack:
                        for plugin in host.plugins.values() if draws > 1 else ():
                            stack.enter_context(plugin.fresh_draw())
                        m.update(host.postprocess(host.run(batch)), batch)
        advance()
    values = [{k: float(v) for k, v in m.compute().items() if not isinstance(v, Tensor) or not v.ndim} for m in metrics]
    scores = [v[metrics[0].name] for v in values]
    known = all(map(math.isfinite, scores))
    return {
        'name': attack.name + ''.join(trial.attack.partition('(')[1:]) if attack else CLEAN,
        'score': fmean(scores) if known else None,
        'std': pstdev(scores) if known and draws > 1 else None,
        'metrics': {k: _finite(fmean(v[k] for v in values)) for k in values[0]},
        'samples': samples,
    }


def _attacked_batch(
    attack: Attack, host: MultimodalHost, crafter: MultimodalHost, batch: Batch, generator: torch.Generator
) -> Batch:
    if crafter is host:
        return attack(host, batch, generator)
    own, other = host.data_preprocessor, crafter.data_preprocessor
    raw = {m: own.restore(m, x) for m, x in batch.inputs.items()}
    view = batch.replace(inputs={m: other.normalise(m, x) for m, x in raw.items()}).view(crafter.modalities)
    rows = view.present.any(1)
    if not rows.any():
        return batch
    found = attack(crafter, view.select(rows), generator)
    index = rows.nonzero().squeeze(1).to(batch.device)
    changed = {}
    for m, x in found.inputs.items():
        if m in attack.modalities:
            moved = own.standardise(m, other.restore(m, x)).to(batch.inputs[m].dtype)
            moved = batch.inputs[m].index_copy(0, index, moved)
            measured = own.measured(m, batch.inputs[m])
            changed[m] = moved if measured is None else moved.where(measured, batch.inputs[m])
    return batch.replace(inputs={**batch.inputs, **changed})


def _first(loader: DataLoader, count: int | None) -> Iterator[dict[str, Any]]:
    """The batches of the first samples."""
    left = math.inf if count is None else count
    for data in loader:
        size = len(data['present'])
        if size > left:
            data = _cut(data, int(left), size)
        yield data
        left -= size
        if left <= 0:
            return


def _cut(value: Any, length: int, size: int) -> Any:
    if isinstance(value, Mapping):
        return {k: _cut(v, length, size) for k, v in value.items()}
    return value[:length] if isinstance(value, (Tensor, list)) and len(value) == size else value


def draws_at_random(host: MultimodalHost) -> bool:
    """Whether a plugin or a layer of the host draws in eval mode too (``random``)."""
    return any(getattr(m, 'random', False) is True for m in host.modules())


def ranges_of(host: MultimodalHost, data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The range of each modality: as given, else by the type of the data.

    Raises:
        NameNotFound: A modality that the host does not have.
    """
    for m in given:
        if m and m not in host.modalities:
            raise unknown_name('modality (in bounds)', m, host.modalities)
    found = {}
    for m in host.modalities:
        eight_bits = m in data['inputs'] and data['inputs'][m].dtype == torch.uint8
        found[m] = given.get(m, given.get('', (0, 255) if eight_bits else (0, 1)))
    return found


def short(eps: float) -> str:
    """A strength as people write it.

    >>> short(4 / 255), short(0.1)
    ('4/255', '0.1')
    """
    whole = eps * 255
    return f'{round(whole)}/255' if eps and abs(whole - round(whole)) < 1e-6 else f'{eps:.4g}'


def parse_numbers(text: str, kind: Callable[[str], Any], flag: str) -> list[Any]:
    """Numbers with commas, fractions allowed.

    >>> parse_numbers('0,1/255', lambda t: float(Fraction(t)), '--eps')
    [0.0, 0.00392156862745098]

    Raises:
        InputError: Something else.
    """
    try:
        return [kind(item.strip()) for item in text.split(',')]
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f'{flag} takes numbers such as {"1,5,10" if kind is int else "0,4/255,0.1"}, got {text!r}.'
        ) from None


def parse_bounds(pairs: Sequence[str]) -> dict[str, tuple[float, float] | None]:
    """``['0,255', 'depth=0,10000', 'ir=none']`` -> modality, '' for all, to its range.

    Raises:
        InputError: Something else.
    """
    found: dict[str, tuple[float, float] | None] = {}
    for pair in pairs:
        name, _, text = pair.rpartition('=')
        if text.lower() == 'none':
            found[name] = None
            continue
        ends = parse_numbers(text, fraction, '--bounds')
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise InputError(f'--bounds takes LOW,HIGH or MODALITY=LOW,HIGH or none, got {pair!r}.')
        found[name] = (ends[0], ends[1])
    return found


def fraction(text: str) -> float:
    """``'4/255'`` and ``'0.1'`` as numbers."""
    return float(Fraction(text))


def _load(cfg: Config, saved: Mapping[str, Any], path: str | Path) -> MultimodalHost:
    keep_structural(cfg)
    check_config(cfg)
    host = build_host(cfg)
    ckpt.load_weights(host, saved, path)
    return host


def _classes(host: MultimodalHost) -> Any:
    return getattr(host, 'num_classes', None)


def _plain(trial: Trial) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(trial).items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _where(row: Mapping[str, Any]) -> str:
    return f'{row["name"]} on {"+".join(row["attacked"])} of {"+".join(row["present"])}'
