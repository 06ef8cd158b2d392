"""Scores under attack: the file that keeps them, tables, curves, and what speaks against them."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from registry import InputError
from zoo.visual import Line, write_lines

from . import checkpoint as ckpt
from .sweep import Subset, one_line
from .trial import CLEAN, Trial, short


@dataclass
class Robustness:
    """Scores under attack.

    Attributes:
        metric: Name of the score.
        modalities: Those of the host.
        run: What all rows share: checkpoint, data, seed, draws.
        rows: For each `Trial` its values, ``name`` (what ran, with arguments), ``score``, ``std`` over the draws (None
            for one), ``metrics``, ``samples``.
        higher_is_better: Of the score.
        unit: Of the score; '' for none.
    """

    metric: str
    modalities: Subset
    run: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    higher_is_better: bool = True
    unit: str = '%'

    @property
    def heading(self) -> str:
        """The score and its unit."""
        return f'{self.metric} {self.unit}'.rstrip()

    def add(self, trial: Trial, values: Mapping[str, Any]) -> None:
        """A row more."""
        self.rows.append({**trial.plain(), **values})

    def has(self, trial: Trial) -> bool:
        """Whether a trial has its row."""
        wanted = trial.plain()
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
            write_lines(panels, self.heading, folder / 'robustness.png')

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

        def shown(score: float) -> str:
            return f'{score:.2f} {self.unit}'.rstrip()

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
                            f'{_where(b)}: {shown(b["score"])} at {axis} {step[1]}, {shown(a["score"])} at {step[0]}'
                        )
        for r in rows:
            if blind(r):
                same = [o for o in rows if all(o[k] == r[k] for k in ('present', 'attacked', 'eps')) and not blind(o)]
                best = min((o['score'] for o in same), default=None)
                if best is not None and r['score'] < best - slack(r):
                    found.append(
                        f'{_where(r)} at eps {short(r["eps"])}: {shown(r["score"])}, with gradients {shown(best)}'
                    )
        return found

    def table(self, title: str | None = None) -> Table:
        """For a terminal; in 80 columns names take several lines, and numbers stay whole."""
        counts = {k: name for k, name in (('steps', 'steps'), ('eot', 'EOT')) if any(r[k] for r in self.rows)}
        samples = {r['samples'] for r in self.rows}
        table = Table(
            title=one_line(title), title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
        )
        for name in ('present', 'attacked', 'attack'):
            table.add_column(name, overflow='fold')
        own = ['samples'] if len(samples) > 1 else []
        for name in ('eps', *counts.values(), self.heading.replace(' ', '\n'), 'lost', *own):
            table.add_column(name, justify='right', no_wrap=True)
        if len(samples) == 1:
            table.caption, table.caption_justify = f'{samples.pop()} samples each', 'left'
        for r in self.rows:
            score = (
                '–'
                if r['score'] is None
                else f'{r["score"]:.2f}' + (f' ± {r["std"]:.2f}' if r['std'] is not None else '')
            )
            clean = self.clean(r)
            lost = '' if r['attack'] == CLEAN or None in (clean, r['score']) else f'{clean - r["score"]:.2f}'
            numbers = ['' if r[k] is None else str(r[k]) for k in counts]
            # lines break at spaces
            names = [' + '.join(r['present']), ' + '.join(r['attacked']) or '–', escape(r['name']).replace('(', ' (')]
            table.add_row(*names, short(r['eps']) if r['eps'] else '', *numbers, score, lost, *[str(r[k]) for k in own])
        return table


def _where(row: Mapping[str, Any]) -> str:
    return f'{row["name"]} on {"+".join(row["attacked"])} of {"+".join(row["present"])}'
