"""The decoder of MAIL-Seg."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from registry import HEADS, InputError

from ..blocks import ERLA


@HEADS.register_module()
class ERLADecoder(nn.Module):
    """From the coarsest map alone, step by step: doubled in size (nearest) and refined by an `ERLA` block; then a 1x1
    convolution to classes: maps -> logits (B, K, h, w) (MAIL-Seg, Dhar et al., KDD 2026). The paper does not say more
    of its decoder; these widths come to its published size.

    Args:
        in_channels: Width of each map, finest first.
        reductions: Size of the input over that of each map.
        num_classes: K.
        widths: Of each step.
        block: Arguments of each `ERLA`.

    Raises:
        InputError: No step, or more than bring the map to the size of the input.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        widths: Sequence[int] = (192, 96, 64, 64, 64),
        block: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not widths or 2 ** len(widths) > reductions[-1]:
            raise InputError(
                f'ERLADecoder doubles a map of 1/{reductions[-1]} once for each of widths, got {tuple(widths)}.'
            )
        before = [in_channels[-1], *widths[:-1]]
        self.blocks = nn.ModuleList(ERLA(a, b, **(block or {})) for a, b in zip(before, widths))
        self.classify = nn.Conv2d(widths[-1], num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps, finest first -> logits."""
        x = maps[-1]
        for block in self.blocks:
            x = block(F.interpolate(x, scale_factor=2.0))
        return self.classify(x)
