"""Base of plugins that distil logits: one row for each sample, pixel or voxel."""

import torch
from torch import Tensor, nn

from registry import InputError

from ..taught import Source
from .distillation import Distillation, Knowledge, alike, as_rows, counted


class LogitDistillation(Distillation):
    """Adds one loss of logits; a subclass defines `loss` and ``key``.

    Logits of maps are compared place by place, the teacher's brought to the student's size; places whose label is to be
    ignored do not count.

    Args:
        teacher: See `Distillation`, as for all others.
        checkpoint: The teacher's weights.
        weight: Of the loss.
        teacher_modality: Which modality teaches.
        student_modality: Which modality learns.
        mutual: Whether the two modalities of one host teach each other.
        name: See `Plugin`.
    """

    reads = frozenset({'logits'})
    key = ''  # of the loss
    least_classes = 1

    def __init__(
        self,
        teacher: Source | None = None,
        checkpoint: str | None = None,
        weight: float = 1.0,
        teacher_modality: str | None = None,
        student_modality: str | None = None,
        mutual: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(teacher, checkpoint, weight, teacher_modality, student_modality, mutual=mutual, name=name)

    def make_parts(self, student: int, teacher: int, classes: int) -> None:
        """Nothing.

        Raises:
            InputError: Too few classes.
        """
        if classes < self.least_classes:
            raise InputError(f'{self.name} needs at least {self.least_classes} classes, the host has {classes}.')

    def terms(
        self, parts: nn.Module | None, student: Knowledge, teacher: Knowledge, target: Tensor | None
    ) -> dict[str, Tensor]:
        """The one loss."""
        s, t = alike(student.logits, teacher.logits)
        s, t = as_rows(s), as_rows(t)
        target = torch.zeros(len(s), dtype=torch.long, device=s.device) if target is None else target.reshape(-1)
        return {self.key: self.loss(s, t, *counted(target, self.ignore_index, s.dtype))}

    def loss(self, student: Tensor, teacher: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """A scalar.

        Args:
            student: (N, K).
            teacher: (N, K), detached unless it is trained along.
            target: (N,) classes; 0 where it is to be ignored.
            weights: (N,) 1 for rows that count, else 0.
        """
        raise NotImplementedError
