"""What a plugin adds to a training step: three ResNet-18 branches at 112x112, batch 64."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import zoo
from registry import PLUGINS
from zoo.engine import build_optim_wrapper
from zoo.host import Clock

from .timing import interleaved, waits

VARIANTS = {
    'plain': None,
    'MWAM': {'type': 'MWAM'},
    'OGM (no noise)': {'type': 'OGMGE', 'alpha': 0.3, 'noise': False},
    'OGM-GE': {'type': 'OGMGE', 'alpha': 0.3},
    'StaticWeights': {'type': 'StaticWeights', 'factors': {'rgb': 0.5}},
}


def measure(device: str = 'cpu', repeats: int | None = None) -> list[dict[str, Any]]:
    """Median step time of each plugin against the plain step, on the same host and data.

    Whole steps differ by several percent from one to the next on a CPU, so there the time inside the plugin's own
    points is measured too.

    On a GPU each step also runs once with every implicit synchronisation an error.
    """
    repeats = repeats or (15 if device == 'cpu' else 50)
    steps = TrainingSteps(device, VARIANTS)
    steps['noise alone'] = _noise(steps.host)
    rows = []
    timings = interleaved(dict(steps), device, repeats, 1 if device == 'cpu' else 10)
    plain = timings['plain']['ms']
    for name, timing in timings.items():
        row = {'step': name, **timing}
        if name in steps.inside:
            row['inside the plugin, ms'] = 1e3 * statistics.median(steps.inside[name])
            row['inside / plain'] = row['inside the plugin, ms'] / plain
        if device != 'cpu' and name in VARIANTS:
            row['host syncs'] = waits(steps[name])
        rows.append(row)
    return rows


class TrainingSteps(dict):
    """Name to a function that does one training step of one host with one plugin attached; others are taken off."""

    def __init__(self, device: str, variants: dict[str, dict | None], batch: int = 64, size: int = 112) -> None:
        super().__init__()
        self.inside: dict[str, list[float]] = {}  # seconds in the plugin's own points, of each step; on a CPU only
        modalities = ('rgb', 'depth', 'ir')
        torch.manual_seed(0)
        self.host = zoo.create_host('late_fusion', modalities=modalities, num_classes=2, encoder='resnet18').to(device)
        self.wrapper = build_optim_wrapper(self.host, {'optimizer': {'type': 'SGD', 'lr': 1e-3, 'momentum': 0.9}})
        self.data = {
            'inputs': {m: torch.randn(batch, 3, size, size, device=device) for m in modalities},
            'present': torch.ones(batch, 3, dtype=torch.bool),
            'target': torch.randint(2, (batch,), device=device),
        }
        for name, cfg in variants.items():
            plugin = None
            if cfg is not None:
                self.host.plug(PLUGINS.build(cfg))
                plugin = next(iter(self.host.plugins.values()))
                self.host.plugins.clear()
                if device == 'cpu':
                    self.inside[name] = []
                    watch(plugin, self.inside[name])
            self[name] = self._step(plugin)

    def _step(self, plugin: Any) -> Callable[[], None]:
        def step() -> None:
            self.host.plugins.clear()
            if plugin is not None:
                self.host.plugins[plugin.name] = plugin
            self.host.train()
            self.host.clock = Clock(iteration=self.host.clock.iteration + 1)
            losses = self.host(**self.data, mode='loss')
            self.wrapper.update_params(sum(losses.values()))

        return step


def watch(plugin: Any, steps: list[float]) -> None:
    """Note how long the points of a plugin take, summed over each step; ``on_gradients`` is the last."""
    total = 0.0

    def watched(point: Callable, last: bool) -> Callable:
        def call(*arguments: Any) -> Any:
            nonlocal total
            start = time.perf_counter()
            try:
                return point(*arguments)
            finally:
                total += time.perf_counter() - start
                if last:
                    steps.append(total)
                    total = 0.0

        return call

    for name in ('on_inputs', 'on_features', 'on_losses', 'on_gradients'):
        object.__setattr__(plugin, name, watched(getattr(plugin, name), name == 'on_gradients'))


def _noise(host: Any) -> Callable[[], None]:
    """The floor of OGM-GE: one normal draw for each weight of the branches."""
    weights = [p.detach() for m in host.modalities for p in host.branch(m) if p.ndim >= 2]

    def draw() -> None:
        for p in weights:
            torch.randn_like(p)

    return draw
