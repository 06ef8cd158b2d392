"""Addition."""

from collections.abc import Mapping

import torch
from torch import Tensor

from registry import FUSIONS

from .fusion import Fusion, keep, readable


@FUSIONS.register_module()
class Sum(Fusion):
    """Projects each modality to a common width, each with its own bias, and adds those that are present."""

    additive = True

    def __init__(self, modalities, channels, out_channels: int | None = None) -> None:
        super().__init__(modalities, channels, out_channels)
        self.projections = self.project(self.out_channels)

    def forward(self, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, out_channels, ...)."""
        # what is added is masked; features only have to be where NaN times a gradient of 0 would reach the weights
        return super().forward(features, mask) if torch.is_grad_enabled() else self.merge(features, mask)

    def merge(self, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, out_channels, ...)."""
        columns = dict(zip(self.modalities, mask.unbind(1)))
        if readable(mask) and not torch.is_grad_enabled():  # else the weights of an absent one get a gradient of zero
            columns = {m: here for m, here in columns.items() if here.any()} or columns
        total = None
        for m, here in columns.items():
            term = keep(self.projections[m](features[m]), here)  # an absent one adds no bias
            total = term if total is None else total + term
        return total

    def contribution(self, modality: str, x: Tensor) -> tuple[Tensor, slice]:
        """The projected features, in all channels."""
        return self.projections[modality](x), slice(None)
