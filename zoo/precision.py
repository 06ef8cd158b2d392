"""Types of numbers: those of automatic mixed precision, and the wider ones where half of it is not enough."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def autocasts(device: torch.device) -> bool:
    """Whether autocast is on for this type of device; some, as 'meta', do not know it."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def autocast(*tensors: Tensor) -> list[Tensor]:
    """The tensors in the type that autocast gives matrix products, if it is on."""
    device = tensors[0].device
    if not autocasts(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device.type)
    return [x if x.dtype == torch.float64 else x.to(dtype) for x in tensors]  # as torch's own autocast


def full_precision(device: torch.device) -> AbstractContextManager:
    """Suspends autocast on a device: for gates, whose sigmoids saturate, and sums over places."""
    return torch.autocast(device.type, enabled=False) if autocasts(device) else nullcontext()


def widened(x: Tensor) -> Tensor:
    """In single precision at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
