"""Sums and largest values over processes."""

import torch.distributed as dist
from torch import Tensor


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over all processes, in place; the tensor itself with one process."""
    return _all_reduce(values, 'SUM')


def all_reduce_max(values: Tensor) -> Tensor:
    """The largest value of all processes, in place; the tensor itself with one process."""
    return _all_reduce(values, 'MAX')


def _all_reduce(values: Tensor, operation: str) -> Tensor:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(values, getattr(dist.ReduceOp, operation))
    return values
