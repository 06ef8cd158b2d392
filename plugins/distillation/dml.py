"""DML: two networks that learn together and from each other."""

from torch import Tensor

from registry import PLUGINS

from .logit_kd import kl_loss
from .logits import LogitDistillation


@PLUGINS.register_module()
class DML(LogitDistillation):
    """Deep mutual learning (Zhang et al., CVPR 2018): adds ``loss_dml``, the divergence of each network's prediction
    from the other's, which is detached, in both directions.

    The teacher is a peer: trained along with its own losses (``loss_..._teacher``), in training mode, from its
    checkpoint where one is given, and gone from ``best.pth``. Without a teacher the peers are two modalities of the
    host, whose auxiliary losses train them.

    Args:
        teaching: See `LogitDistillation`.
    """

    key = 'loss_dml'
    trains_teacher = True
    needs_checkpoint = False

    def loss(self, student: Tensor, teacher: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """`kl_loss` both ways."""
        return kl_loss(student, teacher.detach(), 1.0, weights) + kl_loss(teacher, student.detach(), 1.0, weights)
