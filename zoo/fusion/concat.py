"""Concatenation."""

import torch
from torch import Tensor

from registry import FUSIONS

from .fusion import Fusion, Pointwise


@FUSIONS.register_module()
class Concat(Fusion):
    """Concatenates the modalities along the channels, absent ones as zeros, and mixes them only if a width is given.

    Args:
        modalities: Names, in the order of the channels.
        channels: Width of the features.
        out_channels: None keeps the sum of the widths; a number adds a pointwise layer to that width.
    """

    def __init__(self, modalities, channels, out_channels: int | None = None) -> None:
        super().__init__(modalities, channels, out_channels)
        width = sum(self.channels.values())
        self.mix = Pointwise(width, out_channels) if out_channels else None
        self.out_channels = out_channels or width
        self.additive = self.mix is None

    def merge(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, sum of C_m, ...), or (B, out_channels, ...)."""
        joined = torch.cat([features[m] for m in self.modalities], dim=1)
        return joined if self.mix is None else self.mix(joined)

    def contribution(self, modality: str, x: Tensor) -> tuple[Tensor, slice]:
        """The features themselves, in their own channels."""
        if not self.additive:
            return super().contribution(modality, x)
        widths = list(self.channels.values())
        index = self.modalities.index(modality)
        return x, slice(sum(widths[:index]), sum(widths[: index + 1]))
