"""The linear classifier."""

import torch.nn.functional as F
from torch import Tensor, nn

from registry import HEADS, InputError


@HEADS.register_module()
class LinearHead(nn.Linear):
    """Class logits of fused vectors: (B, in_channels) -> (B, num_classes)."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        if num_classes < 1:
            raise InputError(f'num_classes must be at least 1, got {num_classes}.')
        super().__init__(in_channels, num_classes)

    def share(self, x: Tensor, columns: slice, parts: int) -> Tensor:
        """What one of ``parts`` summands contributes to the logits: its own columns of the weight, an equal share of
        the bias, so that all shares add up to the prediction.

        Args:
            x: (B, C), which stands in ``columns`` of the head's input.
            columns: Where.
            parts: Number of summands.
        """
        return F.linear(x, self.weight[:, columns], self.bias / parts)
