"""The mean of the modalities that are present."""

from torch import Tensor, nn

from registry import FUSIONS

from .fusion import Fusion, Pointwise


@FUSIONS.register_module()
class Mean(Fusion):
    """The mean over the modalities that are present: the result keeps its scale when some are missing. It has no
    parameters, but for a pointwise layer without bias that brings a modality of another width to ``out_channels``.

    Args:
        modalities: Names.
        channels: Width of the features.
        out_channels: Width of the result; the largest of the features' by default.
    """

    def __init__(self, modalities, channels, out_channels: int | None = None) -> None:
        super().__init__(modalities, channels, out_channels)
        self.projections = nn.ModuleDict(
            {m: Pointwise(c, self.out_channels, bias=False) for m, c in self.channels.items() if c != self.out_channels}
        )

    def merge(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, out_channels, ...)."""
        fitted = [self.projections[m](x) if m in self.projections else x for m, x in features.items()]
        count = mask.sum(1).clamp(min=1).view(-1, *[1] * (fitted[0].ndim - 1))
        return sum(fitted[1:], fitted[0]) / count
