"""torch's losses, with weights that a config can hold."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from registry import LOSSES

MSELoss = LOSSES.register_module(module=nn.MSELoss)


@LOSSES.register_module()
class CrossEntropyLoss(nn.CrossEntropyLoss):
    """torch's, of logits (B, K, ...) and class indices (B, ...); ``weight`` may be a list of K numbers."""

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        ignore_index: int = -100,
        reduction: str = 'mean',
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            _tensor(weight), ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
        )


@LOSSES.register_module()
class BCEWithLogitsLoss(nn.BCEWithLogitsLoss):
    """torch's, of logits and targets in [0, 1] of one shape (B, K, ...); the weights may be lists of numbers."""

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        reduction: str = 'mean',
        pos_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(_tensor(weight), reduction=reduction, pos_weight=_tensor(pos_weight))


def _tensor(values: Sequence[float] | None) -> Tensor | None:
    return None if values is None else torch.as_tensor(values, dtype=torch.float32)
