"""Pyramid pooling of the coarsest map: the context module of ESANet."""

import re
from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import NECKS, InputError, unknown_name

from ..layers import conv_norm_act, he_init_
from ..rows import running_statistics

KINDS = ('ppm', 'ppm-1-2-4-8', 'appm', 'appm-1-2-4-8')
MODES = ('nearest', 'bilinear')


@NECKS.register_module()
class PyramidContext(nn.Module):
    """Pools the coarsest map to a few grids, resizes these to its size, joins them with it and mixes all to one width
    (PSPNet's pyramid pooling, Zhao et al., CVPR 2017, as in ESANet, arXiv:2011.06961); the other maps pass.

    Adaptive grids grow with the input: an image of twice the training size is pooled to twice as many cells along each
    side, so that a cell covers as much as in training. The factor is rounded and, unlike ESANet's, at least 1: below
    half the training size its own would pool to nothing.

    Args:
        in_channels: Width of each map, finest first.
        reductions: Size of the input over that of each map.
        kind: ``'ppm'`` (grids of 1 and 5), ``'appm'`` (the same, adaptive), or one of these with other grids:
            ``'ppm-1-2-4-8'``, ``'appm-1-2-4-8'``, ``'ppm-1-3-6'``.
        width: Of the new map.
        upsampling: ``'nearest'``, which ESANet uses where its decoder's upsampling is learned, or ``'bilinear'``.
        train_size: Height and width of the training images in pixels; needed by adaptive grids.
        he_init: Start from He's initialisation, as ESANet does where its encoders are not pretrained.

    Attributes:
        out_channels: Width of each map.
        reductions: As given.

    Raises:
        NameNotFound: Another kind or upsampling.
        InputError: More grids than channels, or adaptive grids without a training size that has room for a map.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        reductions: Sequence[int],
        kind: str = 'ppm',
        width: int = 512,
        upsampling: str = 'nearest',
        train_size: int | Sequence[int] | None = None,
        he_init: bool = False,
    ) -> None:
        super().__init__()
        found = re.fullmatch(r'(a?)ppm((?:-[1-9]\d*)*)', kind)
        if not found:
            raise unknown_name('kind of PyramidContext', kind, KINDS)
        if upsampling not in MODES:
            raise unknown_name('upsampling of PyramidContext', upsampling, MODES)
        self.bins = tuple(int(b) for b in found[2].split('-')[1:]) or (1, 5)
        self.upsampling = upsampling
        self.reductions = list(reductions)
        self.out_channels = [*in_channels[:-1], width]
        self.train_map = _map_size(train_size, reductions[-1], kind) if found[1] else None
        channels = in_channels[-1]
        if channels < len(self.bins):
            raise InputError(
                f'{kind} of PyramidContext needs a channel for each grid, the coarsest map has {channels}.'
            )
        self.branches = nn.ModuleList(conv_norm_act(channels, channels // len(self.bins)) for _ in self.bins)
        joined = channels + len(self.bins) * (channels // len(self.bins))
        self.mix = conv_norm_act(joined, width)
        if he_init:
            he_init_(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps, finest first -> the same with another coarsest one, (B, width, h, w)."""
        *finer, x = maps
        size = x.shape[2:]
        align = False if self.upsampling == 'bilinear' else None
        parts = [x]
        for branch, grid in zip(self.branches, self.grids(size)):
            pooled = F.adaptive_avg_pool2d(x, grid)
            # a batch of one has one value per channel here, and no variance
            lone = self.training and len(x) * grid[0] * grid[1] < 2
            with running_statistics(branch) if lone else nullcontext():
                part = branch(pooled)
            parts.append(F.interpolate(part, size, mode=self.upsampling, align_corners=align))
        return [*finer, self.mix(torch.cat(parts, 1))]

    def grids(self, size: Sequence[int]) -> list[tuple[int, int]]:
        """Cells along height and width of each grid, for a map of this size."""
        h, w = (1, 1) if self.train_map is None else (_factor(s, t) for s, t in zip(size, self.train_map))
        return [(b * h, b * w) for b in self.bins]


def _factor(side: int, trained: int) -> int:
    return max(1, (2 * side + trained) // (2 * trained))  # floor(side / trained + 1 / 2), in whole numbers


def _map_size(train_size: int | Sequence[int] | None, reduction: int, kind: str) -> tuple[int, int]:
    size = (train_size, train_size) if isinstance(train_size, int) else tuple(train_size or ())
    if len(size) != 2 or min(size) < reduction:
        raise InputError(
            f'{kind} of PyramidContext needs train_size, height and width of the training images in pixels, each at '
            f'least {reduction}, got {train_size!r}.'
        )
    return size[0] // reduction, size[1] // reduction
