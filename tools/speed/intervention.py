"""What interventions add to a training step: three ResNet-18 branches at 64x64, batch 32."""

import statistics
from collections.abc import Callable
from typing import Any

import torch

import zoo
from plugins import Intervention
from plugins.masks import complementary_masks
from zoo.engine import build_optim_wrapper

from .timing import rounds

MODALITIES = ('rgb', 'depth', 'ir')
BATCH, SIZE = 32, 64


def measure(device: str = 'cpu', repeats: int | None = None) -> list[dict[str, Any]]:
    """Median step with more and more variants over that of the passes that the variants would take on any host, all of
    one round: the step without the plugin for each with a gradient, a forward pass for each without; and the masks
    alone."""
    repeats = repeats or (9 if device == 'cpu' else 50)
    steps = {
        'without': (_step(device, None), 1, 0),
        '2 masked': (_step(device, {'necessity': 'none'}), 3, 0),
        '2 masked, 1 taken away': (_step(device, {'dropped': 1}), 3, 1),
        '2 masked, 3 taken away': (_step(device, {}), 3, 3),
        '2 masked, 3 taken away, 3 alone': (_step(device, {'alone': True}), 3, 6),
        '2 masked, 3 taken away, pull': (_step(device, {'necessity': 'pull'}), 6, 0),
    }
    host, data = _host(device), _data(device)
    batch = host.make_batch(**data)

    @torch.no_grad()
    def forward() -> None:
        host.run(batch)

    generator = torch.Generator(device).manual_seed(0)
    routes = {name: step for name, (step, *_) in steps.items()}
    routes['forward pass'] = forward
    routes['complementary masks'] = lambda: complementary_masks(BATCH, 3, (SIZE, SIZE), generator=generator)
    seconds = rounds(routes, device, repeats, 1 if device == 'cpu' else 10)
    rows = []
    for name, values in seconds.items():
        row = {'step': name, 'ms': 1e3 * statistics.median(values)}
        if name in steps:
            _, trained, free = steps[name]
            passes = zip(values, seconds['without'], seconds['forward pass'])
            row |= {
                'passes': trained + free,
                'over its passes': statistics.median(v / (trained * step + free * one) for v, step, one in passes),
            }
        rows.append(row)
    return rows


def _host(device: str) -> Any:
    torch.manual_seed(0)
    host = zoo.create_host('late_fusion', modalities=MODALITIES, num_classes=6, encoder='resnet18')
    return host.to(device).train()


def _data(device: str) -> dict[str, Any]:
    return {
        'inputs': {m: torch.randn(BATCH, 3, SIZE, SIZE, device=device) for m in MODALITIES},
        'target': torch.randint(6, (BATCH,), device=device),
    }


def _step(device: str, arguments: dict[str, Any] | None) -> Callable[[], None]:
    host, data = _host(device), _data(device)
    if arguments is not None:
        host.plug(Intervention(block=8, **arguments)).train()
    wrapper = build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 1e-3, 'momentum': 0.9}})

    def step() -> None:
        host.clock.iteration += 1
        wrapper.update_params(sum(host(**data, mode='loss').values()))

    return step
