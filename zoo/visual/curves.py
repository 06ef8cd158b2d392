"""Precision-recall curves of several subsets of the modalities, as a table and as a picture."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.metrics import Curves

COLUMNS = 4  # panels in a row
MOST = 12  # classes with a panel of their own
MEAN = 'mean'


class NamedCurves(NamedTuple):
    """Curves with the names of their classes, in plain numbers."""

    recall: list[float]  # (R,), 0..1
    precision: dict[str, list[float]]  # class to (R,), 0..1; without the classes that have none
    mean: list[float]  # (R,), over these classes


def named_curves(curves: Curves, classes: Sequence[str]) -> NamedCurves:
    """The curves of a metric with the names of its K classes."""
    precision = {c: p.tolist() for c, p in zip(classes, curves.precision) if not p.isnan().any()}
    return NamedCurves(curves.recall.tolist(), precision, curves.precision.nanmean(0).tolist())


def write_curves(curves: Mapping[str, NamedCurves], folder: Path) -> Path:
    """Write ``pr_curves.csv``, one line for each class and recall, and ``pr_curves.png``.

    The picture has a panel for the mean over the classes and, of up to 12 classes, one for each.

    Args:
        curves: Names of subsets to their curves, at the same recalls; at least one.
        folder: Where to.

    Returns:
        The picture.
    """
    recall = next(iter(curves.values())).recall
    classes = list(dict.fromkeys(name for c in curves.values() for name in c.precision))
    none = [math.nan] * len(recall)
    panels = {name: {s: c.precision.get(name, none) for s, c in curves.items()} for name in classes}
    mean = {s: c.mean for s, c in curves.items()}
    with (folder / 'pr_curves.csv').open('w', encoding='utf8', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['class', 'recall', *curves])
        for name, lines in ((MEAN, mean), *panels.items()):
            for r, *values in zip(recall, *lines.values()):
                writer.writerow([name, f'{r:.2f}', *('' if math.isnan(v) else f'{v:.4f}' for v in values)])
    shown = [('mean over the classes', mean), *(panels.items() if len(classes) <= MOST else ())]
    picture = folder / 'pr_curves.png'
    draw_curves(recall, shown).savefig(picture, dpi=120)
    return picture


def draw_curves(recall: Sequence[float], panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]]) -> Any:
    """A figure of matplotlib.

    Args:
        recall: (R,).
        panels: Titles, and names of subsets (the same in each panel) to precisions (R,), NaN where there are none.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # not pyplot, which would choose a window system

    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(5.0, 3.2 * columns), 3.2 * rows + 0.8), layout='constrained')
    subsets = list(panels[0][1])
    colours = colormaps['tab10' if len(subsets) <= 10 else 'tab20'].colors
    for i, (title, lines) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        for j, values in enumerate(lines.values()):
            axes.plot(recall, values, color=colours[j % len(colours)], linewidth=1.5)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel='recall', ylabel='precision')
        axes.set_title(title, fontsize='medium', parse_math=False)
        axes.grid(alpha=0.3)
    figure.legend(figure.axes[0].lines, subsets, loc='outside lower center', ncols=min(len(subsets), columns + 1))
    return figure
