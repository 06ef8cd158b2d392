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


def number(name: str, given: float, low: float, high: float, below: bool = False) -> float:
    """``given`` itself.

    Args:
        name: How the message begins.
        given: What to check.
        low: The smallest number allowed.
        high: The largest.
        below: ``high`` itself is not allowed.

    Raises:
        InputError: It is no number, or not between the two.
    """
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not is_number or not low <= given <= high or (below and given == high):
        raise InputError(f'{name} must be in {low}..{high}{f" and below {high}" if below else ""}, got {given!r}.')
    return given


def probability(owner: str, p: float) -> float:
    """``p`` itself.

    Raises:
        InputError: It is no number in 0..1.
    """
    return number(f'{owner} takes a probability p, which', p, 0, 1)


def uniform(limits: tuple[float, float]) -> float:
    """One number between two limits."""
    return limits[0] + (limits[1] - limits[0]) * torch.rand(()).item()
