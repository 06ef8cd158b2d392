"""One weight for each channel, from what it holds at its extremes."""

import torch
from torch import Tensor, nn

from registry import InputError, unknown_name

from ..precision import full_precision
from .site import Site

DESCRIPTORS = ('paper', 'official', 'separate')


class ChannelAttention(nn.Module):
    """Channel attention of MAIL (Dhar et al., KDD 2026, Fig. 3 E): x -> x * sigmoid(scale * f(d)), f two linear layers
    with a ReLU between them.

    The published descriptor d adds the maximum, mean and minimum of a channel and then its maximum less the other two,
    which is twice the maximum. It is computed as that.

    Args:
        channels: C.
        reduction: C over the width between the linear layers, which is at least 1.
        descriptor: ``'paper'``; ``'official'``, as the authors' code: the sum over all places comes on top, which grows
            with the area; or ``'separate'``, of ours: f of the maximum, of the mean and of the minimum are added up.

    Raises:
        InputError: A number below 1.
        NameNotFound: An unknown descriptor.
    """

    def __init__(self, channels: int, reduction: int = 4, descriptor: str = 'paper') -> None:
        super().__init__()
        if descriptor not in DESCRIPTORS:
            raise unknown_name('descriptor', descriptor, DESCRIPTORS)
        if channels < 1 or reduction < 1:
            raise InputError(f'ChannelAttention: channels and reduction are at least 1, got {channels}, {reduction}.')
        hidden = max(1, channels // reduction)
        self.descriptor = descriptor
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.ones(()))
        self.site = Site(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x * self.gate(x)

    def gate(self, x: Tensor) -> Tensor:
        """The weights: (B, C, H, W) -> (B, C, 1, 1), of the type of x; computed in that of the linear layers."""
        with full_precision(x.device):
            logits = self.scale * self.excite(self.squeeze(self.describe(x)).relu_())
            if self.descriptor == 'separate':
                logits = logits.sum(0)
            return self.site(logits).sigmoid().to(x.dtype)[..., None, None]

    def describe(self, x: Tensor) -> Tensor:
        """The descriptor: (B, C), or (3, B, C) of a separate one."""
        dtype, places = self.squeeze.weight.dtype, (2, 3)
        most = x.amax(places).to(dtype)
        if self.descriptor == 'paper':
            return 2 * most
        if self.descriptor == 'official':
            return 2 * most + x.sum(places, dtype=dtype)
        return torch.stack([most, x.mean(places, dtype=dtype), x.amin(places).to(dtype)])
