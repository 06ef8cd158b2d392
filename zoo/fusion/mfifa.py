"""Attention from frequencies: one half of EMCAM."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import FUSIONS, unknown_name

from ..blocks import Cosine, Site
from ..precision import full_precision, widened
from .attention_maps import accumulate, present_columns, rescaled
from .exchange import Exchange

DCT = ('channel', 'spatial', 'none')


@FUSIONS.register_module()
class MFIFA(Exchange):
    """Multimodal frequency-domain information fusion attention of MAIL (Dhar et al., KDD 2026, Eq. 6 to 9): each
    modality is multiplied by one map of all of them.

    Each modality is transformed by cosines. Its minimum and its mean over all places, each through a gate of its own
    linear layer, are its low frequencies L; twice the transformed map less L, and the gated maximum, are its high ones
    H. Weighted by channel, ``alpha * L + phi * H + gamma * (H - L)`` of all modalities are added up, and a sigmoid
    makes the map. The whole is a line in the transformed map, and computed as one: (alpha - gamma) L + (phi + gamma) H.

    The paper's text speaks of a transform that its equations lack; the authors' code takes the cosines over channels
    and never inverts them. That is the default.

    Args:
        modalities: Names.
        channels: Width of the features.
        out_channels: See `Exchange`.
        reduce: See `Exchange`.
        dct: What is transformed: ``'channel'`` (each place over its channels), ``'spatial'`` (each channel over both
            sides), or ``'none'``.
        invert: Transform the sum back before the sigmoid.
        gate: Put what was pooled through a linear layer and a sigmoid; False, as the paper's equations have it, leaves
            it as it is.
        share_weights: One linear layer for all modalities.
        rescale: Multiply the sum over the modalities that are present by M over their number.

    Raises:
        NameNotFound: An unknown transform or way to reduce.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int | Mapping[str, int],
        out_channels: int | None = None,
        reduce: str = 'sum',
        dct: str = 'channel',
        invert: bool = False,
        gate: bool = True,
        share_weights: bool = False,
        rescale: bool = False,
    ) -> None:
        super().__init__(modalities, channels, out_channels, reduce)
        if dct not in DCT:
            raise unknown_name('transform (dct)', dct, DCT)
        self.transform = None if dct == 'none' else Cosine(dct)
        self.invert = invert and self.transform is not None
        self.rescale = rescale
        shared = nn.Linear(self.width, self.width) if gate and share_weights else None
        self.gates = nn.ModuleDict({m: shared or nn.Linear(self.width, self.width) for m in self.modalities if gate})
        # alpha, phi and gamma
        self.modulation = nn.ParameterDict({m: nn.Parameter(torch.ones(3, self.width)) for m in self.modalities})
        self.sites = nn.ModuleDict({m: Site(self.width) for m in self.modalities})

    def exchange(self, features: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """{m: (B, C, H, W)} -> {m: (B, C, H, W)}."""
        attention = self.attention(features, mask)
        return {m: x * attention.to(x.dtype) for m, x in features.items()}

    def attention(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """The map (B, C, H, W), in (0, 1) and in single precision, of features that are zero where absent."""
        total = None
        with full_precision(mask.device):
            for (m, x), here in zip(features.items(), present_columns(mask)):
                x = widened(x) if self.transform is None else self.transform(x)
                slope, offset = self._line(m, x)
                total = accumulate(total, self.sites[m]((slope * x).add_(offset)), here)
            if self.rescale:
                total = rescaled(total, mask)
            if self.invert:
                total = self.transform.inverse(total)
            return total.sigmoid()

    def _line(self, modality: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """The modulated sum of frequencies as a line in a transformed map: slope (C, 1, 1), offset (B, C, 1, 1)."""
        pooled = torch.stack([x.amin((2, 3)), x.mean((2, 3)), x.amax((2, 3))])  # (3, B, C)
        if modality in self.gates:
            weight, bias = (p.to(pooled.dtype) for p in self.gates[modality].parameters())
            pooled = F.linear(pooled, weight, bias).sigmoid()
        lowest, mean, highest = pooled
        alpha, phi, gamma = self.modulation[modality]
        low, high = alpha - gamma, phi + gamma  # what L and H count, the mean frequencies being H - L
        offset = (low - high) * (lowest + mean) + high * highest
        return (2 * high)[:, None, None], offset[..., None, None]
