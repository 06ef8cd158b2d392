"""Random numbers of the transforms, from torch's global generator, which the engine seeds for each sample."""

import math
from collections.abc import Sequence

import torch

from registry import InputError


def interval(name: str, given: Sequence[float]) -> tuple[float, float]:
    """A pair of finite numbers, the smaller one first.

    >>> interval('scale', [1, 1.4])
    (1.0, 1.4)

    Raises:
        InputError: Anything else.
    """
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        raise InputError(f'The {name} is a pair of numbers, got {given!r}.') from None
    if not -math.inf < low <= high < math.inf:
        raise InputError(f'The {name} is a pair (smallest, largest), got {given!r}.')
    return low, high


def uniform(limits: tuple[float, float]) -> float:
    """One number between two limits."""
    return limits[0] + (limits[1] - limits[0]) * torch.rand(()).item()
