"""Scores over something that grows: lines in panels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

COLUMNS = 3


class Line(NamedTuple):
    """A line with the spread of its points."""

    x: list[float]
    y: list[float]
    spread: list[float]


Panels = Mapping[tuple[str, str], Mapping[str, Line]]


def write_lines(panels: Panels, ylabel: str, path: Path) -> None:
    """Write `draw_lines` as a picture."""
    draw_lines(panels, ylabel).savefig(path, dpi=120)


def draw_lines(panels: Panels, ylabel: str) -> Any:
    """A figure of matplotlib.

    Args:
        panels: (Title, name of the horizontal axis) to lines by name; at least one.
        ylabel: Name of the vertical axis, the same in all.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # not pyplot, which would choose a window system

    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(5.0, 4.0 * columns), 3.4 * rows + 0.9), layout='constrained')
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    colours = colormaps['tab10' if len(names) <= 10 else 'tab20'].colors
    shown = {}
    for i, ((title, axis), lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        for name, line in lines.items():
            colour = colours[names.index(name) % len(colours)]
            shown[name] = axes.errorbar(line.x, line.y, line.spread, color=colour, linewidth=1.5, marker='.', capsize=2)
        axes.set(xlabel=axis, ylabel=ylabel)
        axes.set_ylim(bottom=0)
        axes.set_title(title, fontsize='medium', parse_math=False)
        axes.grid(alpha=0.3)
    figure.legend(shown.values(), shown.keys(), loc='outside lower center', ncols=min(len(names), columns + 1))
    return figure
