"""How good a fused picture is without a true one to compare with: what it holds, and what it kept of its sources.

Every function takes the fused luma (B, 1, H, W) and the sources it was made from, modality to (B, 1, H, W), all on
0..255 (floats: differences of 8-bit arrays would wrap), computes in float64 and returns a value for each picture, (B,).
``present`` (B, M) bool, columns in the order of the sources, says which sources a picture has: the others may hold
anything. With two sources the values are those of the literature; for M of them each function says how it goes on.

Entropy, standard deviation, average gradient and spatial frequency look at the fused picture alone and **grow with
noise**. They say nothing about fusion without the scores that compare with the sources.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Sources = Mapping[str, Tensor]

LEVELS = 256
PEAK = 255.0
FLAT = 1e-8  # variance below which there is none: mean squares on 0..255 are rounded to 1e-11, one pixel makes 1e-6
SSIM_TAPS, SSIM_SIGMA, SSIM_K = 11, 1.5, (0.01, 0.03)
VIF_SCALES, VIF_NOISE = 4, 2.0


def entropy(fused: Tensor) -> Tensor:
    """EN: bits of the histogram of the 256 grey levels, to which floats are rounded; at most 8.

    >>> entropy(torch.tensor([0.0, 0, 255, 255]).view(1, 1, 2, 2))
    tensor([1.], dtype=torch.float64)
    """
    return _bits(_histogram(_levels(fused).flatten(1), LEVELS))


def standard_deviation(fused: Tensor) -> Tensor:
    """SD: standard deviation of the grey levels, over all pixels (not one less).

    >>> standard_deviation(torch.tensor([0.0, 0, 10, 10]).view(1, 1, 2, 2))
    tensor([5.], dtype=torch.float64)
    """
    return fused.double().flatten(1).std(1, correction=0)


def average_gradient(fused: Tensor) -> Tensor:
    """AG: the sum of ``sqrt((gx^2 + gy^2) / 2)`` over (H-1)(W-1); differences are central, at borders one-sided."""
    gy, gx = torch.gradient(fused.double().squeeze(1), dim=(1, 2))
    h, w = fused.shape[-2:]
    return ((gx**2 + gy**2) / 2).sqrt().sum((1, 2)) / ((h - 1) * (w - 1))


def spatial_frequency(fused: Tensor) -> Tensor:
    """SF: ``sqrt(mean dx^2 + mean dy^2)`` of forward differences.

    Some papers, that of ISFuse among them, print numbers on another scale, close to their AG.
    """
    x = fused.double().squeeze(1)
    return (x.diff(dim=2).square().mean((1, 2)) + x.diff(dim=1).square().mean((1, 2))).sqrt()


def mutual_information(fused: Tensor, sources: Sources, present: Tensor | None = None) -> Tensor:
    """MI: bits that the grey levels of the fused picture share with those of a source, the **sum** over sources."""
    f, s, here = _stack(fused, sources, present)
    pair = _levels(s) * LEVELS + _levels(f)
    joint = _histogram(pair.flatten(2), LEVELS**2).unflatten(-1, (LEVELS, LEVELS))  # (B, M, source, fused)
    return _total(_bits(joint.sum(3)) + _bits(joint.sum(2)) - _bits(joint.flatten(2)), here)


def correlation(fused: Tensor, sources: Sources, present: Tensor | None = None) -> Tensor:
    """CC: Pearson's correlation with a source, the **mean** over sources; 0 with a flat picture."""
    f, s, here = _stack(fused, sources, present)
    return _mean(_pearson(f, s), here)


def sum_of_correlations_of_differences(fused: Tensor, sources: Sources, present: Tensor | None = None) -> Tensor:
    """SCD (Aslantas and Bendes, AEU 2015): does what is left without the other source look like this one?

    The **sum** over sources of the correlation of a source with the fused picture minus the **mean of the other**
    sources, which is the other one of two. With a single source it is the correlation.
    """
    f, s, here = _stack(fused, sources, present)
    count = here.sum(1)[:, None, None, None]
    others = (s.sum(1, keepdim=True) - s) / (count - 1).clamp(min=1)
    return _total(_pearson(f - others, s), here)


def psnr(fused: Tensor, sources: Sources, present: Tensor | None = None, published: bool = False) -> Tensor:
    """PSNR in dB: ``10 log10(1 / mse)`` on 0..1, where mse is the **mean** over sources; infinite without an error.

    Args:
        fused: (B, 1, H, W), 0..255.
        sources: Modality to (B, 1, H, W), 0..255.
        present: (B, M) bool.
        published: The scale of papers on fusion, which take 255 as the peak of errors on 0..1: 48.13 dB more.
    """
    f, s, here = _stack(fused, sources, present)
    mse = _mean(((f - s) / PEAK).square().mean((2, 3)), here)
    return -10 * mse.log10() + (20 * math.log10(PEAK) if published else 0.0)


def structural_similarity(fused: Tensor, sources: Sources, present: Tensor | None = None) -> Tensor:
    """SSIM (Wang et al., TIP 2004): Gaussian windows of 11x11, sigma 1.5, L = 255; the **mean** over sources.

    Only windows that lie inside the picture count, as in the authors' code; NaN for a picture of less than 11 pixels.
    """
    f, s, here = _stack(fused, sources, present)
    if min(f.shape[-2:]) < SSIM_TAPS:
        return f.new_full((len(f),), torch.nan)
    mean_f, mean_s, var_f, var_s, cov = _moments(f, s, SSIM_TAPS, SSIM_SIGMA)
    c1, c2 = ((k * PEAK) ** 2 for k in SSIM_K)
    light = (2 * mean_f * mean_s + c1) / (mean_f**2 + mean_s**2 + c1)
    structure = (2 * cov + c2) / (var_f + var_s + c2)
    return _mean((light * structure).mean((2, 3)), here)


def visual_information_fidelity(fused: Tensor, sources: Sources, present: Tensor | None = None) -> Tensor:
    """VIF of pixels, vifp (Sheikh and Bovik, TIP 2006): 4 scales, noise of variance 2; the **sum** over sources.

    The source is the reference. 0 with a flat one; NaN for a picture of less than 41 pixels, which has no fourth scale.
    """
    f, s, here = _stack(fused, sources, present)
    if min(f.shape[-2:]) < 41:
        return f.new_full((len(f),), torch.nan)
    kept = held = 0.0
    for scale in range(VIF_SCALES):
        taps = 2 ** (VIF_SCALES - scale) + 1
        if scale:
            f, s = (_blur(x, taps, taps / 5)[..., ::2, ::2] for x in (f, s))
        _, _, var_f, var_s, cov = _moments(f, s, taps, taps / 5)
        var_s = var_s.where(var_s > FLAT, 0.0)
        gain = torch.where((var_s > 0) & (var_f > FLAT), cov / var_s, 0.0).clamp(min=0)
        lost = torch.where(gain > 0, var_f - gain * cov, var_f).clamp(min=0)
        kept = kept + (gain**2 * var_s / (lost + VIF_NOISE)).log1p().sum((2, 3))
        held = held + (var_s / VIF_NOISE).log1p().sum((2, 3))
    return _total(torch.where(held > 0, kept / held, 0.0), here)


def edge_preservation(fused: Tensor, sources: Sources, present: Tensor | None = None) -> Tensor:
    """Qabf (Xydeas and Petrovic, Electronics Letters 2000): how much of the edges of the sources is in the fused
    picture, in strength and in direction, 0..1; pixels and **sources weighted together** by the strength of their edge.

    Edges are those of the Sobel operator on a picture that its border pixels continue. A picture that is equal to all
    its sources reaches 0.97479, not 1: that is what the two logistic curves have at 1. 0 where no source has an edge.
    """
    f, s, here = _stack(fused, sources, present)
    strength_f, angle_f = _edges(f)
    strength_s, angle_s = _edges(s)
    larger = torch.maximum(strength_f, strength_s)
    ratio = torch.where(larger > 0, torch.minimum(strength_f, strength_s) / larger, 0.0)
    turned = 1 - (angle_s - angle_f).abs() / (math.pi / 2)
    quality = 0.9994 / (1 + torch.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + torch.exp(-22 * (turned - 0.8)))
    weight = _total(strength_s.sum((2, 3)), here)
    return torch.where(weight > 0, _total((quality * strength_s).sum((2, 3)), here) / weight, 0.0)


OF_THE_PICTURE: dict[str, Callable] = {
    'EN': entropy,
    'SD': standard_deviation,
    'AG': average_gradient,
    'SF': spatial_frequency,
}
OF_THE_SOURCES: dict[str, Callable] = {
    'MI': mutual_information,
    'CC': correlation,
    'SCD': sum_of_correlations_of_differences,
    'PSNR': psnr,
    'SSIM': structural_similarity,
    'VIF': visual_information_fidelity,
    'Qabf': edge_preservation,
}


def fusion_scores(fused: Tensor, sources: Sources, present: Tensor | None = None) -> dict[str, Tensor]:
    """All of them by the names of papers, each (B,) float64: EN, SD, AG, SF, MI, CC, SCD, PSNR, PSNR_fusion (of the
    published scale), SSIM, VIF, Qabf."""
    scores = {name: score(fused) for name, score in OF_THE_PICTURE.items()}
    scores |= {name: score(fused, sources, present) for name, score in OF_THE_SOURCES.items()}
    scores['PSNR_fusion'] = scores['PSNR'] + 20 * math.log10(PEAK)
    return scores


def _stack(fused: Tensor, sources: Sources, present: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 1, H, W), the sources (B, M, H, W), zero where absent, both float64; (B, M) bool."""
    s = torch.cat([x.double() for x in sources.values()], 1)
    if present is None:
        return fused.double(), s, torch.ones(s.shape[:2], dtype=torch.bool, device=s.device)
    return fused.double(), s.where(present[:, :, None, None], 0.0), present


def _total(values: Tensor, here: Tensor) -> Tensor:
    """(B, M) -> (B,), over the sources that are here."""
    return values.where(here, 0.0).sum(1)


def _mean(values: Tensor, here: Tensor) -> Tensor:
    return _total(values, here) / here.sum(1)


def _levels(x: Tensor) -> Tensor:
    """The grey level of each pixel; clamped as an integer, so that a NaN is none that is out of bounds."""
    return x.round().long().clamp(0, LEVELS - 1)


def _histogram(values: Tensor, bins: int) -> Tensor:
    """How often each of ``bins`` integers occurs along the last dimension: (..., N) int64 -> (..., bins) int64."""
    rows = values.flatten(0, -2)
    cells = (rows + torch.arange(len(rows), device=rows.device)[:, None] * bins).flatten()
    counts = torch.zeros(len(rows) * bins, dtype=torch.int64, device=rows.device)
    # not `bincount`, which waits for a GPU to learn the largest value
    counts.index_add_(0, cells, counts.new_ones(()).expand(len(cells)))
    return counts.view(*values.shape[:-1], bins)


def _bits(counts: Tensor) -> Tensor:
    """Entropy of histograms (..., bins) in bits."""
    shares = counts.double() / counts.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1) / math.log(2)


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    """Over the last two dimensions, centred before anything is multiplied."""
    x, y = (t - t.mean((-2, -1), keepdim=True) for t in (x, y))
    var_x, var_y = (t.square().mean((-2, -1)) for t in (x, y))
    r = (x * y).mean((-2, -1)) / (var_x * var_y).sqrt()
    return torch.where((var_x > FLAT) & (var_y > FLAT), r, 0.0)


def _blur(x: Tensor, taps: int, sigma: float) -> Tensor:
    """A Gaussian window over the last two dimensions, inside the picture only: each gets ``taps - 1`` pixels smaller.

    The window is a product of two; adding shifted copies is five times faster than a convolution in float64 on a CPU.
    """
    weights = [math.exp(-((i - (taps - 1) / 2) ** 2) / (2 * sigma**2)) for i in range(taps)]
    total = sum(weights)
    for dim in (-2, -1):
        size = x.shape[dim] - taps + 1
        blurred = x.narrow(dim, 0, size) * (weights[0] / total)
        for i in range(1, taps):
            blurred.add_(x.narrow(dim, i, size), alpha=weights[i] / total)
        x = blurred
    return x


def _moments(f: Tensor, s: Tensor, taps: int, sigma: float) -> tuple[Tensor, ...]:
    """In windows: means, variances and covariance of the fused picture (B, 1, h, w) and of the sources (B, M, h, w)."""
    m = s.shape[1]
    blurred = _blur(torch.cat([f, s, f**2, s**2, f * s], 1), taps, sigma)
    mean_f, mean_s, square_f, square_s, product = blurred.split([1, m, 1, m, m], 1)
    var_f, var_s = (square_f - mean_f**2).clamp(min=0), (square_s - mean_s**2).clamp(min=0)
    return mean_f, mean_s, var_f, var_s, product - mean_f * mean_s


def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and angle of the Sobel gradient; the angle is in (-pi/2, pi/2], pi/2 without a slope along x."""
    x = F.pad(x, (1, 1, 1, 1), mode='replicate')
    rows, columns = x[..., 2:] - x[..., :-2], x[..., 2:, :] - x[..., :-2, :]
    sx = rows[..., :-2, :] + 2 * rows[..., 1:-1, :] + rows[..., 2:, :]
    sy = columns[..., :-2] + 2 * columns[..., 1:-1] + columns[..., 2:]
    return (sx**2 + sy**2).sqrt(), torch.where(sx == 0, math.pi / 2, torch.atan(sy / sx))
