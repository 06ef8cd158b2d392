"""Classification accuracy."""

import torch
from torch import Tensor

from registry import METRICS
from zoo.batch import Batch, Outputs

from .distributed import all_reduce_sum
from .metric import Metric, class_logits


@METRICS.register_module()
class Accuracy(Metric):
    """Percentage of samples whose largest logit is the true class; targets of ``ignore_index``, and any below 0, do not
    count."""

    task = 'classification'
    name = 'accuracy'

    def __init__(self, ignore_index: int = -100) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.register_buffer('sums', torch.zeros(2, dtype=torch.float64), persistent=False)  # correct, counted

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Logits (B, K), class indices (B,).

        Raises:
            InputError: Logits of another shape, or of several tasks.
        """
        logits = class_logits(outputs, self)
        counted = (batch.target != self.ignore_index) & (batch.target >= 0)
        correct = (logits.argmax(1) == batch.target) & counted
        self.sums += torch.stack([correct.sum(), counted.sum()])

    def compute(self) -> dict[str, Tensor]:
        """``{'accuracy': percent}``; NaN without a sample."""
        correct, counted = all_reduce_sum(self.sums.clone())
        return {'accuracy': 100 * correct / counted}
