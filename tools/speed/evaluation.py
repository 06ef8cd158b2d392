"""The sweep over 7 subsets against one complete evaluation; selecting present rows against encoding all."""

from functools import partial
from typing import Any

import torch

import zoo
from zoo.engine import sweep

from .timing import interleaved

MODALITIES = ('rgb', 'depth', 'ir')


def measure_sweep(device: str = 'cpu', repeats: int = 7) -> list[dict[str, Any]]:
    """Three ResNet-18 branches at 112x112, on a GPU in batches eight times as large: time over all subsets,
    over that of the complete one alone."""
    host = _host(device)
    batches = [_batch(32 if device == 'cpu' else 256, device) for _ in range(2)]
    routes = {
        'complete set': lambda: sweep(host, batches, 'Accuracy', 'full'),
        '7 subsets': lambda: sweep(host, batches, 'Accuracy', 'all'),
    }
    return [{'evaluation': name, **timing} for name, timing in interleaved(routes, device, repeats).items()]


def measure_rows(device: str = 'cpu', repeats: int | None = None) -> list[dict[str, Any]]:
    """Forward and backward at 0, 40 and 70 % absent, on a GPU of 512 samples: present rows selected, over all rows
    encoded."""
    size = 32 if device == 'cpu' else 512
    rows = []
    for absent in (0.0, 0.4, 0.7):
        data = _batch(size, device)
        data['present'] = torch.rand(size, 3, generator=torch.Generator().manual_seed(1)) >= absent
        data['present'][:, 0] |= ~data['present'].any(1)
        routes = {}
        for way in ('dense', 'present'):
            host = _host(device, encode_on=way).train()
            routes[way] = partial(_backward, host, data)
        timing = interleaved(routes, device, repeats or (5 if device == 'cpu' else 30))
        rows.append({'absent': f'{absent:.0%}', 'dense ms': timing['dense']['ms'], **timing['present']})
    return rows


def _backward(host: Any, data: dict[str, Any]) -> None:
    sum(host(**data, mode='loss').values()).backward()


def _host(device: str, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return zoo.create_host('late_fusion', modalities=MODALITIES, num_classes=10, **arguments).to(device)


def _batch(size: int, device: str) -> dict[str, Any]:
    return {
        'inputs': {m: torch.randn(size, 3, 112, 112, device=device) for m in MODALITIES},
        'present': torch.ones(size, 3, dtype=torch.bool),
        'target': torch.randint(10, (size,), device=device),
        'modalities': MODALITIES,
    }
