"""Timing by turns: medians of interleaved rounds, so that a change of the machine's pace hits all alike."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(
    routes: Mapping[str, Callable[[], object]], device: str, repeats: int, warm_up: int = 2
) -> dict[str, dict]:
    """Median milliseconds of each route, and its median ratio to the first within a round.

    Args:
        routes: Name to what is timed; the first is what the others are compared with.
        device: A GPU is timed by CUDA events, a CPU by the clock.
        repeats: Rounds; every other one runs in reverse order.
        warm_up: Rounds before.
    """
    seconds: dict[str, list[float]] = {name: [] for name in routes}
    for i in range(warm_up + repeats):
        order = list(routes.items())
        for name, route in reversed(order) if i % 2 else order:
            elapsed = _time(route, device)
            if i >= warm_up:
                seconds[name].append(elapsed)
    first = seconds[next(iter(routes))]
    return {
        name: {'ms': 1e3 * statistics.median(s), 'ratio': statistics.median(a / b for a, b in zip(s, first))}
        for name, s in seconds.items()
    }


def _time(route: Callable[[], object], device: str) -> float:
    if device == 'cpu':
        start = time.perf_counter()
        route()
        return time.perf_counter() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    route()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3
