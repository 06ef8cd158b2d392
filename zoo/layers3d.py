"""Layers that hosts for volumes share: convolution blocks, encoders and decoders of U-Nets, weights by name."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of all leaky ReLUs


def conv3d(in_channels: int, out_channels: int, size: int, stride: int = 1, padding: str = 'reflect') -> nn.Conv3d:
    """A 3-D convolution that keeps the size, or halves it, with He's initialisation (normal, fan in)."""
    conv = nn.Conv3d(in_channels, out_channels, size, stride, size // 2, padding_mode=padding)
    nn.init.kaiming_normal_(conv.weight)
    return conv


def post_norm(in_channels: int, out_channels: int, size: int, stride: int = 1, padding: str = 'reflect') -> nn.Module:
    """Convolution, instance normalisation, leaky ReLU: the block of RFNet."""
    conv = conv3d(in_channels, out_channels, size, stride, padding)
    return nn.Sequential(conv, nn.InstanceNorm3d(out_channels), nn.LeakyReLU(SLOPE, inplace=True))


def pre_norm(in_channels: int, out_channels: int, size: int, stride: int = 1, padding: str = 'reflect') -> nn.Module:
    """Instance normalisation, leaky ReLU, convolution: the block of mmFormer."""
    conv = conv3d(in_channels, out_channels, size, stride, padding)
    return nn.Sequential(nn.InstanceNorm3d(in_channels), nn.LeakyReLU(SLOPE, inplace=True), conv)


Block = Callable[..., nn.Module]


class Encoder3D(nn.Module):
    """A chain of levels, each of half the size of the one before: a first convolution and a residual pair.

    Args:
        in_chans: Channels of the volume.
        widths: Channels of each level, finest first.
        block: `post_norm` or `pre_norm`; the very first convolution of the latter stands alone.
        padding: Of all convolutions, ``'reflect'`` or ``'zeros'``.
    """

    def __init__(self, in_chans: int, widths: Sequence[int], block: Block, padding: str = 'reflect') -> None:
        super().__init__()
        self.first, self.pairs = nn.ModuleList(), nn.ModuleList()
        before = in_chans
        for i, width in enumerate(widths):
            if i == 0 and block is pre_norm:
                self.first.append(conv3d(before, width, 3, padding=padding))
            else:
                self.first.append(block(before, width, 3, 2 if i else 1, padding))
            self.pairs.append(nn.Sequential(*(block(width, width, 3, padding=padding) for _ in range(2))))
            before = width

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, D, H, W) -> maps (B, C_i, D / 2**i, H / 2**i, W / 2**i), finest first."""
        maps = []
        for first, pair in zip(self.first, self.pairs):
            x = first(x)
            x = x + pair(x)
            maps.append(x)
        return maps


class UpStep(nn.Module):
    """One level up: what comes from below at twice the size, joined with this level's map.

    Args:
        width: Channels of this level; below it there are twice as many.
        block: `post_norm` or `pre_norm`.
        padding: See `Encoder3D`.
    """

    def __init__(self, width: int, block: Block, padding: str = 'reflect') -> None:
        super().__init__()
        self.rise = block(2 * width, width, 3, padding=padding)
        self.merge = block(2 * width, width, 3, padding=padding)
        self.out = block(width, width, 1)

    def up(self, below: Tensor) -> Tensor:
        """(B, 2 C, D, H, W) -> (B, C, 2 D, 2 H, 2 W)."""
        return self.rise(F.interpolate(below, scale_factor=2, mode='trilinear', align_corners=True))

    def join(self, skip: Tensor, up: Tensor) -> Tensor:
        """Two maps (B, C, ...) -> (B, C, ...)."""
        return self.out(self.merge(torch.cat((skip, up), 1)))


class Decoder3D(nn.Module):
    """The way up of a U-Net, to class logits.

    Args:
        widths: Channels of each level, finest first, each twice the one before.
        num_classes: K.
        block: `post_norm` or `pre_norm`.
        padding: See `Encoder3D`.
    """

    def __init__(self, widths: Sequence[int], num_classes: int, block: Block, padding: str = 'reflect') -> None:
        super().__init__()
        self.steps = nn.ModuleList(UpStep(width, block, padding) for width in widths[:-1])
        self.classify = conv3d(widths[0], num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_i, ...), finest first -> (B, K, D, H, W)."""
        x = maps[-1]
        for step, skip in zip(reversed(self.steps), reversed(maps[:-1])):
            x = step.join(skip, step.up(x))
        return self.classify(x)


class NamedConv3d(nn.Module):
    """A 1x1x1 convolution of the concatenated maps of all modalities, with one slice of weights for each name: the
    order of the modalities does not matter, and a checkpoint says whose weights are whose.

    Args:
        modalities: Their names, in the order of concatenation.
        in_channels: Channels of each.
        out_channels: Of the result.
    """

    def __init__(self, modalities: Sequence[str], in_channels: int, out_channels: int) -> None:
        super().__init__()
        whole = conv3d(len(modalities) * in_channels, out_channels, 1)
        self.modalities = tuple(modalities)
        self.bias = whole.bias
        slices = whole.weight.detach().chunk(len(modalities), 1)
        self.weight = nn.ParameterDict({m: nn.Parameter(w.clone()) for m, w in zip(modalities, slices)})

    def forward(self, x: Tensor) -> Tensor:
        """(B, M * C, ...) -> (B, out_channels, ...)."""
        return F.conv3d(x, torch.cat([self.weight[m] for m in self.modalities], 1), self.bias)
