"""The modality sweep: how a host holds up on every subset of its modalities."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.utils.data import DataLoader

from registry import METRICS, InputError, unknown_name
from zoo.host import MultimodalHost
from zoo.metrics import Metric, all_reduce_sum, performance_collapse_rate
from zoo.visual import NamedCurves, named_curves, write_curves

from .checkpoint import write_text
from .progress import track

Subset = tuple[str, ...]


def parse_subsets(wanted: str | Sequence[str], modalities: Sequence[str]) -> list[Subset]:
    """Subsets by name: ``'all'`` non-empty ones (small ones first), ``'full'``, or a list like ``'rgb+depth,ir'``.

    >>> parse_subsets('all', ['rgb', 'depth'])
    [('rgb',), ('depth',), ('rgb', 'depth')]
    >>> parse_subsets('depth+rgb', ['rgb', 'depth'])
    [('rgb', 'depth')]

    Raises:
        NameNotFound: A modality that the host does not have.
    """
    if wanted == 'all':
        return [s for size in range(1, len(modalities) + 1) for s in combinations(modalities, size)]
    subsets = []
    for item in wanted.split(',') if isinstance(wanted, str) else wanted:
        names = tuple(modalities) if item.strip() == 'full' else tuple(n.strip() for n in item.split('+'))
        for name in names:
            if name not in modalities:
                raise unknown_name('modality (in subsets)', name, [*modalities, 'all', 'full'])
        subsets.append(tuple(m for m in modalities if m in names))
    return list(dict.fromkeys(subsets))


@dataclass
class Sweep:
    """The result of a sweep: scores, and how they collapse.

    Attributes:
        metric: Name of the score.
        modalities: Those of the host, in order.
        rows: For each subset ``{'modalities', 'score', 'pcr', 'samples', 'metrics'}``. ``pcr`` is None for the complete
            subset, and where it is undefined: without a complete score, or with one that is not positive. A metric with
            scores of single classes adds ``'per_class'``: ``{score: {class: value or None}}``.
        higher_is_better: Of the score.
        meta: What else goes to the file: plugins, config, checkpoint, seed.
        also: Further scalars of ``'metrics'`` that tables show.
        units: Of the scores that are not in percent.
        settings: What the scores depend on, from the host and the metric.
        curves: The names of subsets, such as ``'rgb+depth'``, to their curves, where the metric has some.
    """

    metric: str
    modalities: Subset
    rows: list[dict[str, Any]]
    higher_is_better: bool = True
    meta: dict[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, NamedCurves] = field(default_factory=dict)

    @property
    def complete(self) -> dict[str, Any] | None:
        """The row of the complete subset, where it was asked for."""
        return next((r for r in self.rows if len(r['modalities']) == len(self.modalities)), None)

    @property
    def full(self) -> float | None:
        """The score of the complete subset, where it was asked for."""
        return self.complete and self.complete['score']

    @property
    def average(self) -> dict[str, float | None]:
        """Means over all subsets that were scored, and over the incomplete ones (MWAM paper: the score's average takes
        all rows, that of the PCR the incomplete ones)."""
        incomplete = [r for r in self.rows if len(r['modalities']) < len(self.modalities)]
        return {
            'score_all': _mean(r['score'] for r in self.rows),
            'score_incomplete': _mean(r['score'] for r in incomplete),
            'pcr_incomplete': _mean(r['pcr'] for r in incomplete),
        }

    def unit(self, name: str) -> str:
        """What follows a score, or its name, in a table: ``' %'``, another unit or nothing."""
        return f' {self.units.get(name, "%")}'.rstrip()

    def numbers(self) -> dict[str, float]:
        """Flat numbers for a log and for model selection."""
        values = {self.metric: self.full} if self.full is not None else {}
        values.update({k: self.complete['metrics'][k] for k in self.also if values})
        if len(self.rows) > 1:
            values.update({k: v for k, v in self.average.items() if v is not None})
            values.update({'+'.join(r['modalities']): r['score'] for r in self.rows if r['score'] is not None})
        return values

    def to_dict(self) -> dict[str, Any]:
        """What ``modality_sweep.json`` holds."""
        return {
            'metric': self.metric,
            'modalities': list(self.modalities),
            'subsets': [{**r, 'modalities': list(r['modalities'])} for r in self.rows],
            'average': self.average,
            **({'settings': self.settings} if self.settings else {}),
            **self.meta,
        }

    def save(self, folder: Path) -> None:
        """Write ``modality_sweep.json`` and ``modality_sweep.csv``, with scores of classes also ``per_class.csv``, with
        curves ``pr_curves.csv`` and ``pr_curves.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / 'modality_sweep.json', json.dumps(self.to_dict(), indent=2) + '\n')
        text = io.StringIO()
        writer = csv.writer(text, lineterminator='\n')
        writer.writerow([*self.modalities, self.metric, *self.also, 'pcr', 'samples'])
        for r in self.rows:
            numbers = map(_cell, (r['score'], *(r['metrics'][k] for k in self.also), r['pcr']))
            writer.writerow([*(int(m in r['modalities']) for m in self.modalities), *numbers, r['samples']])
        write_text(folder / 'modality_sweep.csv', text.getvalue())
        if scores := self.per_class:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator='\n')
            writer.writerow(['score', 'class', *('+'.join(r['modalities']) for r in self.rows)])
            for score, classes in scores.items():
                for name, values in classes.items():
                    writer.writerow([score, name, *map(_cell, values)])
            write_text(folder / 'per_class.csv', text.getvalue())
        if self.curves:
            write_curves(self.curves, folder)

    @property
    def per_class(self) -> dict[str, dict[str, list[float | None]]]:
        """Score to class to its values in the order of ``rows``; empty where the metric has no scores of classes."""
        scores = self.rows[0].get('per_class', {})
        return {s: {c: [r['per_class'][s][c] for r in self.rows] for c in classes} for s, classes in scores.items()}

    def table(self, title: str | None = None) -> Table:
        """For a terminal: one row for each subset, averages below."""
        table = Table(title=one_line(title), title_justify='left')
        for m in self.modalities:
            table.add_column(m, justify='center')
        for name in (*(f'{k}{self.unit(k)}' for k in (self.metric, *self.also)), 'PCR %', 'samples'):
            table.add_column(name, justify='right')
        for r in self.rows:
            marks = ['●' if m in r['modalities'] else '·' for m in self.modalities]
            complete = len(r['modalities']) == len(self.modalities)
            numbers = map(_text, (r['score'], *(r['metrics'][k] for k in self.also), r['pcr']))
            table.add_row(*marks, *numbers, str(r['samples']), style='bold' if complete else None)
        if len(self.rows) > 1:
            average, unit = self.average, self.unit(self.metric)
            table.caption = f'average over all {len(self.rows)} subsets {_text(average["score_all"])}{unit}'
            if average['score_incomplete'] is not None:
                score, pcr = _text(average['score_incomplete']), _text(average['pcr_incomplete'])
                table.caption += f'\nover the incomplete ones {score}{unit}, PCR {pcr} %'
            table.caption_justify = 'left'
        return table

    def class_table(self, title: str | None = None) -> Table | None:
        """For a terminal: one row for each class, one column for each subset, of the metric's first score of classes;
        None where it has none."""
        if not (scores := self.per_class):
            return None
        score, classes = next(iter(scores.items()))
        table = Table(title=one_line(title), title_justify='left')
        table.add_column(f'{score} %')
        for r in self.rows:
            complete = len(r['modalities']) == len(self.modalities)
            table.add_column('\n+'.join(r['modalities']), justify='right', style='bold' if complete else None)
        for name, values in classes.items():
            table.add_row(escape(name), *map(_text, values))
        if any(None in values for values in classes.values()):
            table.caption = '– not in the labels'
            table.caption_justify = 'left'
        return table


def sweep(
    host: MultimodalHost,
    loader: DataLoader,
    metric: str | Mapping[str, Any],
    subsets: str | Sequence[str] = 'all',
    title: str | None = None,
) -> Sweep:
    """Score a host on subsets of its modalities; independent encoders run once for each batch.

    A sample that has nothing left in a subset is skipped there; ``samples`` counts the others.

    Args:
        host: In any mode; it is put back into it.
        loader: Of the evaluation data.
        metric: Name or config of a metric.
        subsets: See `parse_subsets`.
        title: Of the progress bar; None shows none.
    """
    names = parse_subsets(subsets, host.modalities)
    masks = torch.tensor([[m in s for m in host.modalities] for s in names])
    classes = getattr(getattr(getattr(loader, 'dataset', None), 'dataset', None), 'classes', None) or ()
    metrics = [build_metric(metric, host, classes) for _ in names]
    counts = torch.zeros(len(names), dtype=torch.float64)
    with host.aside(training=False), torch.inference_mode():
        for data in track(loader, title):
            batch = host.make_batch(**host.data_preprocessor(data, False)).view(host.modalities)
            results = host.run_subsets(batch, masks)
            for i in range(len(masks)):
                outputs = next(results)  # `enumerate` and `zip` would hold it until they have the next one
                rows = (batch.present & masks[i]).any(1)
                counts[i] += rows.sum()
                if outputs is not None:
                    metrics[i].update(host.postprocess(outputs), batch if rows.all() else batch.select(rows))
                del outputs  # and so would this name: one subset's logits are enough in memory
    counts = all_reduce_sum(counts.to(host.device)).tolist()
    values = [{k: _plain(v) for k, v in m.compute().items()} for m in metrics]
    result = _collect(metrics, host.modalities, names, values, counts, classes)
    result.settings = {**host.settings, **plugin_settings(host), **metrics[0].settings}
    return result


def plugin_settings(host: MultimodalHost) -> dict[str, Any]:
    """What results depend on of the plugins that act in them."""
    return {p.name: p.settings for p in host.plugins.values() if p.structural and p.settings}


def build_metric(metric: str | Mapping[str, Any], host: MultimodalHost, classes: Sequence[str] = ()) -> Metric:
    """A metric on the host's device; if it asks for the number of classes (its ``num_classes`` is None) it gets that of
    the data set's ``classes``, else the host's. One that reads inputs (it has ``restore``) gets what takes them back to
    the data's own units."""
    built = METRICS.build(metric).to(host.device)
    if getattr(built, 'num_classes', 0) is None:
        built.num_classes = len(classes) or getattr(host, 'num_classes', None)
    if hasattr(built, 'restore'):
        built.restore = host.data_preprocessor.restore
    return built


def class_labels(classes: Sequence[str], count: int) -> list[str]:
    """The names of the classes, or numbers where there are not ``count`` different ones."""
    return list(classes) if len(set(classes)) == count else [str(i) for i in range(count)]


def _collect(
    metrics: Sequence[Metric],
    modalities: Subset,
    names: list[Subset],
    values: list[dict[str, float | list[float]]],
    counts: list[float],
    classes: Sequence[str],
) -> Sweep:
    rows, metric = [], metrics[0]
    length = max((len(v) for value in values for v in value.values() if isinstance(v, list)), default=0)
    labels = class_labels(classes, length)
    for name, value, count in zip(names, values, counts):
        if not isinstance(value.get(metric.name), float):
            raise InputError(f'{type(metric).__name__} computed {sorted(value)}, but its name is {metric.name!r}.')
        scalars = {k: _finite(v) for k, v in value.items() if not isinstance(v, list)}
        row = {'modalities': name, 'score': scalars[metric.name], 'pcr': None, 'samples': int(count)}
        row['metrics'] = scalars
        if length:  # a subset may have seen fewer classes, or no sample and no class at all
            vectors = {k: v + [math.nan] * (length - len(v)) for k, v in value.items() if isinstance(v, list)}
            row['per_class'] = {k: dict(zip(labels, map(_finite, v))) for k, v in vectors.items()}
        rows.append(row)
    result = Sweep(metric.name, modalities, rows, metric.higher_is_better, also=metric.also, units=metric.units)
    result.curves = {'+'.join(s): named_curves(c, labels) for s, m in zip(names, metrics) if (c := m.curves())}
    if result.full is not None and result.full > 0 and metric.higher_is_better:
        for r in rows:
            if len(r['modalities']) < len(modalities) and r['score'] is not None:
                r['pcr'] = float(performance_collapse_rate(result.full, r['score']))
    return result


def one_line(title: str | None) -> Text | None:
    """A title that is not broken where its table is narrower, amid the name of a file."""
    return None if title is None else Text(title, no_wrap=True, overflow='ignore')


def _plain(value: float | Tensor) -> float | list[float]:
    return value.cpu().double().tolist() if isinstance(value, Tensor) else float(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _text(value: float | None) -> str:
    return '–' if value is None else f'{value:.2f}'


def _cell(value: float | None) -> str:
    return '' if value is None else f'{value:.4f}'
