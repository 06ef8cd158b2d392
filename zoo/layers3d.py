"""Layers that hosts for volumes share: convolution blocks, encoders and decoders of U-Nets, weights by name.

Volumes are what fills a memory, so the functions here keep one tensor for the backward pass where torch's modules keep
three, and on a CPU they work on volumes whose channels lie side by side (``torch.channels_last_3d``), where torch is
faster: most convolutions by about a quarter, an interpolation by more than half.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .precision import autocast, autocasts

SLOPE = 0.2  # of all leaky ReLUs
EPS = 1e-5  # of all instance norms


def conv3d(in_channels: int, out_channels: int, size: int, stride: int = 1, padding: str = 'reflect') -> 'Conv3d':
    """A 3-D convolution that keeps the size, or halves it, with He's initialisation (normal, fan in).

    Args:
        in_channels: Of all maps together.
        out_channels: Of the result.
        size: Of the kernel, an odd number.
        stride: 1 or 2.
        padding: ``'reflect'`` or ``'zeros'``.
    """
    conv = Conv3d(in_channels, out_channels, size, stride, size // 2, padding_mode=padding)
    nn.init.kaiming_normal_(conv.weight)
    return conv


class Conv3d(nn.Conv3d):
    """A 3-D convolution of one map or of several, concatenated, with ``conv3d``'s choice of arguments. Of its input it
    keeps what it was given, neither the padded nor the concatenated nor the interpolated form."""

    def forward(self, *maps: Tensor, double: bool = False) -> Tensor:
        """Maps (B, C_i, D, H, W) -> (B, out_channels, ...); of twice their size where ``double`` is set."""
        if self.kernel_size == (1, 1, 1):
            return pointwise(maps, self.weight.split([x.shape[1] for x in maps], 1), self.bias)
        reflects, pad = self.padding_mode == 'reflect', self.padding[0]
        if len(maps) == 1 and not (reflects or double or _is_small(maps[0], pad)):
            return F.conv3d(*maps, self.weight, self.bias, self.stride, self.padding)
        prepare = partial(_prepare, double=double, pad=pad, mode='reflect' if reflects else 'constant')
        if torch.compiler.is_compiling():
            return F.conv3d(prepare(*maps), self.weight, self.bias, self.stride)
        return _PreparedConv.apply(prepare, self.stride[0], *autocast(self.weight, self.bias, *maps))


def _prepare(*maps: Tensor, double: bool, pad: int, mode: str) -> Tensor:
    x = maps[0] if len(maps) == 1 else torch.cat(maps, 1)
    if double:
        x = F.interpolate(x, scale_factor=2, mode='trilinear', align_corners=True)
    return F.pad(x, [pad] * 6, mode)


class _PreparedConv(torch.autograd.Function):
    """A convolution of ``prepare(*maps)``, which is cheap and made again for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, prepare: Callable[..., Tensor], stride: int, weight: Tensor, bias: Tensor, *maps: Tensor
    ) -> Tensor:
        ctx.prepare, ctx.stride = prepare, stride
        ctx.save_for_backward(weight, bias, *maps)
        x = prepare(*maps)
        if halves := _halves(x, weight, stride):
            y = F.conv3d(torch.cat([x[:, :, h] for h in halves]), weight, bias, stride)
            return torch.cat(y.split(1), 2)
        return F.conv3d(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, bias, *maps = ctx.saved_tensors
        needed = ctx.needs_input_grad[4:]
        maps = [x.detach().requires_grad_(n) for x, n in zip(maps, needed)]
        with torch.enable_grad():
            x = ctx.prepare(*maps)
        given = x.detach()
        if halves := _halves(given, weight, ctx.stride):
            given, gradient = torch.cat([given[:, :, h] for h in halves]), torch.cat(gradient.chunk(2, 2))
        wanted = [any(needed), *ctx.needs_input_grad[2:4]]
        stride = [ctx.stride] * 3
        of_x, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient, given, weight, [len(bias)], stride, [0] * 3, [1] * 3, False, [0] * 3, 1, wanted
        )
        if halves and any(needed):
            parts, of_x = of_x.split(1), torch.zeros_like(x)
            for h, part in zip(halves, parts):
                of_x[:, :, h] += part
        found = iter(torch.autograd.grad(x, [m for m in maps if m.requires_grad], of_x) if any(needed) else ())
        return None, None, of_weight, of_bias, *(next(found) if n else None for n in needed)


def _is_small(x: Tensor, pad: int) -> bool:
    """Whether torch takes its slower convolution of two for this input, which it does for a single small sample on a
    CPU (backward up to seven times slower): sizes as in its own choice."""
    _, channels, depth, height, _ = x.shape
    return x.device.type == 'cpu' and len(x) == 1 and channels * (depth + 2 * pad) * (height + 2 * pad) <= 20480


def _halves(x: Tensor, weight: Tensor, stride: int) -> tuple[slice, slice] | None:
    """The slabs of a padded sample from which either half of the result comes, where two samples are faster than one;
    they overlap. None where they are not, or where the depth of the result is odd."""
    reach = weight.shape[2]
    half, odd = divmod((x.shape[2] - reach) // stride + 1, 2)
    if odd or not _is_small(x, 0):
        return None
    length = (half - 1) * stride + reach
    return slice(length), slice(half * stride, half * stride + length)


def pointwise(maps: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor) -> Tensor:
    """A 1x1x1 convolution of concatenated maps (B, C_i, ...), whose weights are (O, C_i, 1, 1, 1): the sum of one for
    each, without the concatenation."""
    if len(maps) > 1 and autocasts(bias.device):
        return F.conv3d(torch.cat(list(maps), 1), torch.cat(list(weights), 1), bias)  # one sum, rounded once
    if not all(x.is_contiguous(memory_format=torch.channels_last_3d) for x in maps):
        first, *others = (F.conv3d(x, w, b) for x, w, b in zip(maps, weights, [bias, *[None] * (len(maps) - 1)]))
        return sum(others, first)
    total = bias
    for x, w in zip(maps, weights):
        total = torch.addmm(total, x.movedim(1, -1).flatten(0, -2), w.flatten(1).T)
    return total.unflatten(0, (len(maps[0]), *maps[0].shape[2:])).movedim(-1, 1)


class NormAct(nn.Module):
    """Instance normalisation and leaky ReLU. Only the result is kept for the backward pass: both can be inverted (as
    Rota Bulò et al., CVPR 2018, do with batch normalisation)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) -> the same.

        Raises:
            ValueError: There is one voxel, whose variance is 0.
        """
        if x[0, 0].numel() == 1:
            raise ValueError(f'Instance normalisation needs more than one voxel, got {tuple(x.shape)}.')
        if torch.compiler.is_compiling() or x.device.type == 'meta':
            return F.leaky_relu(F.instance_norm(x, eps=EPS), SLOPE)
        return _NormAct.apply(x)


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = _rows(x)
        wide = torch.promote_types(x.dtype, torch.float32)
        one, zero = x.new_ones(rows.shape[1], dtype=wide), x.new_zeros(rows.shape[1], dtype=wide)
        if len(rows) == 1:
            y, _, inverses = torch.native_batch_norm(rows, one, zero, None, None, True, 0.0, EPS)
            inverses = inverses[None]
        else:  # each sample is a large task
            y, means, inverses = torch.empty_like(rows), *one.new_empty(2, *rows.shape[:2])
            for i in range(len(rows)):
                out = y[i : i + 1], means[i], inverses[i]
                torch.native_batch_norm(rows[i : i + 1], one, zero, None, None, True, 0.0, EPS, out=out)
        F.leaky_relu_(y, SLOPE)
        ctx.save_for_backward(y, inverses)
        return y.view_as(x) if y.shape != x.shape else y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        y, inverses = ctx.saved_tensors
        one, zero = torch.ones_like(inverses[0]), torch.zeros_like(inverses[0])
        found = []
        for i in range(len(y)):
            here = y[i : i + 1]
            g = gradient[i : i + 1] if len(y) > 1 else gradient.reshape(here.shape)
            g = torch.ops.aten.leaky_relu_backward(g, here, SLOPE, True)
            normed = F.leaky_relu(here, 1 / SLOPE)
            # of a normalised input, by the weight 1 / deviation: that of the input itself
            args = (g, normed, inverses[i], None, None, zero, one, True, EPS, [True, False, False])
            found.append(torch.ops.aten.native_batch_norm_backward(*args)[0])
        whole = found[0] if len(found) == 1 else torch.cat(found)
        return whole.view_as(gradient) if whole.shape != gradient.shape else whole


def _rows(x: Tensor) -> Tensor:
    """The samples where their channels lie side by side on a CPU; elsewhere one row of all channels of all samples."""
    if x.device.type == 'cpu' and x.is_contiguous(memory_format=torch.channels_last_3d):
        return x
    return x.contiguous().view(1, -1, *x.shape[2:])


class PostNorm(nn.Sequential):
    """Convolution, instance normalisation, leaky ReLU: the block of RFNet."""

    def forward(self, *maps: Tensor, **how: bool) -> Tensor:
        """As `Conv3d`."""
        conv, norm = self
        return norm(conv(*maps, **how))


class PreNorm(nn.Sequential):
    """Instance normalisation, leaky ReLU, convolution: the block of mmFormer."""

    def forward(self, *maps: Tensor, double: bool = False) -> Tensor:
        """As `Conv3d`."""
        norm, conv = self
        if double:
            maps = [F.interpolate(x, scale_factor=2, mode='trilinear', align_corners=True) for x in maps]
        return conv(*map(norm, maps))


def post_norm(in_channels: int, out_channels: int, size: int, stride: int = 1, padding: str = 'reflect') -> PostNorm:
    """A `PostNorm` of one convolution."""
    return PostNorm(conv3d(in_channels, out_channels, size, stride, padding), NormAct())


def pre_norm(in_channels: int, out_channels: int, size: int, stride: int = 1, padding: str = 'reflect') -> PreNorm:
    """A `PreNorm` of one convolution."""
    return PreNorm(NormAct(), conv3d(in_channels, out_channels, size, stride, padding))


Block = Callable[..., nn.Module]


def side_by_side(x: Tensor) -> Tensor:
    """A volume in the layout that is faster where it is: on a CPU with its channels side by side."""
    return x.contiguous(memory_format=torch.channels_last_3d) if x.device.type == 'cpu' else x


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
        x, maps = side_by_side(x), []
        for first, pair in zip(self.first, self.pairs):
            x = side_by_side(first(x))  # of a single channel torch can not tell the layout
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
        return self.rise(below, double=True)

    def join(self, *maps: Tensor) -> Tensor:
        """Maps (B, C_i, ...) of 2 C channels together -> (B, C, ...)."""
        return self.out(self.merge(*maps))


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
    """A 1x1x1 convolution of the maps of all modalities, concatenated, with one slice of weights for each name: the
    order of the modalities does not matter, and a checkpoint says whose weights are whose.

    Args:
        modalities: Their names, in the order of the maps.
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

    def forward(self, *maps: Tensor) -> Tensor:
        """M maps (B, C, ...) -> (B, out_channels, ...)."""
        return pointwise(maps, [self.weight[m] for m in self.modalities], self.bias)
