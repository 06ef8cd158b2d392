"""Timing by turns: each route beside the one it is compared with, so that a change of pace hits both alike."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(
    routes: Mapping[str, Callable[[], object]], device: str, repeats: int, warm_up: int = 1
) -> dict[str, dict]:
    """Median milliseconds of each route, and the median ratio of each to the first, run right before or after it.

    Args:
        routes: Name to what is timed; the first is what the others are compared with.
        device: A GPU is timed by CUDA events, a CPU by the clock.
        repeats: Pairs for each route; every other pair runs in reverse order.
        warm_up: Pairs before.
    """
    (first, base), *others = routes.items()
    bases, found = [], {}
    for name, _ in others:
        found[name] = {'seconds': [], 'ratios': []}
    for i in range(warm_up + repeats):
        for name, route in others:
            if i % 2:
                here, reference = _time(route, device), _time(base, device)
            else:
                reference, here = _time(base, device), _time(route, device)
            if i >= warm_up:
                bases.append(reference)
                found[name]['seconds'].append(here)
                found[name]['ratios'].append(here / reference)
    timings = {first: {'ms': 1e3 * statistics.median(bases), 'ratio': 1.0}}
    for name, values in found.items():
        timings[name] = {'ms': 1e3 * statistics.median(values['seconds']), 'ratio': statistics.median(values['ratios'])}
    return timings


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
