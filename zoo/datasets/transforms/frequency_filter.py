"""Keep or remove the low frequencies of images, to see what a model lives on."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from registry import TRANSFORMS, InputError, nearest
from zoo.batch import is_words

KINDS = ('fft_low', 'fft_high', 'blur_low')


def frequency_filter(x: Tensor, size: int, kind: str) -> Tensor:
    """Filter images, each channel on its own (MWAM, App. A.5 and A.16).

    * ``'fft_low'`` keeps the window of ``size x size`` around the zero frequency of the shifted 2-D spectrum, from
      ``H // 2 - size // 2`` and ``W // 2 - size // 2`` on, and returns the real part;
    * ``'fft_high'`` is the rest, ``x - fft_low``;
    * ``'blur_low'`` is a Gaussian of ``size x size`` pixels, standard deviation ``0.3 * ((size - 1) / 2 - 1) + 0.8``,
      with reflecting borders. This is our reading of A.16, whose results can not come from a spectral window.

    The paper trains on images of 112 x 112 filtered with windows of 15 and 30.

    Args:
        x: (..., H, W), any number of channels; uint8 or floating point, any range.
        size: Side of the window or of the kernel, at least 1; odd for a blur. A window as large as the image keeps all.
        kind: One of the three.

    Returns:
        float32 of the same shape, not clipped: ``'fft_high'`` of an image has both signs.

    Raises:
        TypeError: ``x`` is not a tensor of uint8 or floating point.
        InputError: ``x`` has fewer than two dimensions, ``size`` or ``kind`` is not allowed, or half a kernel does not
            fit into the image.
    """
    _check(size, kind)
    if not isinstance(x, Tensor) or not (x.is_floating_point() or x.dtype == torch.uint8):
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f'x must be a tensor of uint8 or floating point, got {got}.')
    if x.ndim < 2:
        raise InputError(f'x must be (..., H, W), got shape {tuple(x.shape)}.')
    x = x.float()
    if kind == 'blur_low':
        return _blur(x, size)
    low = _window(x, size)
    return low if kind == 'fft_low' else x - low


def _check(size: int, kind: str) -> None:
    if kind not in KINDS:
        raise InputError(f'kind must be one of {", ".join(KINDS)}, got {kind!r}.{nearest(kind, KINDS)}')
    if not isinstance(size, int) or size < 1:
        raise InputError(f'size must be an integer of at least 1, got {size!r}.')
    if kind == 'blur_low' and size % 2 == 0:
        raise InputError(f"size must be odd for kind='blur_low', got {size}.")


def _window(x: Tensor, size: int) -> Tensor:
    height, width = x.shape[-2:]
    if size >= max(height, width):
        return x.clone()
    keep = torch.zeros(height, width, device=x.device)
    top, left = max(height // 2 - size // 2, 0), max(width // 2 - size // 2, 0)
    keep[top : height // 2 - size // 2 + size, left : width // 2 - size // 2 + size] = 1
    return torch.fft.ifft2(torch.fft.fft2(x) * torch.fft.ifftshift(keep)).real


def _blur(x: Tensor, size: int) -> Tensor:
    half = size // 2
    if half >= min(x.shape[-2:]):
        raise InputError(
            f'A blur of size {size} reflects {half} pixels, which an image of {x.shape[-2]} x {x.shape[-1]} lacks.'
        )
    sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
    at = torch.arange(-half, half + 1, dtype=torch.float64)
    kernel = torch.softmax(-(at**2) / (2 * sigma**2), 0).to(x)
    planes = F.pad(x.reshape(-1, 1, *x.shape[-2:]), [half] * 4, mode='reflect')
    planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return planes.view(x.shape)


@TRANSFORMS.register_module()
class FrequencyFilter:
    """Filters the inputs of a sample with `frequency_filter`.

    Args:
        size: See `frequency_filter`.
        kind: See `frequency_filter`.
        modalities: Which inputs; None filters all but text. One that a sample lacks is skipped.

    Raises:
        InputError: ``size`` or ``kind`` is not allowed.
    """

    def __init__(self, size: int, kind: str, modalities: Sequence[str] | None = None) -> None:
        _check(size, kind)
        self.size, self.kind = size, kind
        self.modalities = (modalities,) if isinstance(modalities, str) else modalities

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """A sample with filtered inputs; the given one stays as it is."""
        inputs = sample['inputs']
        named = [m for m, x in inputs.items() if not is_words(x)] if self.modalities is None else self.modalities
        chosen = [m for m in named if m in inputs]
        return {
            **sample,
            'inputs': {**inputs, **{m: frequency_filter(inputs[m], self.size, self.kind) for m in chosen}},
        }

    def __repr__(self) -> str:
        return f'FrequencyFilter(size={self.size}, kind={self.kind!r}, modalities={self.modalities})'
