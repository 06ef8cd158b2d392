"""Gates."""

import torch
from torch import Tensor

from registry import FUSIONS

from .fusion import Fusion, Pointwise


@FUSIONS.register_module()
class Gated(Fusion):
    """Weighs the projected modalities by a softmax over the gates of those that are present, at each position.

    With one modality present its weight is 1, so a missing one never dims the result.
    """

    def __init__(self, modalities, channels, out_channels: int | None = None) -> None:
        super().__init__(modalities, channels, out_channels)
        self.projections = self.project(self.out_channels)
        self.gate = Pointwise(sum(self.channels.values()), len(self.modalities))

    def merge(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, out_channels, ...)."""
        stacked = torch.stack([self.projections[m](features[m]) for m in self.modalities], dim=1)  # (B, M, C, ...)
        logits = self.gate(torch.cat([features[m] for m in self.modalities], dim=1))  # (B, M, ...)
        here = mask.view(*mask.shape, *[1] * (logits.ndim - 2))
        # a finite floor: a row with nothing present then yields finite values and no NaN gradient
        weights = logits.masked_fill(~here, torch.finfo(logits.dtype).min).softmax(dim=1) * here
        return (weights.unsqueeze(2) * stacked).sum(dim=1)
