"""Upsampling by two: fixed, or learned as in ESANet."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import unknown_name

KINDS = ('learned-3x3-zeropad', 'learned-3x3', 'nearest', 'bilinear')


def make_upsampling(kind: str, channels: int) -> nn.Module:
    """A module (B, C, h, w) -> (B, C, 2h, 2w).

    Args:
        kind: ``'learned-3x3-zeropad'``, ``'learned-3x3'`` (`LearnedUpsampling`), ``'nearest'`` or ``'bilinear'``
            (corners not aligned).
        channels: C.

    Raises:
        NameNotFound: Another kind.
    """
    if kind not in KINDS:
        raise unknown_name('upsampling', kind, KINDS)
    if kind.startswith('learned'):
        return LearnedUpsampling(channels, 'zeros' if kind.endswith('zeropad') else 'replicate')
    return nn.Upsample(scale_factor=2, mode=kind, align_corners=False if kind == 'bilinear' else None)


class LearnedUpsampling(nn.Module):
    """Repeats each value twice along both sides and filters each channel by a 3x3 kernel of its own:
    (B, C, h, w) -> (B, C, 2h, 2w) (ESANet, Seichter et al., arXiv:2011.06961).

    It starts as a bilinear filter, the outer product of (1, 2, 1) with itself over 16. With zeros as padding that dims
    the border: a corner keeps 9/16.

    Args:
        channels: C.
        padding: ``'zeros'``, or ``'replicate'``, which keeps constants.
    """

    def __init__(self, channels: int, padding: str = 'zeros') -> None:
        super().__init__()
        self.padding = padding
        tent = torch.tensor([1.0, 2.0, 1.0])
        self.weight = nn.Parameter((torch.outer(tent, tent) / 16).repeat(channels, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 2h, 2w)."""
        weight, bias, margin = self.weight, self.bias, 1
        if self.padding == 'replicate':  # a pixel around the small map: two around the large one, of which it sees one
            x, margin = F.pad(x, (1, 1, 1, 1), mode='replicate'), 0
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            # autocast would reach into the function's forward and not into its backward
            x, weight, bias = (t.to(torch.get_autocast_dtype(device)) for t in (x, weight, bias))
        kernels = [k for rows in _parities(weight, 2) for k in _parities(rows, 3)]
        return Interleaved.apply(x, bias, margin, *kernels)


class Interleaved(torch.autograd.Function):
    """Four depthwise convolutions of the small map, one for each corner of the 2x2 fields of the large one.

    With the kernels of `LearnedUpsampling` this equals filtering the enlarged map, in the same number of products, but
    neither makes that map nor keeps it for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, margin: int, *kernels: Tensor) -> Tensor:
        """(B, C, h, w), (C,), four times (C, 1, 3, 3) -> (B, C, 2h, 2w), where h and w are without a margin of 0."""
        ctx.save_for_backward(x, *kernels)
        ctx.margin = margin
        b, c, h, w = x.shape
        size = (b, c, 2 * (h - 2 + 2 * margin), 2 * (w - 2 + 2 * margin))
        out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_layout(x))
        for i, kernel in enumerate(kernels):
            out[:, :, i // 2 :: 2, i % 2 :: 2] = F.conv2d(x, kernel, bias, padding=margin, groups=c)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, from those of the large map."""
        x, *kernels = ctx.saved_tensors
        needed = [ctx.needs_input_grad[i] for i in (0, 3, 1)]
        of_x, of_bias, of_kernels = None, None, []
        for i, kernel in enumerate(kernels):
            part = grad[:, :, i // 2 :: 2, i % 2 :: 2].contiguous(memory_format=_layout(x))
            margins, c = [ctx.margin, ctx.margin], x.shape[1]
            to_x, to_kernel, to_bias = torch.ops.aten.convolution_backward(
                part, x, kernel, [c], [1, 1], margins, [1, 1], False, [0, 0], c, needed
            )
            of_x = to_x if of_x is None else of_x.add_(to_x)
            of_bias = to_bias if of_bias is None else of_bias.add_(to_bias)
            of_kernels.append(to_kernel)
        return of_x, of_bias, None, *of_kernels


def _parities(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """What the three taps on a row in which each value stands twice are on the row itself, for even outputs, which see
    (left, here, here), and odd ones, which see (here, here, right)."""
    first, middle, last = kernel.unbind(dim)
    nothing = torch.zeros_like(middle)
    return torch.stack([first, middle + last, nothing], dim), torch.stack([nothing, first + middle, last], dim)


def _layout(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
