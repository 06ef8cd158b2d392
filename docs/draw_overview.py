"""Draw docs/images/overview.png: scenes of the test bench, the road of a batch, and what the baseline scores.

The bars are the row "baseline" of results/classification.yaml; when it changes: python docs/draw_overview.py
"""

from pathlib import Path
from statistics import fmean

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from zoo.datasets import DigitScenes
from zoo.engine.grid import Grid, interval

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {'rgb': '#d55e00', 'depth': '#0072b2', 'ir': '#009e73'}  # Okabe and Ito
INK, PALE, PLUGIN = '#22272e', '#dfe3e8', '#8e4585'
SHOWN = (16, 24, 30, 11, 21)  # the digit of the rgb sensor is clear in the first and all but gone in the last
ROAD = (
    ('batch', 'inputs, present', ('on_inputs', 'mask, drop')),
    ('encode', 'one per modality', ('on_features', 'normalise')),
    ('fuse', 'what is present', None),
    ('decode', 'prediction', None),
    ('losses', 'of the task', ('on_losses', 'reweight, add')),
    ('backward', 'gradients', ('on_gradients', 'scale branches')),
    ('step', 'optimiser', None),
)


def main() -> None:
    """Draw and write."""
    matplotlib.use('Agg')
    matplotlib.rcParams.update({'font.family': 'DejaVu Sans', 'text.color': INK, 'axes.edgecolor': INK})
    figure = Figure(figsize=(13, 7.4), facecolor='white')
    title(figure, 0.042, 0.955, 'The road of a batch', 'and the points at which plugins act, in training only')
    draw_road(figure.add_axes((0.02, 0.635, 0.96, 0.27)))
    title(figure, 0.042, 0.57, 'Five scenes, three sensors', 'DigitScenes, the embedded test bench')
    draw_scenes(figure, left=0.093, top=0.51, side=0.0865)
    title(figure, 0.545, 0.57, 'What is left without some of them', 'late fusion trained on all three, no plugin')
    draw_bars(figure, (0.6, 0.19, 0.37, 0.29), (0.6, 0.025, 0.37, 0.145))
    figure.savefig(ROOT / 'docs' / 'images' / 'overview.png', dpi=125)


def title(figure: Figure, x: float, y: float, text: str, below: str) -> None:
    """A heading and a line below it."""
    figure.text(x, y, text, fontsize=14, fontweight='bold', va='center')
    figure.text(x, y - 0.034, below, fontsize=10.5, color='#59636e', va='center')


def draw_road(axes: Axes) -> None:
    """The stations of a batch, and between them the points at which plugins act."""
    axes.set(xlim=(0, len(ROAD) * 2), ylim=(0.1, 2.5))
    axes.axis('off')
    for i, (name, below, point) in enumerate(ROAD):
        x = 2 * i + 0.33
        style = 'round,pad=0.02,rounding_size=0.12'
        axes.add_patch(FancyBboxPatch((x, 1.55), 1.34, 0.85, boxstyle=style, facecolor='#f3f5f7', edgecolor=PALE))
        axes.text(x + 0.67, 2.1, name, ha='center', va='center', fontsize=12.5, fontweight='bold')
        axes.text(x + 0.67, 1.79, below, ha='center', va='center', fontsize=9, color='#59636e')
        if i + 1 < len(ROAD):
            arrow = {'arrowstyle': '-|>', 'color': INK, 'lw': 1.3, 'shrinkA': 0, 'shrinkB': 0}
            axes.annotate('', (x + 1.95, 1.975), (x + 1.4, 1.975), arrowprops=arrow)
        if point:
            draw_point(axes, x + 1.67, *point)


def draw_point(axes: Axes, x: float, name: str, does: str) -> None:
    """A point at which plugins act, below the arrow at ``x``."""
    axes.plot([x, x], [1.0, 1.9], color=PLUGIN, lw=1.4, ls=(0, (2, 1.5)))
    axes.plot(x, 1.975, 'o', color=PLUGIN, ms=7, mec='white', mew=1.2, zorder=3)
    style = 'round,pad=0.02,rounding_size=0.12'
    box = FancyBboxPatch((x - 0.82, 0.18), 1.64, 0.8, boxstyle=style, facecolor='#f7eef6', edgecolor=PLUGIN, lw=1.1)
    axes.add_patch(box)
    axes.text(x, 0.7, name, ha='center', va='center', fontsize=10.5, family='DejaVu Sans Mono', color=PLUGIN)
    axes.text(x, 0.4, does, ha='center', va='center', fontsize=9, color='#59636e')


def draw_scenes(figure: Figure, left: float, top: float, side: float) -> None:
    """One row of square pictures for each sensor; ``side`` is a share of the figure's width."""
    scenes = DigitScenes('test', size=96)
    high = side * figure.get_figwidth() / figure.get_figheight()
    for row, modality in enumerate(scenes.modalities):
        y = top - (row + 1) * high
        label = {'fontsize': 12, 'fontweight': 'bold', 'color': COLOURS[modality]}
        figure.text(left - 0.008, y + high / 2, modality, ha='right', va='center', **label)
        for column, index in enumerate(SHOWN):
            axes = figure.add_axes((left + column * side, y, 0.96 * side, 0.96 * high))
            x = scenes[index]['inputs'][modality]
            axes.imshow(x.permute(1, 2, 0).squeeze(2), cmap='gray', interpolation='bicubic')
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)


def draw_bars(figure: Figure, above: tuple, below: tuple) -> None:
    """The score of each subset with its interval, and which sensors are in it."""
    grid = Grid.load(ROOT / 'results' / 'classification.yaml')
    runs = grid.read('baseline')
    subsets = [tuple(s['modalities']) for s in runs[0]['sweep']['subsets']]
    scores = [[run['sweep']['subsets'][i]['score'] for run in runs] for i in range(len(subsets))]
    axes, dots = figure.add_axes(above), figure.add_axes(below)
    for i, (subset, values) in enumerate(zip(subsets, scores)):
        mean, half = interval(values)
        axes.bar(i, mean, width=0.62, color=COLOURS[subset[0]] if len(subset) == 1 else '#7d8894', zorder=2)
        axes.errorbar(i, mean, half, color=INK, lw=1.2, capsize=3, zorder=3)
        axes.text(i, 2, f'{mean:.0f}', ha='center', va='bottom', fontsize=10.5, color='white', fontweight='bold')
        if len(subset) == 1:  # what the same encoder reaches when it is trained on this sensor alone
            alone = fmean(run['sweep']['subsets'][0]['score'] for run in grid.read(f'{subset[0]} alone'))
            axes.plot([i - 0.42, i + 0.42], [alone, alone], color=INK, lw=2.2, solid_capstyle='butt', zorder=4)
    style_bars(axes, len(subsets), len(runs))
    draw_dots(dots, subsets)


def style_bars(axes: Axes, count: int, seeds: int) -> None:
    """Axes of the bars."""
    axes.set(xlim=(-0.6, count - 0.4), ylim=(0, 108), xticks=[], yticks=[0, 25, 50, 75, 100])
    axes.set_ylabel('accuracy %', fontsize=10)
    axes.grid(axis='y', color=PALE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.tick_params(length=0, labelsize=9.5)
    axes.plot([-0.45, -0.1], [116, 116], color=INK, lw=2.2, solid_capstyle='butt', clip_on=False)
    note = {'fontsize': 9, 'color': '#59636e', 'va': 'center'}
    axes.text(0, 116, 'trained on that sensor alone', **note)
    axes.text(count - 0.4, 116, f'mean and 95 % interval of {seeds} seeds', ha='right', **note)


def draw_dots(axes: Axes, subsets: list[tuple[str, ...]]) -> None:
    """A matrix of dots: filled where a sensor is in the subset."""
    names = list(COLOURS)
    axes.set(xlim=(-0.6, len(subsets) - 0.4), ylim=(len(names) - 0.4, -0.6))
    axes.axis('off')
    for i, subset in enumerate(subsets):
        rows = [names.index(m) for m in subset]
        axes.plot([i, i], [min(rows), max(rows)], color='#7d8894', lw=2, zorder=1)
        for row, m in enumerate(names):
            axes.plot(i, row, 'o', ms=12, color=COLOURS[m] if m in subset else PALE, mec='white', zorder=2)
    for row, m in enumerate(names):
        axes.text(-0.72, row, m, ha='right', va='center', fontsize=11, color=COLOURS[m], fontweight='bold')


if __name__ == '__main__':
    main()
