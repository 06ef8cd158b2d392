"""Colours as luma and chroma: YCbCr of ITU-R BT.601 in full range, 0..1 as all of it is here."""

import torch
from torch import Tensor

RED, GREEN, BLUE = 0.299, 0.587, 0.114  # their shares in the luma
CB, CR = 2 * (1 - BLUE), 2 * (1 - RED)  # the ranges of B - Y and R - Y


def luma(x: Tensor) -> Tensor:
    """Red, green, blue (..., 3, H, W) -> luma (..., 1, H, W), on the scale of x; one channel stays as it is.

    >>> luma(torch.ones(3, 1, 1)).shape
    torch.Size([1, 1, 1])
    """
    if x.shape[-3] == 1:
        return x
    red, green, blue = x.unbind(-3)
    return (RED * red + GREEN * green + BLUE * blue).unsqueeze(-3)


def rgb_to_ycbcr(x: Tensor) -> Tensor:
    """(..., 3, H, W) in 0..1 -> Y, Cb, Cr (..., 3, H, W) in 0..1; Cb and Cr of a grey are 0.5.

    >>> [round(v, 3) for v in rgb_to_ycbcr(torch.tensor([1.0, 0.0, 0.0])[:, None, None]).flatten().tolist()]
    [0.299, 0.331, 1.0]
    """
    y = luma(x)
    red, _, blue = x.split(1, -3)
    return torch.cat((y, 0.5 + (blue - y) / CB, 0.5 + (red - y) / CR), -3)


def ycbcr_to_rgb(x: Tensor) -> Tensor:
    """The inverse of `rgb_to_ycbcr`; a luma of another image may leave 0..1."""
    y, cb, cr = x.split(1, -3)
    red, blue = y + CR * (cr - 0.5), y + CB * (cb - 0.5)
    return torch.cat((red, (y - RED * red - BLUE * blue) / GREEN, blue), -3)


def recoloured(y: Tensor, rgb: Tensor) -> Tensor:
    """The luma (..., 1, H, W) with the chroma of an image (..., 3, H, W): red, green, blue, clamped to 0..1."""
    return ycbcr_to_rgb(torch.cat((y, rgb_to_ycbcr(rgb)[..., 1:, :, :]), -3)).clamp(0, 1)
