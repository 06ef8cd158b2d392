"""DKD: decoupled distillation of the target class and of the others."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from registry import PLUGINS

from .distillation import check_weight, mean
from .logits import LogitDistillation


def others(logits: Tensor, target: Tensor) -> Tensor:
    """Logits (N, K) without that of the target (N,): (N, K - 1)."""
    n, k = logits.shape
    index = torch.arange(k - 1, device=logits.device).expand(n, -1)
    return logits.gather(1, index + (index >= target[:, None]))


def dkd_loss(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    weights: Tensor | None = None,
) -> Tensor:
    """``alpha`` times the divergence of the two probabilities target and not target, ``beta`` times that of the classes
    that are not the target among themselves, times T^2 (DKD, Zhao et al., CVPR 2022, Eq. 7).

    With ``alpha`` 1 and ``beta`` ``1 - p_teacher[target]`` for each sample it is `kl_loss`.

    Args:
        student: Logits (N, K).
        teacher: Logits (N, K).
        target: (N,) classes.
        alpha: Weight of the target.
        beta: Weight of the others; independent of the teacher's probability of the target. With two classes they are
            one, and have no divergence.
        temperature: T, above 0.
        weights: (N,) of each row; None for one each.
    """

    def parts(z: Tensor) -> tuple[Tensor, Tensor]:
        z = z / temperature
        rest = others(z, target)
        pair = torch.stack([z.gather(1, target[:, None])[:, 0], rest.logsumexp(1)], 1)
        return F.log_softmax(pair, 1), F.log_softmax(rest, 1)

    (t_pair, t_rest), (s_pair, s_rest) = parts(teacher), parts(student)
    binary, rest = ((p.exp() * (p - q)).sum(1) for p, q in ((t_pair, s_pair), (t_rest, s_rest)))
    return temperature**2 * mean(alpha * binary + beta * rest, weights)


@PLUGINS.register_module()
class DKD(LogitDistillation):
    """Adds ``loss_dkd``: `dkd_loss` between the predictions of teacher and student (Zhao et al., CVPR 2022).

    Args:
        alpha: Weight of the target.
        beta: Weight of the other classes.
        temperature: T.
        teaching: See `LogitDistillation`.

    Raises:
        InputError: A weight below 0, or a temperature below 0.001; see `Distillation`.
    """

    key = 'loss_dkd'
    least_classes = 2

    def __init__(self, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0, **teaching: Any) -> None:
        super().__init__(**teaching)
        self.alpha, self.beta = check_weight('alpha', alpha), check_weight('beta', beta)
        self.temperature = check_weight('temperature', temperature, 1e-3)

    def loss(self, student: Tensor, teacher: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """`dkd_loss`."""
        return dkd_loss(student, teacher, target, self.alpha, self.beta, self.temperature, weights)
