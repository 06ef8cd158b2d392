"""How true a fused image is to its sources: their intensities, and the strongest of their edges."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from registry import LOSSES, InputError, unknown_name
from zoo.precision import widened

PADS = ('zeros', 'replicate')
REDUCTIONS = ('mean', 'none')


def laplacian(x: Tensor, pad: str = 'zeros') -> Tensor:
    """The absolute response to the Laplacian of eight neighbours (eight ones around -8), (..., H, W).

    >>> import torch
    >>> laplacian(torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 9.0]]])).round().tolist()
    [[[0.0, 9.0, 9.0], [0.0, 9.0, 72.0]]]

    Args:
        x: Images of any range.
        pad: ``'zeros'``, or ``'replicate'``, under which the border of a flat image is no edge.
    """
    if pad == 'replicate':
        x = F.pad(x, (1, 1, 1, 1), mode='replicate')
    mean = F.avg_pool2d(x, 3, stride=1, padding=int(pad == 'zeros'))
    centre = x if pad == 'zeros' else x[..., 1:-1, 1:-1]
    return (9 * (mean - centre)).abs()


def fidelity(
    fused: Tensor, sources: Tensor, present: Tensor | None = None, pad: str = 'zeros'
) -> tuple[Tensor, Tensor]:
    """The two parts of `FusionFidelity` for each sample.

    Args:
        fused: (B, 1, H, W).
        sources: (B, M, H, W); what an absent one holds has no influence.
        present: (B, M) bool; None for all.
        pad: See `laplacian`.

    Returns:
        intensity: (B,) sum over the present sources of the mean absolute difference.
        edges: (B,) mean absolute difference from the largest of their Laplacians.
    """
    fused, sources = widened(fused), widened(sources)
    if present is not None:
        sources = sources.where(present[..., None, None], 0)
    difference = (fused - sources).abs().mean((2, 3))
    if present is not None:
        difference = difference.where(present, 0)
    strongest = laplacian(sources, pad).amax(1, keepdim=True)  # that of an absent one is 0, the least there can be
    return difference.sum(1), (laplacian(fused, pad) - strongest).abs().mean((1, 2, 3))


@LOSSES.register_module()
class FusionFidelity(nn.Module):
    """The fidelity of ISFuse (arXiv:2603.23272, Eq. 10): a fused image has the intensities of all sources and the
    strongest of their edges.

    With means over all pixels, the absolute Laplacian L, and the sources m that a sample has, it is
    ``sum_m |I - I_m| + weight * | L(I) - max_m L(I_m) |``. The first part can not be 0 where sources differ: of two it
    is at least their mean difference. It computes in float32 under autocast too.

    Args:
        weight: Of the edges, at least 0.
        pad: See `laplacian`; the authors pad with zeros, so that the border of a bright image is an edge.
        reduction: ``'mean'``, or ``'none'`` for one value of each sample.

    Raises:
        InputError: A weight that is no such number.
        NameNotFound: An unknown padding or reduction.
    """

    def __init__(self, weight: float = 1.0, pad: str = 'zeros', reduction: str = 'mean') -> None:
        super().__init__()
        if not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise InputError(f'weight of FusionFidelity must be finite and not negative, got {weight!r}.')
        if pad not in PADS:
            raise unknown_name('padding of FusionFidelity (pad)', pad, PADS)
        if reduction not in REDUCTIONS:
            raise unknown_name('reduction of FusionFidelity', reduction, REDUCTIONS)
        self.weight, self.pad, self.reduction = weight, pad, reduction

    def forward(self, prediction: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
        """-> () for ``'mean'``, (B,) for ``'none'``; arguments as in `fidelity`."""
        intensity, edges = fidelity(prediction, target, present, self.pad)
        losses = intensity + self.weight * edges
        return losses.mean() if self.reduction == 'mean' else losses
