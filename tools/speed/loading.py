"""Whether loading NYUv2 keeps up with training on it."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.engine import build_dataloader

from .segmentation import CLASSES, NETWORKS, SIZE, TrainingStep, build_host


def measure(device: str = 'cpu', epochs: int | None = None, size: tuple[int, int] = SIZE) -> list[dict[str, Any]]:
    """Train ESANet R34-NBt1D from PNG files, in batches of 4 with the augmentation of the published recipe.

    The files are synthetic: smooth shapes of all scales with some noise, so that they compress about as photographs
    do. The first batch of an epoch, for which workers begin from nothing, counts nowhere.

    Args:
        device: Where the host trains.
        epochs: Of 6 batches, timed, for each number of workers.
        size: Height and width of the images.

    Returns:
        One row for each number of workers: milliseconds per sample of the ``loader alone``, of a training ``step``
        (copies and normalisation included) on data that are there, and the share of a training loop's time in which it
        was ``waiting`` for data.
    """
    epochs = epochs or (1 if device == 'cpu' else 5)
    host = build_host(NETWORKS['ESANet R34-NBt1D']).to(device)
    step = TrainingStep(host, {})
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_samples(Path(folder), 24, size)
        for workers in (0, 2) if device == 'cpu' else (0, 2, 8):
            dataset = {'type': 'NYUv2', 'root': folder, 'split': 'train', 'size': size}
            cfg = {'dataset': dataset, 'batch_size': 4, 'num_workers': workers}
            loader = build_dataloader(cfg, training=True, cuda=device != 'cpu')
            data = next(iter(loader))
            _train(step, data, device)
            alone = [seconds for _ in range(epochs) for seconds, _ in _timed(loader)]
            waits, steps = [], []
            for _ in range(epochs):
                for wait, data in _timed(loader):
                    waits.append(wait)
                    steps.append(_train(step, data, device))
            rows.append(
                {
                    'workers': workers,
                    'loader alone, ms / sample': 1e3 * sum(alone) / len(alone) / 4,
                    'step, ms / sample': 1e3 * median(steps) / 4,
                    'waiting': f'{sum(waits) / (sum(waits) + sum(steps)):.1%}',
                }
            )
    return rows


def _timed(loader: DataLoader) -> Iterator[tuple[float, dict[str, Any]]]:
    """Each batch but the first with the seconds that it took to arrive."""
    batches = iter(loader)
    next(batches)
    for _ in range(len(loader) - 1):
        start = time.perf_counter()
        data = next(batches)
        yield time.perf_counter() - start, data


def _train(step: TrainingStep, data: dict[str, Any], device: str) -> float:
    start = time.perf_counter()
    data = step.host.data_preprocessor(data, True)
    step.batch = {k: data[k] for k in ('inputs', 'present', 'target')}
    step()
    if device != 'cpu':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def write_samples(root: Path, count: int, size: tuple[int, int] = SIZE) -> None:
    """Scenes of height and width ``size`` in NYUv2's layout, as a training split.

    Args:
        root: An empty folder.
        count: Number of scenes.
        size: Height and width.
    """
    generator = torch.Generator().manual_seed(0)
    names = [f'{i:04d}' for i in range(count)]
    for name in names:
        rgb = 110 + 60 * clouds(3, size, generator) + 2 * torch.randn(3, *size, generator=generator)
        depth = 3000 + 900 * clouds(1, size, generator)[0]
        labels = clouds(CLASSES + 1, size, generator, finest=40).argmax(0)
        planes = {
            'rgb': rgb.clamp(0, 255).byte().permute(1, 2, 0).numpy(),
            'depth': depth.clamp(500, 10000).numpy().astype(np.uint16),
            f'labels_{CLASSES}': labels.byte().numpy(),
        }
        for folder, pixels in planes.items():
            file = root / 'train' / folder / f'{name}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    (root / 'train.txt').write_text('\n'.join(names) + '\n')


def clouds(channels: int, size: tuple[int, int], generator: torch.Generator, finest: int = 2) -> Tensor:
    """Smooth noise of mean 0 and variance about 1, the finer the fainter, as in photographs.

    Args:
        channels: C.
        size: Height and width.
        generator: Of the noise.
        finest: Pixels between the points of the finest noise; each scale is twice the one before.

    Returns:
        (C, H, W).
    """
    total, cell, power = torch.zeros(channels, *size), finest, 0.0
    while cell < max(size):
        grid = torch.randn(1, channels, *[-(-s // cell) + 1 for s in size], generator=generator)
        weight = cell / max(size)
        total += weight * F.interpolate(grid, size, mode='bilinear', align_corners=True)[0]
        power += weight**2
        cell *= 2
    return total / power**0.5
