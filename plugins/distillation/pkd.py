"""PKD: features are compared after each channel has been standardised."""

import torch
from torch import Tensor

from registry import PLUGINS

from .fitnet import FeatureDistillation


def pkd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half of the mean squared difference of features whose channels have mean 0 and variance 1 over samples and
    places: one minus their correlation, averaged over channels (PKD, Cao et al., NeurIPS 2022, Eq. 4).

    >>> x = torch.randn(8, 3)
    >>> pkd_loss(5 * x + 2, x).abs() < 1e-6
    tensor(True)

    Args:
        student: (B, D, ...).
        teacher: Of the same shape. A channel that does not vary, in a batch of one vector for instance, counts as 0.
    """
    return (channels(student) - channels(teacher)).square().mean() / 2


def channels(x: Tensor) -> Tensor:
    """(B, D, ...) -> (D, N), each row with mean 0 and variance 1, or 0 where it does not vary."""
    x = x.transpose(0, 1).flatten(1)
    x = x - x.mean(1, keepdim=True)
    variance = x.square().mean(1, keepdim=True)
    varies = variance > 1e-10
    return torch.where(varies, x, 0) / torch.where(varies, variance, 1).sqrt()


@PLUGINS.register_module()
class PKD(FeatureDistillation):
    """Adds ``loss_pkd``: `pkd_loss` of features (Cao et al., NeurIPS 2022).

    Args:
        teaching: See `Distillation`.
    """

    key = 'loss_pkd'

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """`pkd_loss`."""
        return pkd_loss(student, teacher)
