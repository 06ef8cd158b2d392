"""FitNet: the student's features are to equal the teacher's."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from registry import PLUGINS
from zoo.fusion import Pointwise

from .distillation import Distillation, Knowledge, alike


class FeatureDistillation(Distillation):
    """Adds one loss of features, which a linear layer brings to the teacher's width where they differ; a subclass
    defines `loss` and ``key``."""

    key = ''  # of the loss
    always = False  # the linear layer is there for equal widths too

    def make_parts(self, student: int, teacher: int, classes: int) -> nn.Module | None:
        """The linear layer on the student's side, a 1x1 convolution of maps."""
        return Pointwise(student, teacher) if self.always or student != teacher else None

    def terms(self, parts: nn.Module | None, student: Knowledge, teacher: Knowledge, target: Any) -> dict[str, Tensor]:
        """The one loss."""
        s, t = alike(student.features, teacher.features)
        return {self.key: self.loss(s if parts is None else parts(s), t)}

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar of two features (B, D, ...) of one shape."""
        raise NotImplementedError


@PLUGINS.register_module()
class FitNet(FeatureDistillation):
    """Adds ``loss_fitnet``: the mean squared difference of features (Romero et al., ICLR 2015), in one stage with the
    task; ``Feat`` of the comparison of FD-CMKD.

    Args:
        teaching: See `Distillation`.
    """

    key = 'loss_fitnet'

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The mean squared error."""
        return F.mse_loss(student, teacher)
