"""Sums, largest values and any others over processes."""

from typing import Any

import torch.distributed as dist
from torch import Tensor


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over all processes, in place; the tensor itself with one process."""
    return _all_reduce(values, 'SUM')


def all_reduce_max(values: Tensor) -> Tensor:
    """The largest value of all processes, in place; the tensor itself with one process."""
    return _all_reduce(values, 'MAX')


def all_gather(value: Any) -> list[Any]:
    """The values of all processes in order, anything that can be pickled; one in a list with one process."""
    if not _several():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _all_reduce(values: Tensor, operation: str) -> Tensor:
    if _several():
        dist.all_reduce(values, getattr(dist.ReduceOp, operation))
    return values


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
