"""What distillation adds to a student's step and its teacher's forward pass: a ResNet-18 at 112x112 each, batch 64."""

import statistics
from collections.abc import Callable
from typing import Any

import torch

import zoo
from registry import PLUGINS
from zoo.engine import build_optim_wrapper

from .timing import rounds

METHODS = ('LogitKD', 'DIST', 'DKD', 'NKD', 'FitNet', 'PKD', 'OFD', 'AttentionFeatures', 'FDCMKD')
BATCH, SIZE, WIDTH = 64, 112, 512


def measure(device: str = 'cpu', repeats: int | None = None) -> list[dict[str, Any]]:
    """Median step of each method over the sum of the plain step and the teacher's pass, all of one round; and the
    mathematics of FD-CMKD alone, forward and backward, at the same width."""
    repeats = repeats or (7 if device == 'cpu' else 50)
    teacher = _host('depth', device).eval().requires_grad_(False)
    inputs = {m: torch.randn(BATCH, 3, SIZE, SIZE, device=device) for m in ('rgb', 'depth')}
    data = {
        'inputs': inputs,
        'present': torch.ones(BATCH, 2, dtype=torch.bool),
        'modalities': ('rgb', 'depth'),
        'target': torch.randint(6, (BATCH,), device=device),
    }
    batch = teacher.make_batch({'depth': inputs['depth']})

    @torch.no_grad()
    def teach() -> None:
        teacher.run(batch)

    routes = {'student alone': _step(None, teacher, data, device), 'teacher, forward': teach}
    routes.update({name: _step(name, teacher, data, device) for name in METHODS})
    routes['losses of FD-CMKD alone'] = _losses(device)
    seconds = rounds(routes, device, repeats, 1 if device == 'cpu' else 10)
    floor = [a + b for a, b in zip(seconds['student alone'], seconds['teacher, forward'])]
    rows = []
    for name, values in seconds.items():
        row = {'step': name, 'ms': 1e3 * statistics.median(values)}
        if name in METHODS or 'alone' in name:
            row['over student + teacher'] = statistics.median(v / f for v, f in zip(values, floor))
        rows.append(row)
    return rows


def _host(modality: str, device: str) -> Any:
    torch.manual_seed(0)
    return zoo.create_host('late_fusion', modalities=[modality], num_classes=6, encoder='resnet18').to(device)


def _step(name: str | None, teacher: Any, data: dict[str, Any], device: str) -> Callable[[], None]:
    host = _host('rgb', device)
    if name:
        host.plug(PLUGINS.build({'type': name, 'teacher': teacher, 'student_modality': 'rgb'}))
    wrapper = build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 1e-3, 'momentum': 0.9}})
    host.train()

    def step() -> None:
        wrapper.update_params(sum(host(**data, mode='loss').values()))

    return step


def _losses(device: str) -> Callable[[], None]:
    from plugins.fd_cmkd import high_frequency_loss, low_frequency_loss

    student = torch.randn(BATCH, WIDTH, device=device, requires_grad=True)
    teacher = torch.randn(BATCH, WIDTH, device=device)

    def run() -> None:
        (low_frequency_loss(student, teacher) + high_frequency_loss(student, teacher)).backward()

    return run
