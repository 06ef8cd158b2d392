"""Fusion blocks that give each modality its own features back, refined by the others'."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from registry import InputError, unknown_name

from .fusion import Fusion, Pointwise, keep

REDUCTIONS = ('sum', 'mean', 'concat')


class Exchange(Fusion):
    """Refines the features of each modality by those of the others; subclasses define `exchange`.

    A host that goes on with all modalities calls `forward_each`. Any other host gets one map, as from any other fusion
    block: the refined features added up, averaged over the modalities that are present, or concatenated.

    A modality whose width is not the common one is first brought to it by a pointwise layer without bias. The common
    width is ``out_channels``, else the largest of the features'; of a concatenation always the latter.

    Args:
        modalities: Names.
        channels: Width of the features.
        out_channels: Width of the result. By default the common width, or, of a concatenation, that times M; else a
            pointwise layer mixes what was concatenated.
        reduce: ``'sum'``, ``'mean'`` or ``'concat'``.

    Attributes:
        width: The common width.

    Raises:
        NameNotFound: An unknown way to reduce.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int | Mapping[str, int],
        out_channels: int | None = None,
        reduce: str = 'sum',
    ) -> None:
        joined = reduce == 'concat'
        super().__init__(modalities, channels, None if joined else out_channels)
        if reduce not in REDUCTIONS:
            raise unknown_name('way to reduce', reduce, REDUCTIONS)
        self.reduce = reduce
        self.width = self.out_channels
        self.projections = nn.ModuleDict(
            {m: Pointwise(c, self.width, bias=False) for m, c in self.channels.items() if c != self.width}
        )
        self.mix: nn.Module = nn.Identity()
        if joined:
            joint = len(self.modalities) * self.width
            self.out_channels = int(out_channels or joint)
            self.mix = Pointwise(joint, self.out_channels) if out_channels else self.mix

    def forward_each(self, features: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Refine.

        Args:
            features: Modality to (B, C_m) or (B, C_m, H, W); what an absent sample holds has no influence.
            mask: (B, M) bool on the same device.

        Returns:
            Modality to (B, width) or (B, width, H, W), zero where it is absent.

        Raises:
            InputError: Features that are neither vectors nor maps, or of different sizes.
        """
        return self.refine({m: keep(features[m], here) for m, here in zip(self.modalities, mask.unbind(1))}, mask)

    def refine(self, features: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """`forward_each` of features that are already zero where absent."""
        features = {
            m: self.projections[m](features[m]) if m in self.projections else features[m] for m in self.modalities
        }
        shapes = {m: tuple(x.shape) for m, x in features.items()}
        first = next(iter(features.values()))
        if first.ndim not in (2, 4) or len(set(shapes.values())) > 1:
            raise InputError(
                f'{type(self).__name__} takes vectors (B, C) or maps (B, C, H, W), of one size in all modalities, got '
                f'{", ".join(f"{m} {shape}" for m, shape in shapes.items())}.'
            )
        if first.ndim == 4:
            return self.exchange(features, mask)
        places = self.exchange({m: x[..., None, None] for m, x in features.items()}, mask)  # maps of one place
        return {m: x.flatten(1) for m, x in places.items()}

    def exchange(self, features: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Refine maps {m: (B, width, H, W)}, zero where absent, to maps of the same size, zero where absent."""
        raise NotImplementedError

    def merge(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, out_channels, ...)."""
        refined = list(self.refine(features, mask).values())
        if self.reduce == 'concat':
            return self.mix(torch.cat(refined, dim=1))
        total = sum(refined[1:], refined[0])
        if self.reduce == 'sum':
            return total
        return total / mask.sum(1).clamp(min=1).view(-1, *[1] * (total.ndim - 1))
