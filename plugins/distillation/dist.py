"""DIST: distillation of correlations, which a stronger teacher's probabilities keep."""

from typing import Any

import torch
from torch import Tensor

from registry import PLUGINS

from .distillation import check_weight, mean
from .logits import LogitDistillation


def correlation(x: Tensor, y: Tensor, dim: int, weights: Tensor | None = None) -> Tensor:
    """Pearson's correlation of two matrices (N, K) along ``dim``; 0, without gradient, where one does not vary.

    >>> correlation(Tensor([[1.0, 2.0, 4.0]]), Tensor([[2.0, 4.0, 8.0]]), 1)
    tensor([1.])

    Args:
        x: (N, K).
        y: (N, K).
        dim: 1, within rows, gives (N,); 0, within columns, (K,).
        weights: (N,) of the rows; used within columns.
    """
    w = x.new_ones(len(x)) if weights is None or dim == 1 else weights
    w = (w / w.sum().clamp(min=1))[:, None] if dim == 0 else 1 / x.shape[1]
    x, y = (z - (z * w).sum(dim, keepdim=True) for z in (x, y))
    xx, yy, xy = ((a * w * b).sum(dim) for a, b in ((x, x), (y, y), (x, y)))
    varies = (xx > 1e-12) & (yy > 1e-12)
    return torch.where(varies, xy, 0) / torch.where(varies, xx * yy, 1).sqrt()


def dist_loss(
    student: Tensor,
    teacher: Tensor,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """``beta`` times one minus the correlation of the probabilities within each sample, ``gamma`` times that of each
    class over the samples, both averaged (DIST, Huang et al., NeurIPS 2022, Eq. 9, times T^2).

    Args:
        student: Logits (N, K).
        teacher: Logits (N, K).
        beta: Weight of the relations between classes.
        gamma: Weight of the relations within a class; a batch of one has none.
        temperature: T, above 0.
        weights: (N,) 1 for rows that count, else 0; None for all.
    """
    s, t = ((z / temperature).softmax(1) for z in (student, teacher))
    between = mean(1 - correlation(s, t, 1), weights)
    within = (1 - correlation(s, t, 0, weights)).mean()
    counted = len(s) if weights is None else weights.sum()
    within = torch.where(torch.as_tensor(counted, device=s.device) > 1, within, 0 * within)
    return temperature**2 * (beta * between + gamma * within)


@PLUGINS.register_module()
class DIST(LogitDistillation):
    """Adds ``loss_dist``: `dist_loss` between the predictions of teacher and student (Huang et al., NeurIPS 2022).

    Of maps each pixel is a sample.

    Args:
        beta: Weight of the relations between classes.
        gamma: Weight of the relations within a class.
        temperature: T.
        teaching: See `LogitDistillation`.

    Raises:
        InputError: A weight below 0, or a temperature below 0.001; see `Distillation`.
    """

    key = 'loss_dist'

    def __init__(self, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0, **teaching: Any) -> None:
        super().__init__(**teaching)
        self.beta, self.gamma = check_weight('beta', beta), check_weight('gamma', gamma)
        self.temperature = check_weight('temperature', temperature, 1e-3)

    def loss(self, student: Tensor, teacher: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """`dist_loss`."""
        return dist_loss(student, teacher, self.beta, self.gamma, self.temperature, weights)
