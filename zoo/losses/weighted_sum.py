"""Several losses on one prediction."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from registry import LOSSES, InputError


@LOSSES.register_module()
class WeightedSum(nn.Module):
    """``w_1 * loss_1 + w_2 * loss_2 + ...`` of one prediction and target.

    It has no ``reduction``: parts such as Dice are losses of a set of pixels, of which the loss of each pixel is not
    defined. A host that wants the loss of each sample calls it with one sample at a time.

    Args:
        losses: Names or configs.
        weights: One finite number for each loss; 1 by default.

    Raises:
        InputError: No loss, or other numbers of losses and weights.
        NameNotFound: An unknown loss.
    """

    def __init__(self, losses: Sequence[str | Mapping[str, Any]], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if isinstance(losses, (str, Mapping)) or not losses:
            raise InputError(f'losses of a WeightedSum is a list of one or more losses, got {losses!r}.')
        weights = [1.0] * len(losses) if weights is None else weights
        listed = isinstance(weights, Sequence) and len(weights) == len(losses)
        if not listed or not all(isinstance(w, (int, float)) and math.isfinite(w) for w in weights):
            raise InputError(f'weights of a WeightedSum are {len(losses)} numbers, one for each loss, got {weights!r}.')
        self.losses = nn.ModuleList(LOSSES.build(loss) for loss in losses)
        self.weights = tuple(map(float, weights))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """-> ()."""
        return sum(w * loss(prediction, target) for w, loss in zip(self.weights, self.losses))

    def extra_repr(self) -> str:
        """The weights."""
        return f'weights={self.weights}'
