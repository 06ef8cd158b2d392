"""AttentionFeatures: each stage of a teacher is matched with the stages of the student that attention picks."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import PLUGINS, InputError
from zoo.host import MultimodalHost

from .distillation import Distillation, Knowledge
from .places import Stages


def attention_maps(x: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Where a map (B, C, H, W) is strong: the mean square over channels at each of these sizes, as vectors (B, H * W)
    of length 1."""
    energy = x.square().mean(1, keepdim=True)
    sized = [energy if energy.shape[2:] == size else F.adaptive_avg_pool2d(energy, size) for size in sizes]
    return [F.normalize(e.flatten(1), dim=1) for e in sized]


class StageAttention(nn.Module):
    """Which stages of the student each stage of the teacher looks at.

    Args:
        student: Widths of the student's stages.
        teacher: Widths of the teacher's stages.
        dim: Width of queries and keys.
    """

    def __init__(self, student: Sequence[int], teacher: Sequence[int], dim: int) -> None:
        super().__init__()
        self.keys = nn.ModuleList(nn.Linear(c, dim) for c in student)
        self.queries = nn.ModuleList(nn.Linear(c, dim) for c in teacher)
        self.bilinear = nn.Linear(dim, dim, bias=False)
        self.student_stage = nn.Parameter(torch.randn(len(student), dim) * dim**-0.5)
        self.teacher_stage = nn.Parameter(torch.randn(len(teacher), dim) * dim**-0.5)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Maps of both -> (B, T, S), rows that add up to 1."""
        keys = torch.stack([f(x.flatten(2).mean(2)) for f, x in zip(self.keys, student)], 1)
        queries = torch.stack([f(x.flatten(2).mean(2)) for f, x in zip(self.queries, teacher)], 1)
        scores = self.bilinear(queries) @ keys.mT + self.teacher_stage @ self.student_stage.T
        return (scores / keys.shape[2] ** 0.5).softmax(2)


def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The squared difference of the attention map of each stage of the teacher and each of the student, averaged over
    places, weighted by ``weights`` (B, T, S) and added up over both; the student's maps are brought to the teacher's
    sizes (Ji et al., AAAI 2021, Eq. 5)."""
    sizes = [tuple(t.shape[2:]) for t in teacher]
    targets = [attention_maps(t, [size])[0] for t, size in zip(teacher, sizes)]
    apart = [
        torch.stack([(x - target).square().mean(1) for x, target in zip(attention_maps(s, sizes), targets)], 1)
        for s in student
    ]
    return (weights * torch.stack(apart, 2)).sum((1, 2)).mean()


@PLUGINS.register_module()
class AttentionFeatures(Distillation):
    """Adds ``loss_attention``: attention-based feature matching of all stages (Ji et al., AAAI 2021, who call it AFD).

    FD-CMKD compares itself with an ``AFD`` that it neither explains nor cites; this is the method of that name. Linear
    layers without batch norm for queries and keys, and one bilinear form for all pairs of stages, are ours.

    Args:
        dim: Width of queries and keys.
        teaching: See `Distillation`; ``features`` are all stages.

    Raises:
        InputError: A width below 1, or a network without stages that give maps; see `Distillation`.
    """

    def __init__(self, dim: int = 128, **teaching: Any) -> None:
        super().__init__(**teaching)
        if not isinstance(dim, int) or dim < 1:
            raise InputError(f'dim must be an integer of at least 1, got {dim!r}.')
        self.dim = dim

    def make_place(self, host: MultimodalHost, modality: str | None, name: str | None, who: str) -> Stages:
        """All stages of an encoder.

        Raises:
            InputError: A place was named.
        """
        if name is not None:
            raise InputError(f'{self.name} reads all stages, there is no place to choose (features={name!r}).')
        return Stages(host, modality, who)

    def make_parts(self, student: Any, teacher: Any, classes: int) -> nn.Module:
        """The attention."""
        return StageAttention(student, teacher, self.dim)

    def terms(self, parts: nn.Module | None, student: Knowledge, teacher: Knowledge, target: Any) -> dict[str, Tensor]:
        """`attention_loss`."""
        weights = parts(student.features, teacher.features)
        return {'loss_attention': attention_loss(student.features, teacher.features, weights)}
