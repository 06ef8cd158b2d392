"""Full precision where half of it is not enough."""

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device: torch.device) -> AbstractContextManager:
    """Suspends automatic mixed precision on a device: for gates, whose sigmoids saturate, and sums over places."""
    if device.type == 'meta':  # which autocast does not know
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
