"""The discrete cosine transform of feature maps."""

import math

import torch
from torch import Tensor, nn

from ..precision import widened

AXES = ('channel', 'spatial')


def cosine_matrix(n: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """The orthonormal DCT-II of length n as a matrix (n, n), one frequency a row.

    >>> cosine_matrix(2)
    tensor([[ 0.7071,  0.7071],
            [ 0.7071, -0.7071]])
    """
    place = torch.arange(n, dtype=torch.float64, device=device)
    matrix = torch.cos(torch.outer(place, 2 * place + 1) * (math.pi / (2 * n))) * math.sqrt(2 / n)
    matrix[0] = math.sqrt(1 / n)
    return matrix.to(dtype)


class Cosine(nn.Module):
    """The orthonormal DCT-II of maps, in single precision at least: (B, C, H, W) -> (B, C, H, W).

    Args:
        axis: ``'channel'``, over the channels of each place, or ``'spatial'``, over both sides of each channel.
    """

    def __init__(self, axis: str = 'channel') -> None:
        super().__init__()
        self.axis = axis
        # no buffers: a pass must not change which ones a host has, moving averages pair them by their order
        self._matrices: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """The transform."""
        return self._apply_to(widened(x), inverse=False)

    def inverse(self, x: Tensor) -> Tensor:
        """What was transformed."""
        return self._apply_to(widened(x), inverse=True)

    def _apply_to(self, x: Tensor, inverse: bool) -> Tensor:
        def matrix(n: int) -> Tensor:
            return self._matrix(n, x).T if inverse else self._matrix(n, x)

        if self.axis == 'spatial':
            return matrix(x.shape[2]) @ x @ matrix(x.shape[3]).T
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
            return (x.movedim(1, -1) @ matrix(x.shape[1]).T).movedim(-1, 1)  # keeps the order in memory
        over_channels = matrix(x.shape[1]).expand(len(x), -1, -1)  # expanded, or matmul would transpose a copy of x
        return torch.bmm(over_channels, x.flatten(2)).view_as(x)

    def _matrix(self, n: int, like: Tensor) -> Tensor:
        key = n, like.device, like.dtype
        if key not in self._matrices:
            with torch.inference_mode(False):  # training may be next to use it
                self._matrices[key] = cosine_matrix(*key)
        return self._matrices[key]
