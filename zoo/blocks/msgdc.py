"""Convolutions of several sizes side by side: the cheap core of MAIL."""

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor, nn

from registry import InputError, unknown_name


class MSGDC(nn.Module):
    """Multi-scale group and depthwise convolution (MAIL, Dhar et al., KDD 2026, Fig. 3 G; after the depthwise MSDC of
    EMCAD, Rahman et al., CVPR 2024): (B, C_in, H, W) -> (B, C_out, H / s, W / s).

    A grouped pointwise convolution and one depthwise convolution for each kernel size read the same input; their
    results are concatenated, shuffled among the groups and mixed by a grouped pointwise convolution. Nothing between
    these is normalised or bent unless ``branch_norm`` says so. Where a width is no multiple of a number of groups,
    their greatest common divisor takes its place.

    Args:
        in_channels: C_in.
        out_channels: C_out; C_in by default.
        stride: s.
        groups: Of the pointwise branch and of the shuffle.
        fuse_groups: Of the mixing convolution.
        kernel_sizes: Of the depthwise branches, odd.
        fuse: ``'concat'``, or ``'add'``: the branches are added up, the depthwise ones after a pointwise convolution
            where C_in is not C_out.
        shuffle: Whether the concatenated channels are shuffled.
        branch_norm: Normalise each branch over the batch.
        bias: Of all convolutions.

    Attributes:
        pointwise: The pointwise branch.
        depthwise: The depthwise branches, in the order of ``kernel_sizes``.
        norms: What follows each branch, the pointwise one first.
        fuse: The mixing convolution.

    Raises:
        InputError: A width or a number of groups below 1, or kernels of an even side.
        NameNotFound: An unknown way to fuse.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        groups: int = 16,
        fuse_groups: int = 2,
        kernel_sizes: Sequence[int] = (3, 5),
        fuse: str = 'concat',
        shuffle: bool = True,
        branch_norm: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        if fuse not in ('concat', 'add'):
            raise unknown_name('way to fuse branches', fuse, ('concat', 'add'))
        if min(in_channels, out_channels, groups, fuse_groups) < 1:
            raise InputError(
                'MSGDC needs widths and numbers of groups of at least 1, got in_channels='
                f'{in_channels}, out_channels={out_channels}, groups={groups}, fuse_groups={fuse_groups}.'
            )
        if not kernel_sizes or any(k < 1 or k % 2 == 0 for k in kernel_sizes):
            raise InputError(f'MSGDC needs kernel_sizes that are odd, one at least, got {tuple(kernel_sizes)}.')
        lift = fuse == 'add' and in_channels != out_channels
        width = out_channels if fuse == 'add' else out_channels + len(kernel_sizes) * in_channels
        groups_in = gcd(groups, in_channels, out_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, stride, groups=groups_in, bias=bias)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(in_channels, in_channels, k, stride, padding=k // 2, groups=in_channels, bias=bias)
            for k in kernel_sizes
        )
        widths = [out_channels, *[in_channels] * len(kernel_sizes)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) if branch_norm else nn.Identity() for c in widths)
        self.lift = nn.Conv2d(in_channels, out_channels, 1, groups=groups_in, bias=bias) if lift else nn.Identity()
        self.concat = fuse == 'concat'
        self.shuffle_groups = gcd(groups, width) if shuffle else 1
        self.fuse = nn.Conv2d(width, out_channels, 1, groups=gcd(fuse_groups, width, out_channels), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / s, W / s)."""
        return self.fuse(self.scales(x))

    def scales(self, x: Tensor) -> Tensor:
        """What the mixing convolution reads: (B, C_out + n * C_in, H / s, W / s) of n kernel sizes."""
        point, *deep = (norm(conv(x)) for norm, conv in zip(self.norms, (self.pointwise, *self.depthwise)))
        x = torch.cat([point, *deep], dim=1) if self.concat else point + self.lift(sum(deep[1:], deep[0]))
        return torch.channel_shuffle(x, self.shuffle_groups) if self.shuffle_groups > 1 else x
