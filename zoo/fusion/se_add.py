"""Squeeze-excitation and addition: the fusion of ESANet."""

from collections.abc import Iterator

from torch import Tensor, nn

from registry import FUSIONS

from ..layers import he_init_
from .fusion import Fusion, Pointwise


class Excitation(nn.Module):
    """Channel weights of squeeze-excitation (Hu et al., CVPR 2018, eq. 2 and 3): the mean over all places -> one weight
    in (0, 1) for each channel.

    Args:
        channels: C.
        hidden: Width between the two layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, 1, ...)."""
        pooled = x.mean(dim=tuple(range(2, x.ndim))) if x.ndim > 2 else x
        weights = self.excite(self.squeeze(pooled).relu_()).sigmoid_()
        return weights.view(*weights.shape, *[1] * (x.ndim - 2))


@FUSIONS.register_module()
class SEAdd(Fusion):
    """Weighs the channels of each modality by squeeze-excitation of its own and adds those that are present (ESANet,
    Seichter et al., arXiv:2011.06961, Sec. III-B). A modality whose width is not ``out_channels`` is first brought to
    it by a pointwise layer without bias: absent features, zeros, then add zeros.

    The weights of a modality depend on its mean over all places of a map, and each position on nothing else.

    Args:
        modalities: Names.
        channels: Width of the features.
        out_channels: Width of the result; the largest of the features' by default.
        reduction: ``out_channels`` over the hidden width, which is at least 1.
        he_init: Start from He's initialisation, but for the layers before the sigmoid.
    """

    additive = True

    def __init__(
        self, modalities, channels, out_channels: int | None = None, reduction: int = 16, he_init: bool = False
    ) -> None:
        super().__init__(modalities, channels, out_channels)
        width = self.out_channels
        hidden = max(1, width // reduction)
        self.projections = nn.ModuleDict(
            {m: Pointwise(c, width, bias=False) for m, c in self.channels.items() if c != width}
        )
        self.excitations = nn.ModuleDict({m: Excitation(width, hidden) for m in self.modalities})
        if he_init:
            he_init_(self, skip=tuple(e.excite for e in self.excitations.values()))

    def merge(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, out_channels, ...)."""
        total = None
        for m in self.modalities:
            x = self._fit(m, features[m])
            weights = self.excitations[m](x)
            # in one pass and in place: the backward pass needs the factors and no product
            total = x * weights if total is None else total.addcmul_(x, weights)
        return total

    def contribution(self, modality: str, x: Tensor) -> tuple[Tensor, slice]:
        """The weighted features, in all channels."""
        x = self._fit(modality, x)
        return x * self.excitations[modality](x), slice(None)

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The squeeze-excitation of this modality, and its pointwise layer if it has one."""
        yield from self.excitations[modality].parameters()
        if modality in self.projections:
            yield from self.projections[modality].parameters()

    def _fit(self, modality: str, x: Tensor) -> Tensor:
        return self.projections[modality](x) if modality in self.projections else x
