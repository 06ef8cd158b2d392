"""What a gate between fusion paths shall look like."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.precision import widened


def mean_gate(gates: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """The mean of gates (B, 1, h, w), each resized to (H, W) bilinearly: (B, 1, H, W).

    >>> mean_gate([torch.full((1, 1, 2, 2), 0.25), torch.full((1, 1, 1, 1), 0.75)], (2, 2)).tolist()
    [[[[0.5, 0.5], [0.5, 0.5]]]]
    """
    resized = [F.interpolate(g, tuple(size), mode='bilinear', align_corners=False) for g in gates]
    return torch.stack(resized).mean(0)


def gate_regulariser(gate: Tensor, eta: float = 0.3, entropy_sign: float = -1.0) -> Tensor:
    """The regulariser R of ISFuse (arXiv:2603.23272, Eq. 11): the mean over the samples of
    ``|mean(gate) - eta| + entropy_sign * mean(H2(gate))``, H2 being the binary entropy in nats.

    The paper says that the second term makes the gate binary. With the sign of the authors' code, -1, it is the
    opposite: entropy grows, and of constant gates ``eta`` itself is the best for eta within 0.26894..0.73106. A sign of
    1 does what the text says. It computes in float32 at least: 1 - 1e-6 is 1 in half precision.

    >>> round(gate_regulariser(torch.full((2, 1, 4, 6), 0.3)).item(), 6)
    -0.610864

    Args:
        gate: (B, ...) in [0, 1].
        eta: The mean that is asked for.
        entropy_sign: -1 or 1.
    """
    g = widened(gate).flatten(1).clamp(1e-6, 1 - 1e-6)
    entropy = -(g * g.log() + (1 - g) * (1 - g).log()).mean()
    return (widened(gate).flatten(1).mean(1) - eta).abs().mean() + entropy_sign * entropy
