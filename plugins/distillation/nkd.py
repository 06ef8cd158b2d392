"""NKD: distillation with non-target probabilities that add up to one."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from registry import PLUGINS

from .distillation import check_weight, mean
from .dkd import others
from .logits import LogitDistillation


def nkd_loss(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    gamma: float = 1.5,
    temperature: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """``-p_t[y] log p_s[y]``, at temperature 1, plus ``gamma`` T^2 times the cross-entropy of the distributions over
    the other classes, each normalised on its own (NKD, Yang et al., ICCV 2023, Eq. 8).

    Args:
        student: Logits (N, K).
        teacher: Logits (N, K).
        target: (N,) classes y.
        gamma: Weight of the other classes.
        temperature: T of the other classes, above 0.
        weights: (N,) of each row; None for one each.
    """
    at = target[:, None]
    own = -teacher.softmax(1).gather(1, at) * F.log_softmax(student, 1).gather(1, at)
    t, s = (others(z, target) / temperature for z in (teacher, student))
    rest = -(t.softmax(1) * F.log_softmax(s, 1)).sum(1)
    return mean(own[:, 0] + gamma * temperature**2 * rest, weights)


@PLUGINS.register_module()
class NKD(LogitDistillation):
    """Adds ``loss_nkd``: `nkd_loss` between the predictions of teacher and student (Yang et al., ICCV 2023).

    Args:
        gamma: Weight of the other classes.
        temperature: T of the other classes.
        teaching: See `LogitDistillation`.

    Raises:
        InputError: A weight below 0, or a temperature below 0.001; see `Distillation`.
    """

    key = 'loss_nkd'
    least_classes = 2

    def __init__(self, gamma: float = 1.5, temperature: float = 1.0, **teaching: Any) -> None:
        super().__init__(**teaching)
        self.gamma = check_weight('gamma', gamma)
        self.temperature = check_weight('temperature', temperature, 1e-3)

    def loss(self, student: Tensor, teacher: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """`nkd_loss`."""
        return nkd_loss(student, teacher, target, self.gamma, self.temperature, weights)
