"""Look at the frequencies of a config's training data, as MWAM sees them.

Writes to the output folder
    spectra.png     the mean spectrum of each modality, and its profile from low to high frequencies
    filtered.png    example pictures, filtered (`zoo.datasets.transforms.frequency_filter`)
    ratio.png       the frequency ratio per batch, and MWAM's weights as they would follow it in the first epoch
    frequency.json  the same ratio in numbers

Example: python tools/frequency.py configs/late_fusion/r18_digitscenes.py --kind fft_low fft_high --sizes 7 15
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from registry import HOSTS, InputError
from zoo.batch import Batch
from zoo.datasets.transforms import FrequencyFilter, frequency_filter
from zoo.datasets.transforms.frequency_filter import KINDS
from zoo.engine import build_dataloader, command, load_config, parse_options
from zoo.engine.checkpoint import write_text
from zoo.engine.cost import without_weights
from zoo.engine.devices import pick_device
from zoo.engine.evaluate import check_dataset, make_writable
from zoo.engine.progress import track
from zoo.host import MultimodalHost

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER = (15 / 112, 30 / 112)  # the windows of the MWAM paper (App. A.5) as shares of the side
FLOOR = 1e-6  # of a magnitude: exactly flat pictures have no logarithm
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')  # Okabe and Ito
GOLDEN = (math.sqrt(5) - 1) / 2
INCH = 1.3  # side of a picture
DPI = 140


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a Python config')
    parser.add_argument('--kind', nargs='+', default=KINDS, metavar='KIND', help=f'filters: {", ".join(KINDS)}; all')
    parser.add_argument(
        '--sizes', nargs='+', type=int, metavar='N', help='of the filters in pixels; by default those of the paper'
    )
    parser.add_argument('--samples', type=int, help='stop after this many samples (whole batches); all by default')
    parser.add_argument('--examples', type=int, default=2, help='pictures for each modality (2)')
    parser.add_argument('--out', type=Path, help='where to write; work_dirs/<config>/frequency by default')
    parser.add_argument('--device', help='cpu, cuda, cuda:1; the best there is by default')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change single values of the config'
    )
    return parser.parse_args()


@command
def main() -> None:
    """Parse, measure, draw."""
    import plugins  # noqa: F401  registers them

    args = parse_args()
    for name, value in (('--samples', args.samples), ('--examples', args.examples)):
        if value is not None and value < 1:
            raise InputError(f'{name} must be at least 1, got {value}.')
    every = args.kind is KINDS  # nobody asked for the blur, which takes odd sizes only: the next one will do
    filters = [
        FrequencyFilter(size | 1 if every and kind == 'blur_low' else size, kind)  # checks both
        for kind in args.kind
        for size in args.sizes or [1]
    ]
    device = pick_device(args.device)
    cfg = load_config(args.config, options=parse_options(args.cfg_options))
    host, loader = build(cfg, device)
    out = args.out or Path('work_dirs') / Path(args.config).stem / 'frequency'
    make_writable(out)

    examples = take_examples(host, loader, args.examples)
    filters = filters if args.sizes else default_filters(args.kind, examples)
    title = Path(args.config).stem
    draw_filtered(examples, filters, title).savefig(out / 'filtered.png', dpi=DPI)
    survey = measure(host, loader, args.samples)
    draw_spectra(survey, filters, title).savefig(out / 'spectra.png', dpi=DPI)
    draw_ratio(survey, title).savefig(out / 'ratio.png', dpi=DPI)
    summary = summarise(survey)
    about = {'config': args.config, 'seed': seed_of(cfg), 'samples': survey.samples, 'mwam': survey.arguments}
    write_text(out / 'frequency.json', json.dumps({**about, 'modalities': summary}, indent=2) + '\n')
    console = Console()
    console.print(summary_table(summary, survey))
    console.print(f'Wrote spectra.png, filtered.png, ratio.png and frequency.json to {out}.', highlight=False)


def build(cfg: Config, device: torch.device) -> tuple[MultimodalHost, DataLoader]:
    """The host, for its preprocessor, without pretrained weights, and the training data in the order of training."""
    for part in ('model', 'train_dataloader'):
        if not cfg.get(part):
            raise InputError(f'The config has no {part}.')
    host = HOSTS.build(without_weights(cfg.model)).to(device)
    loader = build_dataloader(cfg.train_dataloader, True, seed_of(cfg), cuda=device.type == 'cuda')
    check_dataset(host, loader.dataset.dataset, 'train_dataloader')
    return host, loader


def seed_of(cfg: Config) -> int:
    """The seed that orders the training data."""
    return cfg.get('randomness', {}).get('seed', 0)


# ---- measuring


@dataclass(frozen=True)
class Examples:
    """Some samples before the preprocessor.

    Attributes:
        pictures: Modality to planes (N, C, H, W); one that the batch does not carry is left out.
        present: Modality to (N,) whether the sample has it.
        blue_first: Whether pictures with three channels are BGR.
    """

    pictures: dict[str, Tensor]
    present: dict[str, list[bool]]
    blue_first: bool


@dataclass(frozen=True)
class Survey:
    """What was seen of the training data.

    Attributes:
        modalities: Those of the host.
        samples: How many.
        arguments: Those of MWAM.
        steps: For each batch and modality the frequency ratio F, its share T and the weight K: {key: (steps, M)}, NaN
            where the batch has no sample of a modality.
        spectra: Modality to its mean `log_spectrum` (H, W).
    """

    modalities: tuple[str, ...]
    samples: int
    arguments: Mapping[str, Any]
    steps: dict[str, Tensor]
    spectra: dict[str, Tensor]


def take_examples(host: MultimodalHost, loader: DataLoader, count: int) -> Examples:
    """The most complete samples of the first batch, each class once before any comes again."""
    data = next(iter(loader))
    batch = host.make_batch(**data).view(host.modalities)
    target = batch.target
    labels = target.tolist() if isinstance(target, Tensor) and target.ndim == 1 else [0] * len(batch)
    repeats = [labels[:i].count(label) for i, label in enumerate(labels)]
    missing = (~batch.present).sum(1).tolist()
    rows = torch.tensor(sorted(range(len(batch)), key=lambda i: (missing[i], repeats[i]))[:count])
    return Examples(
        pictures={m: planes(x[rows]) for m, x in batch.inputs.items()},
        present=dict(zip(host.modalities, batch.present[rows].T.tolist())),
        blue_first=getattr(loader.dataset.dataset, 'channel_order', 'rgb') == 'bgr',
    )


@torch.no_grad()
def measure(host: MultimodalHost, loader: DataLoader, samples: int | None) -> Survey:
    """One epoch of the training data through the preprocessor and MWAM with its default arguments; nothing is trained.

    Args:
        host: On its device.
        loader: Of the training data.
        samples: Stop once this many have been seen; None for all.

    Raises:
        InputError: An input without frequencies, word indices for instance.
    """
    from plugins import MWAM

    mwam = MWAM()
    mwam.min_modalities = 1  # a single modality has a ratio too; its weight is 1
    host.plug(mwam)
    optimizer = torch.optim.SGD(host.parameters(), lr=0.0)  # never stepped: MWAM asks which kind it is
    steps: dict[str, list[Tensor]] = {key: [] for key in 'FTK'}
    sums: dict[str, tuple[Tensor, int]] = {}
    seen = 0
    for data in track(loader, 'training data'):
        batch = host.make_batch(**host.data_preprocessor(data, True)).view(host.modalities)
        for m, x in batch.inputs.items():
            if not x.is_floating_point():
                raise InputError(f'{m} has no frequencies: its values are {x.dtype}.')
        before = mwam.updates.clone()
        mwam.on_inputs(host, batch)
        mwam.on_gradients(host, optimizer)
        for key, values in steps.items():
            values.append(mwam.logged[key][1].masked_fill(mwam.updates == before, math.nan))
        add_spectra(sums, batch)
        seen += len(batch)
        if samples is not None and seen >= samples:
            break
    return Survey(
        modalities=host.modalities,
        samples=seen,
        arguments=mwam.arguments,
        steps={key: torch.stack(values).double().cpu() for key, values in steps.items()},
        spectra={m: (total / count).cpu() for m, (total, count) in sums.items()},
    )


def planes(x: Tensor) -> Tensor:
    """(B, C, H, W): images as they are, the middle slice of volumes (B, C, D, H, W), sequences (B, T, F) with C = 1."""
    if x.ndim == 5:
        return x[:, :, x.shape[2] // 2]
    return x[:, None] if x.ndim == 3 else x


def add_spectra(spectra: dict[str, tuple[Tensor, int]], batch: Batch) -> None:
    """Add the spectra of a batch to their sums; pictures of another size than the first ones are left out."""
    for m, rows in zip(batch.modalities, batch.present.unbind(1)):
        if not rows.any():
            continue
        found = log_spectrum(batch.inputs[m][rows.to(batch.device)]).double().sum(0)
        total, count = spectra.get(m, (torch.zeros_like(found), 0))
        if total.shape == found.shape:
            spectra[m] = (total + found, count + int(rows.sum()))


def log_spectrum(x: Tensor) -> Tensor:
    """log10 of the magnitude of the orthonormal 2-D Fourier transform, zero frequency at (H // 2, W // 2), meaned over
    channels and slices.

    Args:
        x: Images (B, C, H, W), volumes (B, C, D, H, W) slice by slice, or sequences (B, T, F) as one plane each.

    Returns:
        (B, H, W).
    """
    x = x[:, None] if x.ndim == 3 else x
    magnitude = torch.fft.fftshift(torch.fft.fft2(x, norm='ortho').abs(), dim=(-2, -1))
    return magnitude.clamp(min=FLOOR).log10().flatten(1, -3).mean(1)


def profile(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of a shifted spectrum (H, W) over rings: their radius in cycles per pixel, up to 0.5, and their values."""
    height, width = spectrum.shape
    fy = torch.fft.fftshift(torch.fft.fftfreq(height))
    fx = torch.fft.fftshift(torch.fft.fftfreq(width))
    rings = max(2, min(height, width) // 2)
    ring = ((fy[:, None] ** 2 + fx**2).sqrt() * 2 * rings).round().long().flatten()
    inside = ring <= rings
    sums = torch.zeros(rings + 1, dtype=spectrum.dtype).index_add_(0, ring[inside], spectrum.flatten()[inside])
    counts = torch.bincount(ring[inside], minlength=rings + 1)
    used = counts > 0
    return (torch.arange(rings + 1) / (2 * rings))[used], (sums / counts)[used]


def summarise(survey: Survey) -> dict[str, dict[str, float | int | None]]:
    """For each modality mean, median and coefficient of variation of the ratio per batch, and the means of T and K."""
    summary = {}
    for i, m in enumerate(survey.modalities):
        ratio, share, weight = (kept(survey.steps[key][:, i]) for key in 'FTK')
        mean = statistics.fmean(ratio) if ratio else None
        summary[m] = {
            'mean': mean,
            'median': statistics.median(ratio) if ratio else None,
            'cv': statistics.stdev(ratio) / mean if len(ratio) > 1 and mean else None,
            'mean_T': statistics.fmean(share) if share else None,
            'mean_K': statistics.fmean(weight) if weight else None,
            'batches': len(ratio),
        }
    return summary


def kept(column: Tensor) -> list[float]:
    """The finite values of a column."""
    return column[column.isfinite()].tolist()


def summary_table(summary: Mapping[str, Mapping[str, float | None]], survey: Survey) -> Table:
    """For a terminal."""
    table = Table(title=f'Frequency ratio per batch, {survey.samples} training samples', title_justify='left')
    table.add_column('modality')
    for name in ('mean', 'median', 'CV', 'mean T', 'mean K'):
        table.add_column(name, justify='right')
    for m, row in summary.items():
        large = ['–' if row[key] is None else f'{row[key]:.3g}' for key in ('mean', 'median')]
        table.add_row(m, *large, *('–' if row[k] is None else f'{row[k]:.3f}' for k in ('cv', 'mean_T', 'mean_K')))
    table.caption = f'{summary[survey.modalities[0]]["batches"]} batches; K is the weight that MWAM would give'
    table.caption_justify = 'left'
    return table


# ---- drawing


def default_filters(kinds: Sequence[str], examples: Examples) -> list[FrequencyFilter]:
    """The windows of the paper, scaled to the smallest picture; kernels of a blur are odd."""
    side = min(min(x.shape[-2:]) for x in examples.pictures.values())
    sizes = [max(1, round(side * share)) for share in PAPER]
    return [FrequencyFilter(n | 1 if kind == 'blur_low' else n, kind) for kind in kinds for n in sizes]


def draw_filtered(examples: Examples, filters: Sequence[FrequencyFilter], title: str) -> 'Figure':
    """One row for each sample and modality: the picture, then what each filter leaves of it.

    Low frequencies are drawn on the scale of the picture; high ones around grey, each stretched to its own largest
    value.

    Raises:
        InputError: A filter does not fit the pictures.
    """
    from matplotlib.figure import Figure

    names = list(examples.present)
    count = len(examples.present[names[0]])
    tall = max((x.shape[-2] / x.shape[-1] for x in examples.pictures.values()), default=1)
    width, height = INCH * (1 + len(filters)) + 0.5, INCH * tall * len(names) * count + 0.8
    figure = Figure(figsize=(max(width, 4), height), layout='constrained')
    figure.suptitle(f'{title}: filtered training samples')
    axes = figure.subplots(len(names) * count, 1 + len(filters), squeeze=False)
    for i in range(count):
        for row, m in zip(axes[i * len(names) :], names):
            draw_row(row, examples.pictures[m][i] if examples.present[m][i] else None, filters, examples.blue_first)
            row[0].set_ylabel(f'{m}\nsample {i + 1}')
    for ax, name in zip(axes[0], ['original', *(f'{f.kind} {f.size}' for f in filters)]):
        ax.set_title(name, fontsize='medium')
    return figure


def draw_row(axes: Sequence['Axes'], x: Tensor | None, filters: Sequence[FrequencyFilter], blue_first: bool) -> None:
    """A picture (C, H, W) and its filtered versions, or empty places where there is none."""
    for ax in axes:
        ax.set(xticks=[], yticks=[])
    if x is None:
        axes[0].text(0.5, 0.5, 'absent', ha='center', va='center', transform=axes[0].transAxes)
        return
    low, high = (0.0, 255.0) if x.dtype == torch.uint8 else (float(x.min()), float(x.max()))
    show(axes[0], (x.float() - low) / max(high - low, FLOOR), blue_first)
    for ax, f in zip(axes[1:], filters):
        y = frequency_filter(x, f.size, f.kind)
        if f.kind == 'fft_high':
            y = 0.5 + y / (2 * y.abs().amax().clamp(min=FLOOR))
        else:
            y = (y - low) / max(high - low, FLOOR)
        show(ax, y, blue_first)


def show(ax: 'Axes', x: Tensor, blue_first: bool) -> None:
    """A picture (C, H, W) with values in 0..1: three channels in colour, any other number as their mean."""
    if len(x) == 3:
        ax.imshow((x.flip(0) if blue_first else x).clamp(0, 1).movedim(0, -1).numpy())
    else:
        ax.imshow(x.mean(0).clamp(0, 1).numpy(), cmap='gray', vmin=0, vmax=1)


def draw_spectra(survey: Survey, filters: Sequence[FrequencyFilter], title: str) -> 'Figure':
    """The mean spectra on one colour scale, with the windows of the filters, and their profiles."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    columns = min(len(survey.spectra), 4)
    rows = math.ceil(len(survey.spectra) / columns)
    figure = Figure(figsize=(max(4.8, 2.6 * columns + 0.9), 2.7 * rows + 3.2), layout='constrained')
    figure.suptitle(f'{title}: mean spectra of {survey.samples} training samples')
    above, below = figure.subfigures(2, 1, height_ratios=[2.7 * rows, 2.8])
    axes = above.subplots(rows, columns, squeeze=False).flatten()
    low = min(float(x.min()) for x in survey.spectra.values())
    high = max(float(x.max()) for x in survey.spectra.values())
    ticks = (-0.5, -0.25, 0, 0.25)
    sizes = sorted({f.size for f in filters if f.kind != 'blur_low'})
    for ax, (m, x) in zip(axes, survey.spectra.items()):
        height, width = x.shape
        half_x, half_y = 0.5 / width, 0.5 / height  # of a pixel: frequencies stand at pixel centres, 0 at side // 2
        left, top = -(width // 2) / width - half_x, -(height // 2) / height - half_y
        image = ax.imshow(x.numpy(), extent=(left, left + 1, top + 1, top), vmin=low, vmax=high, cmap='magma')
        for n in sizes:
            corner = max(left, -(n // 2) / width - half_x), max(top, -(n // 2) / height - half_y)
            sides = min(n / width, 1), min(n / height, 1)
            ax.add_patch(Rectangle(corner, *sides, fill=False, linestyle='--', linewidth=0.8, edgecolor='w'))
        ax.set(title=f'{m} ({height}x{width})', xticks=ticks, yticks=ticks)
    for ax in axes[len(survey.spectra) :]:
        ax.set_visible(False)
    axes[0].set(xlabel='cycles per pixel', ylabel='cycles per pixel')
    above.colorbar(image, ax=list(axes), label='mean log10 magnitude')
    ax = below.subplots()
    for (m, x), style in zip(survey.spectra.items(), styles()):
        ax.plot(*(v.numpy() for v in profile(x)), label=m, **style)
    ax.set(
        xlabel='frequency (cycles per pixel), mean over all directions', ylabel='mean log10 magnitude', xlim=(0, 0.5)
    )
    ax.grid(alpha=0.3)
    ax.legend()
    if sizes:
        above.supxlabel(
            f'dashed: windows of the filters, {", ".join(map(str, sizes))} pixels of the spectrum', fontsize='small'
        )
    return figure


def draw_ratio(survey: Survey, title: str) -> 'Figure':
    """The distribution of the ratio over batches, and the shares and weights that follow it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 4.2), layout='constrained')
    figure.suptitle(
        f'{title}: frequency ratio of {survey.samples} training samples in {len(survey.steps["F"])} batches'
    )
    spread, share, weight = figure.subplots(1, 3)
    positive = True
    for i, style in zip(range(len(survey.modalities)), styles()):
        values = kept(survey.steps['F'][:, i])
        positive = positive and min(values, default=1) > 0
        offsets = [i + 0.6 * (k * GOLDEN % 1 - 0.5) for k in range(len(values))]  # scattered evenly, without chance
        spread.plot(offsets, values, '.', color=style['color'], alpha=0.45, markersize=5)
        if values:
            spread.hlines(statistics.median(values), i - 0.38, i + 0.38, color='k', linewidth=1.5, zorder=3)
    spread.set(title='Ratio F of each batch (line: median)', ylabel='mean over all terms')
    spread.set_xticks(range(len(survey.modalities)), survey.modalities, rotation=30 * (len(survey.modalities) > 5))
    spread.set_yscale('log' if positive else 'symlog')
    for ax, key, name in ((share, 'T', 'Share T = running F / mean over modalities'), (weight, 'K', 'Weight K')):
        for column, m, style in zip(survey.steps[key].T, survey.modalities, styles()):
            values = kept(column)
            label = f'{m} {statistics.fmean(values):.3f}' if values else f'{m}: never present'
            ax.plot(range(1, len(column) + 1), column.numpy(), marker='.', markersize=3, label=label, **style)
            if values:
                ax.axhline(statistics.fmean(values), color=style['color'], linestyle=':', linewidth=1.2)
        ax.set(title=name, xlabel='step (batch)')
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(
            title='mean (dotted)',
            fontsize='small',
            ncols=3,
            columnspacing=1,
            loc='upper center',
            bbox_to_anchor=(0.5, -0.16),
        )
    a = survey.arguments
    weight.set_ylim(a['alpha'] - a['beta'] - 0.05, a['alpha'] + 0.05)
    for ax in (spread, share, weight):
        ax.grid(alpha=0.3)
    return figure


def styles() -> Iterator[dict[str, Any]]:
    """A colour for each modality; where there are more of these, also another kind of line."""
    return ({'color': c, 'linestyle': line, 'linewidth': 1.2} for line in cycle(('-', '--', '-.')) for c in COLOURS)


if __name__ == '__main__':
    main()
