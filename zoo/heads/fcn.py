"""The skip architecture of fully convolutional networks."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from registry import HEADS


@HEADS.register_module()
class FCN8s(nn.Module):
    """Scores the three coarsest maps by 1x1 convolutions and adds them, coarse to fine: maps -> logits (B, K, h, w) of
    the finest of the three (FCN-8s, Long et al., CVPR 2015, Fig. 3; upsampling is bilinear and not learned).

    Args:
        in_channels: Width of each map, finest first.
        reductions: Not needed: the maps say their size.
        num_classes: K.
        levels: How many maps from the coarsest on.
    """

    def __init__(
        self, in_channels: Sequence[int], reductions: Sequence[int] = (), num_classes: int = 2, levels: int = 3
    ) -> None:
        super().__init__()
        self.scores = nn.ModuleList(nn.Conv2d(c, num_classes, 1) for c in in_channels[-levels:])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps, finest first -> logits."""
        *finer, coarsest = zip(self.scores, maps[-len(self.scores) :])
        total = coarsest[0](coarsest[1])
        for score, x in reversed(finer):
            total = score(x) + F.interpolate(total, x.shape[2:], mode='bilinear', align_corners=False)
        return total
