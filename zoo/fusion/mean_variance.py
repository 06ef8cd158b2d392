"""The mean and the variance of the modalities that are present."""

import torch
from torch import Tensor, nn

from registry import FUSIONS

from .fusion import Fusion, Pointwise


@FUSIONS.register_module()
class MeanVariance(Fusion):
    """The mean and, behind it, the variance over the modalities that are present: HeMIS (Havaei et al., MICCAI 2016).

    Any subset, one modality included, whose variance is 0, gives statistics of the same kind, so that nothing is
    learnt about which modality is which. Both divide by the number of modalities that the sample has. The variant in
    MMANet's code also counts how far the zeros of absent modalities are from the mean.

    Args:
        modalities: Names.
        channels: Width of the features; a pointwise layer without bias brings a modality of another width to the
            largest, C.
        out_channels: None keeps 2 C; a number adds a pointwise layer to that width.
    """

    def __init__(self, modalities, channels, out_channels: int | None = None) -> None:
        super().__init__(modalities, channels, out_channels)
        width = max(self.channels.values())
        self.projections = nn.ModuleDict(
            {m: Pointwise(c, width, bias=False) for m, c in self.channels.items() if c != width}
        )
        self.mix = Pointwise(2 * width, out_channels) if out_channels else None
        self.out_channels = out_channels or 2 * width

    def merge(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, 2 C, ...), or (B, out_channels, ...)."""
        x = torch.stack([self.projections[m](x) if m in self.projections else x for m, x in features.items()], 1)
        count = mask.sum(1).clamp(min=1).view(-1, *[1] * (x.ndim - 2))
        mean = x.sum(1) / count
        here = mask.view(*mask.shape, *[1] * (x.ndim - 2))
        variance = (x - mean[:, None]).where(here, x.new_zeros(())).square().sum(1) / count
        fused = torch.cat((mean, variance), 1)
        return fused if self.mix is None else self.mix(fused)
