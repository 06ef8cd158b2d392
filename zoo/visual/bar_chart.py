"""Horizontal bars with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Bar(NamedTuple):
    """One bar, None where there is no value."""

    name: str
    value: float | None
    low: float | None = None  # of its interval
    high: float | None = None
    note: str = ''  # behind it


def write_bars(bars: Sequence[Bar], xlabel: str, path: Path) -> None:
    """Write `draw_bars` as a picture."""
    draw_bars(bars, xlabel).savefig(path, dpi=120)


def draw_bars(bars: Sequence[Bar], xlabel: str) -> Any:
    """A figure of matplotlib, the first bar on top.

    Args:
        bars: At least one.
        xlabel: Name of the horizontal axis.
    """
    from matplotlib.figure import Figure  # not pyplot, which would choose a window system

    figure = Figure(figsize=(6.5, 0.45 * len(bars) + 1.2), layout='constrained')
    axes = figure.add_subplot()
    for y, bar in enumerate(bars):
        value = bar.value or 0.0
        axes.barh(y, value, color='C0', height=0.6)
        if bar.low is not None:
            axes.errorbar(value, y, xerr=[[value - bar.low], [bar.high - value]], color='black', capsize=3)
        note = bar.note if bar.value is not None else 'no sample'
        axes.annotate(f'  {note}', (max(value, bar.high or 0.0), y), va='center', fontsize='small', parse_math=False)
    names = axes.set_yticks(range(len(bars)), [b.name for b in bars])
    for tick in names:
        tick.label1.set_parse_math(False)
    axes.set(xlabel=xlabel, xlim=(0, 1.25 * max([b.high or b.value or 0.0 for b in bars]) or 1.0))
    axes.invert_yaxis()
    return figure
