"""The runner against a bare PyTorch loop: the same host, data, optimiser and steps."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from zoo.engine import Runner, load_config

CONFIG = Path(__file__).parents[2] / 'configs' / 'late_fusion' / 'r18_digitscenes.py'


def measure(device: str = 'cpu', repeats: int = 3) -> list[dict[str, Any]]:
    """Seconds for one epoch of 75 steps, by turns; the runner's without checkpoints and validation, which the bare loop
    does not have."""
    seconds: dict[str, list[float]] = {'bare loop': [], 'runner': []}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(repeats):
            runner = _runner(f'{folder}/{i}', device)
            seconds['bare loop'].append(_bare_epoch(runner))
            start = time.perf_counter()
            runner.train()
            _wait(device)
            seconds['runner'].append(time.perf_counter() - start)
    first = seconds['bare loop']
    return [
        {'loop': name, 'ms': 1e3 * median(s), 'ratio': median(a / b for a, b in zip(s, first))}
        for name, s in seconds.items()
    ]


def _runner(folder: str, device: str) -> Runner:
    options = {'train_cfg.max_epochs': 1, 'log_level': 'ERROR', 'default_hooks.checkpoint.interval': 1000}
    cfg = load_config(CONFIG, options=options)
    for key in ('val_dataloader', 'val_evaluator', 'test_dataloader', 'test_evaluator'):
        cfg.pop(key)
    return Runner(cfg, folder, device)


def _bare_epoch(runner: Runner) -> float:
    """The loop that one would write by hand, on the runner's own parts."""
    host, loader = runner.host.train(), runner.train_dataloader
    optimizer = torch.optim.SGD(host.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    loader.sampler.set_position(0)
    start = time.perf_counter()
    for data in loader:
        data = host.data_preprocessor(data, True)
        features = [host.encoders[m](data['inputs'][m]) for m in host.modalities]
        loss = torch.nn.functional.cross_entropy(host.head(torch.cat(features, 1)), data['target'])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _wait(host.device.type)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()
