"""Concatenation and a convolution of one pixel, as two-stream networks fuse."""

import torch
import torch.nn.functional as F
from torch import Tensor

from registry import FUSIONS

from ..layers import BatchNorm
from .fusion import Fusion, Pointwise
from .se_add import Excitation


@FUSIONS.register_module()
class ConcatConv(Fusion):
    """Concatenates the modalities, absent ones as zeros, and mixes them by a pointwise layer without bias, batch
    normalisation and SiLU.

    Args:
        modalities: Names, in the order of the channels.
        channels: Width of the features.
        out_channels: Width of the result; the largest of the features' by default.
        reduction: None, or the ratio of the width to the hidden one of squeeze-excitation on the concatenation, which
            then comes first.
    """

    def __init__(self, modalities, channels, out_channels: int | None = None, reduction: int | None = None) -> None:
        super().__init__(modalities, channels, out_channels)
        width = sum(self.channels.values())
        self.excitation = Excitation(width, max(1, width // reduction)) if reduction else None
        self.mix = Pointwise(width, self.out_channels, bias=False)
        self.norm = BatchNorm(self.out_channels)

    def merge(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, out_channels, ...)."""
        joined = torch.cat([features[m] for m in self.modalities], dim=1)
        if self.excitation is not None:
            joined = joined * self.excitation(joined)
        return F.silu(self.norm(self.mix(joined)), inplace=True)
