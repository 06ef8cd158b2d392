"""Sums over processes."""

import torch.distributed as dist
from torch import Tensor


def all_reduce_sum(sums: Tensor) -> Tensor:
    """The sum over all processes, in place; the tensor itself with one process."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(sums)
    return sums
