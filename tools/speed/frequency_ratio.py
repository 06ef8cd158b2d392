"""The frequency ratio against the route of the official MWAM code, on one CPU thread or a GPU.

That route, written anew for this comparison: cut patches, a full 2-D DCT of every patch by way of the FFT, boolean
masks that gather the low and the high block, division, sum.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from plugins.frequency import frequency_sums

from .timing import Laps

SHAPES = (
    (64, 3, 112, 112),
    (8, 3, 480, 640),
    (2, 4, 80, 80, 80),
)  # CASIA-SURF, NYUv2, BraTS at the paper's batch sizes
LARGE = tuple((16 * n, *shape) for n, *shape in SHAPES)  # which no cache of a GPU holds
CALLS = 20  # of a GPU at a time: alone, these are shorter than their launches


def reference(x: Tensor, patch_size: int = 8, block_size: int = 2, sigma: float = 1e-6) -> Tensor:
    """The frequency ratio of (N, C, H, W) by the slow route, in the dtype of ``x``."""
    p, q = patch_size, block_size
    patches = x.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 1, 3, 5)
    coefficients = _dct(_dct(patches).transpose(-1, -2)).transpose(-1, -2)
    low_mask = torch.zeros_like(coefficients, dtype=torch.bool)
    high_mask = low_mask.clone()
    low_mask[..., :q, :q] = True
    high_mask[..., p - q :, p - q :] = True
    shape = (*coefficients.shape[:-2], q, q)
    low = coefficients[low_mask].view(shape)
    high = coefficients[high_mask].view(shape).flip(-1, -2)
    return (low / (high + sigma)).abs().sum()


def _dct(x: Tensor) -> Tensor:
    """Orthonormal DCT-II along the last dimension: an FFT of the even elements followed by the odd ones, reversed."""
    shape, n = x.shape, x.shape[-1]
    x = x.contiguous().view(-1, n)
    spectrum = torch.fft.fft(torch.cat((x[:, ::2], x[:, 1::2].flip(1)), dim=1), dim=1)
    angle = -math.pi / (2 * n) * torch.arange(n, dtype=x.dtype, device=x.device)
    result = spectrum.real * angle.cos() - spectrum.imag * angle.sin()
    result[:, 0] *= math.sqrt(1 / n)
    result[:, 1:] *= math.sqrt(2 / n)
    return result.view(shape)


def measure(device: str = 'cpu', repeats: int = 10) -> list[dict[str, Any]]:
    """Time both routes, turn by turn, on Gaussian noise in float32.

    Args:
        device: Where; a CPU is measured on one thread.
        repeats: Rounds; the shortest time counts, since a busy machine only adds to it.

    Returns:
        One row for each shape: ``shape``, milliseconds ``ours``, ``reference`` and ``read_once`` (the input summed up,
        a lower bound), ``speedup``, and the relative ``error`` of our value against the slow route in float64. On a GPU
        also milliseconds that the input takes at the bandwidth of a copy (bytes read and written), and how far over
        that ours is; there are larger batches, too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device == 'cpu' else threads)
    try:
        if device == 'cpu':
            return [_row(shape, device, repeats) for shape in SHAPES]
        bandwidth = _bandwidth(device, repeats)
        return [_row(shape, device, repeats, bandwidth) for shape in (*SHAPES, *LARGE)]
    finally:
        torch.set_num_threads(threads)


def _row(shape: tuple[int, ...], device: str, repeats: int, bandwidth: float | None = None) -> dict[str, Any]:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    flat = x.movedim(2, 1).flatten(0, 1).contiguous() if x.ndim == 5 else x  # the slow route knows images only
    routes: dict[str, Callable[[], Tensor]] = {
        'ours': lambda: frequency_sums(x, 8, 2, 1e-6, 'ratio').sum(),
        'reference': lambda: reference(flat),
        'read_once': lambda: x.sum(),
    }
    best = dict.fromkeys(routes, math.inf)
    for _ in range(repeats):
        for name, route in routes.items():
            best[name] = min(best[name], _seconds(route, device))
    exact = reference(flat.double())
    row = {
        'shape': shape,
        **{name: 1e3 * seconds for name, seconds in best.items()},
        'speedup': best['reference'] / best['ours'],
        'error': float((routes['ours']() - exact).abs() / exact),
    }
    if bandwidth:
        floor = x.nbytes / bandwidth
        row |= {'at copy bandwidth': 1e3 * floor, 'ours over that': best['ours'] / floor, 'GB/s': bandwidth / 1e9}
    return row


def _bandwidth(device: str, repeats: int) -> float:
    """Bytes a second, read and written, of a copy of a gigabyte."""
    x = torch.randn(2**28, device=device)
    y = torch.empty_like(x)
    return 2 * x.nbytes / min(_seconds(lambda: y.copy_(x), device) for _ in range(repeats))


def _seconds(route: Callable[[], Tensor], device: str) -> float:
    calls = 1 if device == 'cpu' else CALLS
    laps = Laps(device)
    for _ in range(calls):
        route()
    laps.lap('calls')
    return laps.seconds()['calls'] / calls
