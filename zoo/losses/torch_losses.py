"""torch's losses, with weights that a config can hold."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import LOSSES, InputError, unknown_name

from .class_weights import KINDS, class_weights

MSELoss = LOSSES.register_module(module=nn.MSELoss)


@LOSSES.register_module()
class CrossEntropyLoss(nn.CrossEntropyLoss):
    """Torch's, of logits (B, K, ...) and class indices (B, ...), or probabilities (B, K, ...).

    Unlike torch's, the mean where no element counts (each is ignored or weighs nothing) is 0 with zero gradients, not
    NaN: a crop, or a side output of deep supervision, may hold void pixels only.

    Args:
        weight: K numbers; or ``'median_frequency'`` or ``'logarithmic'``, see `zoo.losses.class_weights`: weights from
            the training data, which `zoo.engine.Runner` hands to `prepare`. These are not kept in checkpoints, so that
            evaluation needs no training data.
        ignore_index: The class index that does not count.
        reduction: ``'mean'``, weighted as torch's; ``'sum'``; or ``'none'``.
        label_smoothing: In [0, 1].

    Raises:
        NameNotFound: No scheme of that name.
    """

    def __init__(
        self,
        weight: Sequence[float] | str | None = None,
        ignore_index: int = -100,
        reduction: str = 'mean',
        label_smoothing: float = 0.0,
    ) -> None:
        scheme = weight if isinstance(weight, str) else None
        if scheme and scheme not in KINDS:
            raise unknown_name('scheme of class weights', scheme, KINDS)
        numbers = None if scheme else _tensor(weight)
        super().__init__(numbers, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing)
        self.scheme = scheme
        if scheme:
            self.register_buffer('weight', torch.empty(0), persistent=False)  # moves with the host

    def prepare(self, dataset: Any) -> None:
        """Compute the weights of a scheme from the training data; nothing to do without one.

        Args:
            dataset: Has ``label_counts()``, see `zoo.datasets.MultimodalDataset`.

        Raises:
            InputError: It has not.
        """
        if self.scheme is None:
            return
        if not hasattr(dataset, 'label_counts'):
            raise InputError(
                f'weight={self.scheme!r} needs a data set with label_counts(), which {type(dataset).__name__} does not '
                'have: give the weights as a list.'
            )
        self.weight = class_weights(*dataset.label_counts(), self.scheme).to(self.weight)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """-> () for ``'mean'`` and ``'sum'``, the target's shape for ``'none'``.

        Raises:
            InputError: The weights of a scheme are not there yet, or their number is not K.
        """
        rows = prediction.movedim(1, -1) if prediction.ndim > 2 else prediction
        if rows is not prediction and rows.is_contiguous() and not target.is_floating_point():
            # channels-last logits are rows of K already, and torch is twice as fast on rows as on such maps
            loss = self.forward(rows.flatten(0, -2), target.flatten())
            return loss.view_as(target) if self.reduction == 'none' else loss
        self._check_weight(prediction.shape[min(1, prediction.ndim - 1)])
        if self.reduction != 'mean' or target.is_floating_point():
            return super().forward(prediction, target)
        total = F.cross_entropy(
            prediction, target, self.weight, None, self.ignore_index, None, 'sum', self.label_smoothing
        )
        counts = target != self.ignore_index
        if self.weight is not None:
            counts = self.weight[target.where(counts, 0)] * counts
        count = counts.sum()
        return total / count.where(count != 0, 1)

    def _check_weight(self, classes: int) -> None:
        if self.weight is None or len(self.weight) == classes:
            return
        if not len(self.weight):
            raise InputError(
                f'CrossEntropyLoss(weight={self.scheme!r}) has no weights yet: zoo.engine.Runner computes them before '
                'training; elsewhere call prepare(training_dataset), or give the weights as a list.'
            )
        raise InputError(
            f'CrossEntropyLoss has weights of {len(self.weight)} classes, but the logits are of {classes}.'
        )


@LOSSES.register_module()
class BCEWithLogitsLoss(nn.BCEWithLogitsLoss):
    """Torch's, of logits and targets in [0, 1] of one shape (B, K, ...); the weights may be lists of numbers."""

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        reduction: str = 'mean',
        pos_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(_tensor(weight), reduction=reduction, pos_weight=_tensor(pos_weight))


def _tensor(values: Sequence[float] | None) -> Tensor | None:
    return None if values is None else torch.as_tensor(values, dtype=torch.float32)
