"""The frequency ratio metric (FRM): how much a signal's lowest DCT coefficients outweigh its highest."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from registry import InputError, nearest

RULES = ('ratio', 'low', 'sum', 'weighted')
CHUNK = 2**18  # elements transformed at a time on a CPU: more would leave the cache, fewer pay for more calls


def frequency_ratio(
    x: Tensor,
    patch_size: int = 8,
    block_size: int = 2,
    sigma: float = 1e-6,
    rule: str = 'ratio',
    *,
    weight: float = 0.9,
    guard: bool = False,
) -> Tensor:
    """Sum of the frequency ratio over everything in ``x`` (MWAM, Eqs. 3, 4, 27 and 28).

    Each non-overlapping ``p x p`` patch of each channel goes through an orthonormal DCT-II, ``c``. With ``q`` the block
    size, ``l[u, v] = c[u, v]`` and ``h[u, v] = c[p-1-u, p-1-v]`` for ``u, v`` in ``0..q-1``: the mean of a patch meets
    its highest frequency. Rows and columns that do not fill a patch are left out, at the bottom and on the right.

    ============  =====================================================
    ``ratio``     ``|l / (h + sigma)|``
    ``low``       ``|l|``
    ``sum``       ``|l| + |h|``
    ``weighted``  ``weight * |l| + (1 - weight) * |h|``
    ============  =====================================================

    Where we deviate from the paper: Eq. 4 flips the whole map of high blocks, which would pair the first patch with the
    last; like the official code we pair inside each patch. Everything is computed in float64, since exactly flat
    patches must give ``h = 0`` to far below ``sigma``: float32 moves the value by up to a factor of four.

    What drives the value: flat patches (``8 * |mean| / sigma`` each), hence the offset of the normalisation: a flat
    background at 0 adds nothing, at -1 it outweighs everything else.

    >>> round(frequency_ratio(torch.full((1, 2, 16, 8), -0.5)).item())  # 4 flat patches of 8 * 0.5 / 1e-6
    16000000

    Args:
        x: Images (B, C, H, W), volumes (B, C, D, H, W) taken slice by slice, or sequences (B, T, F) with a 1-D
            transform along T; floating point.
        patch_size: Side ``p`` of a patch, at least 2 and at most H, W (T for a sequence).
        block_size: Side ``q`` of the low and of the high block, 1 to p; above p / 2 they overlap.
        sigma: Keeps the division finite; above 0.
        rule: Which of the four values.
        weight: Share of the low block for ``rule='weighted'``, in [0, 1].
        guard: Divide by ``max(|h + sigma|, sigma)``. The same as the paper's form except for ``-2 sigma < h < 0``,
            where that one has a pole: there each term stays below ``|l| / sigma``.

    Returns:
        0-dim float64 tensor on the device of ``x`` (float32 where the device has no float64); 0 for an empty batch,
        not finite where ``x`` is not.

    Raises:
        TypeError: ``x`` is not a tensor of floating point.
        InputError: Any other argument is outside what is said above.
    """
    check_metric(patch_size, block_size, sigma, rule, weight)
    check_rank(x, patch_size)
    return frequency_sums(x, patch_size, block_size, sigma, rule, weight=weight, guard=guard).sum()


@torch.no_grad()
def frequency_sums(
    x: Tensor,
    patch_size: int,
    block_size: int,
    sigma: float,
    rule: str,
    *,
    weight: float = 0.9,
    guard: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The sums of :func:`frequency_ratio` per sample, unchecked and without any synchronisation: -> (B,).

    Args:
        dtype: What to compute in; None is float64 where the device has it.
    """
    dtype = dtype or (torch.float32 if x.device.type == 'mps' else torch.float64)
    basis = _dct_rows(patch_size, block_size, x.device, dtype)
    bands, planar = _bands(x, patch_size), x.ndim > 3
    step = max(1, CHUNK // max(1, bands[:1].numel())) if x.device.type == 'cpu' else max(1, len(bands))
    sums = []
    with torch.autocast(x.device.type, enabled=False):
        for chunk in bands.split(step):
            low, high = _blocks(chunk, basis, planar)
            sums.append(_terms(low, high, sigma, rule, weight, guard).sum((0, 2)))
    return torch.cat(sums).view(len(x), len(bands) // max(1, len(x))).sum(1)


def terms_per_sample(shape: torch.Size, patch_size: int, block_size: int) -> int:
    """How many terms one sample of a batch of this shape adds to the sum of :func:`frequency_ratio`."""
    if len(shape) == 3:
        return shape[1] // patch_size * shape[2] * block_size
    return math.prod(shape[1:-2]) * (shape[-2] // patch_size) * (shape[-1] // patch_size) * block_size**2


def check_metric(patch_size: int, block_size: int, sigma: float, rule: str, weight: float = 0.9) -> None:
    """Refuse arguments of :func:`frequency_ratio` that are outside their range."""
    if not isinstance(patch_size, int) or patch_size < 2:
        raise InputError(f'patch_size must be an integer of at least 2, got {patch_size!r}.')
    if not isinstance(block_size, int) or not 1 <= block_size <= patch_size:
        raise InputError(f'block_size must be an integer from 1 to patch_size = {patch_size}, got {block_size!r}.')
    if not 0 < sigma < math.inf:
        raise InputError(f'sigma must be above 0, got {sigma!r}.')
    if rule not in RULES:
        raise InputError(f'rule must be one of {", ".join(RULES)}, got {rule!r}.{nearest(rule, RULES)}')
    if not 0 <= weight <= 1:
        raise InputError(f'weight must be in [0, 1], got {weight!r}.')


def check_rank(x: Tensor, patch_size: int, name: str = 'x') -> None:
    """Refuse what :func:`frequency_ratio` can not transform."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f'{name} must be a tensor of floating point, got {kind}.')
    if x.ndim not in (3, 4, 5):
        raise InputError(
            f'{name} must be (B, C, H, W), (B, C, D, H, W) or (B, T, F), got {x.ndim} dimensions: {tuple(x.shape)}.'
        )
    sides = x.shape[1:2] if x.ndim == 3 else x.shape[-2:]
    if min(sides) < patch_size:
        raise InputError(f'{name} of shape {tuple(x.shape)} is smaller than patch_size = {patch_size}.')


def _bands(x: Tensor, p: int) -> Tensor:
    """(N, p, W): rows of patches, those of one sample one after the other, the rest cropped. A view if it can be."""
    if x.ndim == 3:
        return x[:, : x.shape[1] // p * p].reshape(-1, p, x.shape[2])
    width = x.shape[-1] // p * p
    return x[..., : x.shape[-2] // p * p, :width].reshape(-1, p, width)


@lru_cache(maxsize=32)
def _dct_rows(p: int, q: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(2q, p): rows 0..q-1, then p-1..p-q, of the orthonormal DCT-II matrix."""
    with torch.inference_mode(False):
        home = device if dtype is torch.float64 else 'cpu'  # made where it is used: a copy would synchronise
        k = torch.arange(p, dtype=torch.float64, device=home)
        rows = torch.cos(math.pi / p * torch.outer(k, k + 0.5)) * math.sqrt(2 / p)
        rows[0] /= math.sqrt(2)
        return torch.cat((rows[:q], rows[p - q :].flip(0))).to(device, dtype)


def _blocks(bands: Tensor, basis: Tensor, planar: bool) -> tuple[Tensor, Tensor]:
    """(N, p, W) -> low and high coefficients, each (terms, N, terms). Down the columns first: W stays innermost."""
    n, p, width = bands.shape
    q = len(basis) // 2
    columns = torch.empty(p, n, width, dtype=basis.dtype, device=bands.device).copy_(bands.transpose(0, 1))
    coded = _transform(basis, columns.view(p, -1))
    low, high = coded[:q], coded[q:]
    if planar:
        low = _transform(basis[:q], low.reshape(-1, p).T)
        high = _transform(basis[q:], high.reshape(-1, p).T)
        return low.view(q * q, n, width // p), high.view(q * q, n, width // p)
    return low.view(q, n, width), high.view(q, n, width)


def _transform(rows: Tensor, x: Tensor) -> Tensor:
    """(k, p) @ (p, N) -> (k, N); below float64 through differences to the first element.

    All rows but that of the mean add up to 0, so flat data then give exactly 0 and not the rounding of large numbers.
    """
    if x.dtype is torch.float64:
        return rows @ x
    total = rows.sum(1, keepdim=True)
    total = total.masked_fill(total.abs() < 1e-3, 0)
    return torch.addmm(total * x[:1], rows[:, 1:], x[1:] - x[:1])


def _terms(low: Tensor, high: Tensor, sigma: float, rule: str, weight: float, guard: bool) -> Tensor:
    """The terms of ``rule``; overwrites ``low`` and ``high``."""
    low = low.abs_()
    if rule == 'low':
        return low
    if rule == 'ratio':
        below = high.add_(sigma).abs_()
        return low.div_(below.clamp_(min=sigma) if guard else below)
    high = high.abs_()
    return low.add_(high) if rule == 'sum' else low.mul_(weight).add_(high, alpha=1 - weight)
