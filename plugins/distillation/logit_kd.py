"""LogitKD: the original distillation of softened class probabilities."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from registry import PLUGINS

from .distillation import check_weight, mean
from .logits import LogitDistillation


def kl_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0, weights: Tensor | None = None) -> Tensor:
    """``T^2 KL(p_teacher || p_student)`` of the softmax at temperature T, averaged over rows.

    >>> kl_loss(Tensor([[0.0, 0.0]]), Tensor([[0.0, 100.0]]))
    tensor(0.6931)

    Args:
        student: Logits (N, K).
        teacher: Logits (N, K).
        temperature: T, above 0.
        weights: (N,) of each row; None for one each.
    """
    p, q = (F.log_softmax(z / temperature, 1) for z in (teacher, student))
    return temperature**2 * mean((p.exp() * (p - q)).sum(1), weights)


@PLUGINS.register_module()
class LogitKD(LogitDistillation):
    """Adds ``loss_kd``: `kl_loss` between the predictions of teacher and student (Hinton et al., 2015).

    Args:
        temperature: T, at least 0.001.
        teaching: See `LogitDistillation`.

    Raises:
        InputError: Another temperature; see `Distillation`.
    """

    key = 'loss_kd'

    def __init__(self, temperature: float = 4.0, **teaching: Any) -> None:
        super().__init__(**teaching)
        self.temperature = check_weight('temperature', temperature, 1e-3)

    def loss(self, student: Tensor, teacher: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """`kl_loss`."""
        return kl_loss(student, teacher, self.temperature, weights)
