"""Short names for weights."""

import hashlib

import torch
from torch import Tensor, nn


def weights_digest(module: nn.Module) -> str:
    """A short digest of all parameters and buffers."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
