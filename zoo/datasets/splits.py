"""Dividing samples at random, the same on every machine and in every version: the order is that of hashes."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

import numpy as np

from registry import InputError

Item = TypeVar('Item')

SHARES = {'train': 0.8, 'val': 0.1, 'test': 0.1}


def shuffled(items: Iterable[Item], seed: object = 0) -> list[Item]:
    """The items in an order that is a function of how they and ``seed`` are written.

    >>> shuffled('abcd'), shuffled('abcd', seed=1)
    (['d', 'a', 'c', 'b'], ['d', 'a', 'b', 'c'])
    """
    return sorted(items, key=lambda item: sha256(f'{seed}:{item}'.encode()).digest())


def divide(stems: Iterable[str], shares: Mapping[str, float], seed: int = 0) -> dict[str, list[str]]:
    """Divide stems at random, each part sorted.

    >>> divide('abcdef', {'train': 0.5, 'test': 0.5})
    {'train': ['a', 'd', 'f'], 'test': ['b', 'c', 'e']}

    Args:
        stems: What to divide.
        shares: Name of a part to its share, each above 0; they sum up to 1.
        seed: Another number makes another division.

    Raises:
        InputError: Other shares.
    """
    check_shares(shares)
    order = shuffled(stems, seed)
    parts, start, reached = {}, 0, 0.0
    for name, share in shares.items():
        reached += share
        stop = round(reached * len(order))
        parts[name], start = sorted(order[start:stop]), stop
    return parts


def divide_groups(
    labels: Sequence[int], groups: Sequence[Hashable], shares: Mapping[str, float], seed: int = 0
) -> dict[str, list[int]]:
    """Divide samples so that every class has the same shares and no group is torn apart.

    Groups go one after the other, large ones first, to the part in which their classes are furthest below their share;
    single samples are thereby apportioned by Sainte-Lague's rule, class by class. Scikit-learn's `StratifiedGroupKFold`
    is as greedy, but knows only parts of 1/k, and which samples they get hangs on numpy's generator and on the order of
    the samples; here it hangs on the groups' names and the seed alone.

    >>> divide_groups([0, 0, 0, 0, 1, 1, 1, 1], 'aabbcdef', {'train': 0.5, 'test': 0.5})
    {'train': [0, 1, 4, 7], 'test': [2, 3, 5, 6]}

    Args:
        labels: The class 0..K-1 of each sample.
        groups: Its group, of any class.
        shares: See `divide`.
        seed: See `divide`.

    Returns:
        The name of each part to the indices of its samples, ascending.

    Raises:
        InputError: Other shares.
    """
    check_shares(shares)
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    total = np.bincount(np.asarray(labels, dtype=np.int64)).astype(float)
    wanted = np.outer(list(shares.values()), total)  # (parts, K)
    reached = np.zeros_like(wanted)
    parts: dict[str, list[int]] = {name: [] for name in shares}
    names = list(shares)
    for group in sorted(shuffled(members, seed), key=lambda g: -len(members[g])):
        classes, counts = np.unique([labels[i] for i in members[group]], return_counts=True)
        here, goal = reached[:, classes], wanted[:, classes]
        excess = (counts * (2 * (here - goal) + counts) / goal).sum(1)  # growth of the squared error, over the goal
        part = int(excess.round(9).argmin())  # ties are the same ties on every machine
        reached[part, classes] += counts
        parts[names[part]] += members[group]
    return {name: sorted(part) for name, part in parts.items()}


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse shares that are not above 0 or do not sum up to 1."""
    if not shares or any(share <= 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f'The shares of a division are above 0 and sum up to 1, got {dict(shares)}.')
