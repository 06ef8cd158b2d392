"""The error rates of face anti-spoofing."""

import torch
from torch import Tensor

from registry import METRICS, InputError
from zoo.batch import Batch, Outputs

from .distributed import all_gather, all_reduce_sum
from .metric import Metric


@METRICS.register_module()
class FaceAntiSpoofing(Metric):
    """Accuracy and the error rates of presentation attack detection (ISO/IEC 30107-3), in percent.

    At the larger of two logits: ``apcer``, the attacks that are taken for real faces; ``bpcer``, the real faces that
    are taken for attacks; and ``acer``, their mean, which at this threshold is also HTER. Attacks are one class: APCER
    by kind of attack, of which the standard takes the largest, needs labels that CASIA-SURF's lists do not have. The
    code of MMANet swaps the two names; ACER is the same.

    ``tpr@fpr``: the real faces that are accepted at the lowest threshold that lets through at most ``fpr`` of the
    attacks, CASIA-SURF's own measure (1e-4). Of fewer than ``1 / fpr`` attacks none may pass then.

    Args:
        real: The label of real faces: 1, or 0.
        fpr: See above, in [0, 1).

    Raises:
        InputError: A value outside its range.
    """

    task = 'classification'
    name = 'accuracy'
    also = ('acer', 'tpr@fpr')  # two columns fit a terminal; files have all

    def __init__(self, real: int = 1, fpr: float = 1e-4) -> None:
        super().__init__()
        if real not in (0, 1):
            raise InputError(f'real is the label of real faces, 0 or 1, got {real!r}.')
        if not 0 <= fpr < 1:
            raise InputError(f'fpr must be in [0, 1), got {fpr!r}.')
        self.real, self.fpr = real, fpr
        self.register_buffer('confusion', torch.zeros(2, 2, dtype=torch.float64), persistent=False)  # true, predicted
        self.register_buffer('wrong', torch.zeros((), dtype=torch.int64), persistent=False)  # labels of no class
        self.scores: list[Tensor] = []  # of each batch (2, B): the lead of the real class, and whether it is right

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Logits (B, 2), class indices (B,).

        Raises:
            InputError: Logits of another number of classes.
        """
        logits = outputs.prediction
        if logits.ndim != 2 or logits.shape[1] != 2:
            raise InputError(f'FaceAntiSpoofing takes logits (B, 2), of attack and real, got {tuple(logits.shape)}.')
        valid = (batch.target == 0) | (batch.target == 1)
        self.wrong += (~valid).sum()
        codes = batch.target.where(valid, 0) * 2 + logits.argmax(1)
        self.confusion.view(-1).index_add_(0, codes, self.confusion.new_ones(()).expand(len(codes)))
        lead = logits[:, self.real] - logits[:, 1 - self.real]
        self.scores.append(torch.stack([lead.double(), (batch.target == self.real).double()]))

    def compute(self) -> dict[str, Tensor]:
        """Percentages by name; NaN where no sample counts.

        Raises:
            InputError: There were labels other than 0 and 1.
        """
        if wrong := int(all_reduce_sum(self.wrong.clone())):
            raise InputError(f'{wrong} samples have labels that are neither 0 nor 1: FaceAntiSpoofing has two classes.')
        confusion = all_reduce_sum(self.confusion.clone())
        attack, real = confusion[1 - self.real], confusion[self.real]
        apcer, bpcer = attack[self.real] / attack.sum(), real[1 - self.real] / real.sum()
        every = [s for part in all_gather([s.cpu() for s in self.scores]) for s in part]
        lead, is_real = torch.cat(every, 1) if every else torch.zeros(2, 0, dtype=torch.float64)
        return {
            'accuracy': 100 * confusion.diag().sum() / confusion.sum(),
            'acer': 50 * (apcer + bpcer),
            'apcer': 100 * apcer,
            'bpcer': 100 * bpcer,
            'tpr@fpr': 100 * true_positive_rate(lead[is_real > 0], lead[is_real == 0], self.fpr),
        }

    @property
    def settings(self) -> dict[str, float]:
        """The false positive rate of ``tpr@fpr``."""
        return {'fpr': self.fpr}


def true_positive_rate(positive: Tensor, negative: Tensor, fpr: float) -> Tensor:
    """The share of positive scores that are above a threshold which at most ``fpr`` of the negative scores are above.

    >>> true_positive_rate(torch.tensor([.9, .6, .4]), torch.tensor([.7, .5, .3, .1]), fpr=.25)
    tensor(0.6667)

    Args:
        positive: (P,).
        negative: (N,).
        fpr: In [0, 1).

    Returns:
        A scalar in [0, 1]; NaN where one of them is empty.
    """
    if not len(positive) or not len(negative):
        return positive.new_tensor(torch.nan)
    allowed = int(fpr * len(negative) + 1e-9)  # 0.29 * 100 is 28.999...
    threshold = negative.sort(descending=True).values[allowed]
    return (positive > threshold).to(positive.dtype).mean()
