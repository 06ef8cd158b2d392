"""Scores of classification that do not hang on how frequent a class is."""

import torch
from torch import Tensor

from registry import METRICS, InputError
from zoo.batch import Batch, Outputs

from .distributed import all_gather
from .metric import Metric, class_logits

NOBODY = torch.zeros(0, dtype=torch.int64)


@METRICS.register_module()
class MultiClass(Metric):
    """Accuracy, macro F1 and macro AUC (one class against the rest), in percent; labels below 0 do not count.

    F1 is averaged over the classes that occur in labels or predictions, AUC over those that have samples in the labels
    and samples of other classes beside them. The probabilities of all samples are kept, where the host runs: to move
    them batch by batch would wait for the device.
    """

    task = 'classification'
    name = 'accuracy'
    also = ('f1', 'auc')

    def __init__(self) -> None:
        super().__init__()
        self.scored: list[tuple[Tensor, Tensor]] = []  # of each batch probabilities (B, K) and labels (B,)

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Logits (B, K), class indices (B,).

        Raises:
            InputError: Logits of another shape.
        """
        self.scored.append((class_logits(outputs, self).float().softmax(1), batch.target))

    def compute(self) -> dict[str, Tensor]:
        """Percent: ``accuracy``, ``f1``, ``auc``, and for each class ``F1`` and ``AUC`` (K,), NaN where there is none.

        Raises:
            InputError: A label that is no class of the logits.
        """
        from torchmetrics.functional.classification import binary_auroc, multiclass_f1_score

        every = [p for part in all_gather([(s.cpu(), t.cpu()) for s, t in self.scored]) for p in part]
        scores, labels = (torch.cat(column) for column in zip(*every)) if every else (torch.zeros(0, 0), NOBODY)
        scores, labels = scores[labels >= 0], labels[labels >= 0]
        count = scores.shape[1]
        if len(labels) and (largest := int(labels.max())) >= count:
            raise InputError(f'A label is {largest}, the logits have the classes 0..{count - 1}.')
        predicted = scores.argmax(1) if len(labels) else labels
        truth = labels.bincount(minlength=count)
        f1, auc = torch.full((2, count), torch.nan)
        if count > 1 and len(labels):
            seen = truth + predicted.bincount(minlength=count) > 0
            f1 = multiclass_f1_score(predicted, labels, count, average=None).where(seen, torch.nan)
            for k in ((truth > 0) & (truth < len(labels))).nonzero().squeeze(1).tolist():
                auc[k] = binary_auroc(scores[:, k], (labels == k).long())
        return {
            'accuracy': 100 * (predicted == labels).double().mean(),
            'f1': 100 * f1.nanmean(),
            'auc': 100 * auc.nanmean(),
            'F1': 100 * f1,
            'AUC': 100 * auc,
        }
