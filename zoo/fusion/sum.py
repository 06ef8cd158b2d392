"""Addition."""

from torch import Tensor

from registry import FUSIONS

from .fusion import Fusion


@FUSIONS.register_module()
class Sum(Fusion):
    """Projects each modality to a common width, each with its own bias, and adds those that are present."""

    additive = True

    def __init__(self, modalities, channels, out_channels: int | None = None) -> None:
        super().__init__(modalities, channels, out_channels)
        self.projections = self.project(self.out_channels)

    def merge(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, out_channels, ...)."""
        total = 0
        for m, here in zip(self.modalities, mask.unbind(1)):
            x = self.projections[m](features[m])
            total = total + x.where(here.view(-1, *[1] * (x.ndim - 1)), x.new_zeros(()))  # an absent one adds no bias
        return total

    def contribution(self, modality: str, x: Tensor) -> tuple[Tensor, slice]:
        """The projected features, in all channels."""
        return self.projections[modality](x), slice(None)
