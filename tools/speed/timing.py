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


def rounds(
    routes: Mapping[str, Callable[[], object]], device: str, repeats: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each route in each round, in which all run one after the other: sums, differences and ratios of one
    round's times have the same pace.

    Args:
        routes: Name to what is timed.
        device: See `interleaved`.
        repeats: Rounds; every other one runs in reverse order.
        warm_up: Rounds before.
    """
    seconds: dict[str, list[float]] = {name: [] for name in routes}
    for i in range(warm_up + repeats):
        for name in list(routes)[:: -1 if i % 2 else 1]:
            here = _time(routes[name], device)
            if i >= warm_up:
                seconds[name].append(here)
    return seconds


class Laps:
    """A stopwatch: seconds between the calls of `lap`, on a GPU those of its own work, by CUDA events.

    Args:
        device: See `interleaved`.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.names: list[str] = []
        self.marks = [self._mark()]

    def lap(self, name: str) -> None:
        """End a lap, and begin the next."""
        self.names.append(name)
        self.marks.append(self._mark())

    def seconds(self) -> dict[str, float]:
        """Of each lap; only now a GPU is waited for."""
        if self.device == 'cpu':
            spans = [end - start for start, end in zip(self.marks, self.marks[1:])]
        else:
            self.marks[-1].synchronize()
            spans = [start.elapsed_time(end) / 1e3 for start, end in zip(self.marks, self.marks[1:])]
        return dict(zip(self.names, spans))

    def _mark(self) -> float | torch.cuda.Event:
        if self.device == 'cpu':
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def waits(step: Callable[[], object]) -> str:
    """``'none'``, or how a route on a GPU waits for it."""
    torch.cuda.set_sync_debug_mode('error')
    try:
        step()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return 'none'


def _time(route: Callable[[], object], device: str) -> float:
    laps = Laps(device)
    route()
    laps.lap('route')
    return laps.seconds()['route']
