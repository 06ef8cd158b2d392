"""What predictions on a data set lean on, as figures, a table and a chart."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from scipy.special import stdtrit
from torch import Tensor

from zoo.engine.checkpoint import write_text
from zoo.visual import Bar, write_bars

COLUMNS = ('change', 'mean', 'low', 'high', 'most', 'samples')


@dataclass
class Explanation:
    """How far predictions move.

    Attributes:
        rows: For each change its mean movement, the 95 % interval of this mean, the share of samples that lean on the
            modality most, and how many samples count: ``{'change', 'mean', 'low', 'high', 'most', 'samples'}``. None
            where there is no such figure.
        run: What it was measured on, and how: config, checkpoint, seed.
        pictures: For each picture ``{'name', 'lost', 'largest'}``: what is lost without each modality, and the largest
            value of its regions.
    """

    rows: list[dict[str, Any]]
    run: dict[str, Any]
    pictures: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, found: Mapping[str, Tensor], modalities: Sequence[str], run: dict[str, Any]) -> 'Explanation':
        """Sum up what `movements` returns, over all samples."""
        without = [f'without {m}' for m in modalities]
        most = dict(zip(without, leaning(torch.stack([found[c] for c in without]))))
        return cls([{'change': c, **interval(x), 'most': most.get(c)} for c, x in found.items()], run)

    def save(self, folder: Path) -> None:
        """Write ``explanation.json``, ``explanation.csv`` and ``explanation.png``."""
        content = {'run': self.run, 'rows': self.rows, 'pictures': self.pictures}
        write_text(folder / 'explanation.json', json.dumps(content, indent=2) + '\n')
        text = io.StringIO()
        writer = csv.writer(text, lineterminator='\n')
        writer.writerow(COLUMNS)
        writer.writerows([_cell(row[c]) for c in COLUMNS] for row in self.rows)
        write_text(folder / 'explanation.csv', text.getvalue())
        notes = ['' if r['most'] is None else f'most for {_percent(r["most"])}' for r in self.rows]
        bars = [Bar(r['change'], r['mean'], r['low'], r['high'], note) for r, note in zip(self.rows, notes)]
        write_bars(bars, 'how far predictions move (mean, 95 % interval)', folder / 'explanation.png')

    def table(self, title: str | None = None) -> Table:
        """For a terminal: one row for each change."""
        table = Table(title=title, title_justify='left')
        table.add_column('change')
        for name in ('moves by', '95 % interval', 'most', 'samples'):
            table.add_column(name, justify='right')
        for r in self.rows:
            spread = '–' if r['low'] is None else f'{r["low"]:.3g} .. {r["high"]:.3g}'
            mean = '–' if r['mean'] is None else f'{r["mean"]:.3g}'
            table.add_row(r['change'], mean, spread, _percent(r['most']), str(r['samples']))
        return table


def interval(x: Tensor) -> dict[str, float | int | None]:
    """The mean of what is not NaN, its 95 % interval by Student's t, not below 0, and how many there are.

    >>> {k: round(v, 3) for k, v in interval(torch.tensor([1.0, torch.nan, 2.0, 3.0])).items()}
    {'mean': 2.0, 'low': 0.0, 'high': 4.484, 'samples': 3}
    """
    x = x[~x.isnan()].double()
    n = len(x)
    mean = float(x.mean()) if n else None
    if n < 2:
        return {'mean': mean, 'low': None, 'high': None, 'samples': n}
    half = float(stdtrit(n - 1, 0.975) * x.std() / math.sqrt(n))
    return {'mean': mean, 'low': max(0.0, mean - half), 'high': mean + half, 'samples': n}


def leaning(lost: Tensor) -> list[float | None]:
    """Of each modality the share of the samples that lose most without it, of those that have it and another one.

    A sample that loses nothing leans on none; of equal ones the first counts.

    >>> leaning(torch.tensor([[0.3, 0.1, torch.nan, 0.0, 0.5], [0.2, 0.4, torch.nan, 0.0, 0.1]]))
    [0.5, 0.25]

    Args:
        lost: (M, N), NaN where a sample does not count.
    """
    counts = ~lost.isnan()
    known = lost.masked_fill(~counts, -1)
    top = known.argmax(0)
    leans = known.amax(0) > 0
    numbers = counts.sum(1).tolist()
    return [int(((top == i) & leans).sum()) / n if n else None for i, n in enumerate(numbers)]


def _cell(value: Any) -> Any:
    return '' if value is None else f'{value:.6g}' if isinstance(value, float) else value


def _percent(share: float | None) -> str:
    return '–' if share is None else f'{100 * share:.0f} %'
