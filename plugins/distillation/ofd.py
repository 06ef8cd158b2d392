"""OFD: features before their rectifier, compared where the difference survives it."""

import torch
from torch import Tensor

from registry import PLUGINS

from .fitnet import FeatureDistillation


def negative_margin(teacher: Tensor) -> Tensor:
    """(D,): the mean of the negative values of each channel of (B, D, ...); 0 where there are none."""
    x = teacher.transpose(0, 1).flatten(1)
    return x.clamp(max=0).sum(1) / (x < 0).sum(1).clamp(min=1)


def ofd_loss(student: Tensor, teacher: Tensor, margin: Tensor | None = None) -> Tensor:
    """The mean of the partial squared difference to ``max(teacher, margin)``: 0 where the student lies below a target
    that is not positive (OFD, Heo et al., ICCV 2019, Eq. 2 and 5).

    Args:
        student: (B, D, ...), before the rectifier.
        teacher: Of the same shape.
        margin: (D,) not positive; `negative_margin` of the teacher by default.
    """
    margin = negative_margin(teacher) if margin is None else margin
    target = torch.maximum(teacher, margin.view(-1, *[1] * (teacher.ndim - 2)))
    silent = (student <= target) & (target <= 0)
    return (student - target).square().masked_fill(silent, 0).mean()


@PLUGINS.register_module()
class OFD(FeatureDistillation):
    """Adds ``loss_ofd``: `ofd_loss` of features, of a student behind a linear layer (Heo et al., ICCV 2019).

    Differences to the paper: one point, the last, is compared, not one of each stage; the margin is counted in the
    batch, since what goes into the last rectifier of a ResNet is no output of a batch norm from which it could be
    derived; the linear layer has a bias instead of a batch norm behind it.

    Args:
        teaching: See `Distillation`.
    """

    key = 'loss_ofd'
    always = True

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """`ofd_loss`."""
        return ofd_loss(student, teacher)
