"""The loss of RFNet and mmFormer: Dice, and a cross-entropy weighted by how rare a class is in its sample."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import LOSSES, InputError
from zoo.datasets import IGNORE


@LOSSES.register_module()
class DiceWCE(nn.Module):
    """Weighted cross-entropy plus Dice of class logits (RFNet, Ding et al., ICCV 2021; mmFormer, arXiv:2206.02425).

    With probabilities p, one-hot labels t, and N labelled elements in the batch:

    * cross-entropy ``-1/N sum_{b,v,c} w[b,c] t_c log p_c`` with ``w[b,c] = 1 - |t[b,c]| / sum_c |t[b,c]|``: a class
      weighs the less the more of its sample it fills, and nothing where it fills all;
    * Dice ``1 - 1/K sum_c 2 sum p_c t_c / (sum p_c + sum t_c + 1e-7)``, sums over the batch and all positions, the
      background included. A class that the batch lacks costs a constant 1/K.

    The official code takes the logarithm of ``clamp(p, 0.005, 1)``, so that elements which are wrong with confidence
    give no gradient; here it is that of the softmax, and ``floor=0.005`` is the official form. Ignored elements count
    nowhere. It computes in float32 under autocast too, and it is a loss of a set: it has no ``reduction``.

    >>> DiceWCE()(torch.zeros(1, 2, 1, 1, 2), torch.tensor([[[[0, 1]]]])).item()  # 0.5 ln 2 + 0.5
    0.8465735912322998

    Args:
        floor: Of the probability inside the logarithm, in [0, 1).
        ignore_index: The class index that does not count.

    Raises:
        InputError: ``floor`` is outside its range.
    """

    def __init__(self, floor: float = 0.0, ignore_index: int = IGNORE) -> None:
        super().__init__()
        if not isinstance(floor, (int, float)) or not 0 <= floor < 1:
            raise InputError(f'floor of DiceWCE must be in [0, 1), got {floor!r}.')
        self.floor, self.ignore_index = floor, ignore_index

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """-> (); 0 with a gradient of zero where nothing is labelled.

        Args:
            prediction: (B, K, ...) logits, or log-probabilities, which are logits too.
            target: (B, ...) class indices.

        Raises:
            InputError: A label is no class. On a GPU, where to look would be to wait, the loss is NaN then.
        """
        logs = F.log_softmax(prediction.float() if prediction.dtype != torch.float64 else prediction, 1).flatten(2)
        labels = target.flatten(1)[:, None]
        classes = torch.arange(prediction.shape[1], device=target.device)[:, None]
        counts = labels != self.ignore_index
        is_class = labels == classes  # (B, K, V)
        size = is_class.sum(2)  # (B, K)
        known = size.sum() == counts.sum()
        if target.device.type == 'cpu' and not torch.compiler.is_compiling() and not known:
            is_wrong = (labels != classes).all(1, keepdim=True) & counts
            raise InputError(
                f'Label {int(labels[is_wrong][0])} is out of range, expected 0..{prediction.shape[1] - 1}, or '
                f'{self.ignore_index} where none is known.'
            )
        size = size.to(logs.dtype)
        probabilities = logs.exp()
        weights = 1 - size / size.sum(1, keepdim=True).clamp(min=1)
        floored = probabilities.clamp(min=self.floor).log() if self.floor else logs
        entropy = -(weights * floored.masked_fill(~is_class, 0).sum(2)).sum() / counts.sum().clamp(min=1)
        shared = probabilities.masked_fill(~is_class, 0).sum((0, 2))
        dice = 2 * shared / (probabilities.masked_fill(~counts, 0).sum((0, 2)) + size.sum(0) + 1e-7)
        return (entropy + 1 - dice.mean()).where(counts.any(), 0).where(known, torch.nan)
