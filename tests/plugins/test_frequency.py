"""The frequency ratio against golden values, scipy's DCT, and what must hold exactly."""

import math

import numpy as np
import pytest
import scipy.fft
import torch

import plugins.frequency
from plugins.frequency import RULES, frequency_ratio, frequency_sums, terms_per_sample
from registry import InputError


def noise(*shape, seed):
    """A tensor that is drawn in float64: another dtype would change the draw."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def basis(u, v, p=8):
    """The orthonormal cosine pattern (u, v) on one patch."""
    i = torch.arange(p, dtype=torch.float64)
    rows = [torch.cos(math.pi * (2 * i + 1) * k / (2 * p)) * math.sqrt((2 if k else 1) / p) for k in (u, v)]
    return torch.outer(*rows)


def by_scipy(x, p, q, sigma, rule, weight=0.9, guard=False):
    """The metric patch by patch, in numpy."""
    x = x.double().numpy()
    if x.ndim == 3:
        patches = [
            x[b, t : t + p, f] for b in range(x.shape[0]) for f in range(x.shape[2]) for t in _starts(x.shape[1], p)
        ]
    else:
        planes = x.reshape(-1, *x.shape[-2:])
        height, width = planes.shape[1:]
        patches = [a[i : i + p, j : j + p] for a in planes for i in _starts(height, p) for j in _starts(width, p)]
    total = 0.0
    for patch in patches:
        c = scipy.fft.dctn(patch, type=2, norm='ortho')
        low = c[(slice(0, q),) * c.ndim]
        high = np.flip(c)[(slice(0, q),) * c.ndim]
        if rule == 'ratio':
            below = np.abs(high + sigma)
            total += np.abs(low / (np.maximum(below, sigma) if guard else below)).sum()
        else:
            share = {'low': (1, 0), 'sum': (1, 1), 'weighted': (weight, 1 - weight)}[rule]
            total += share[0] * np.abs(low).sum() + share[1] * np.abs(high).sum()
    return total


def _starts(side, p):
    return range(0, side - p + 1, p)


@pytest.mark.parametrize(
    ('seed', 'shape', 'expected', 'terms'),
    [
        (901, (2, 3, 32, 32), (1561.6748504, 304.4413403, 627.0236436, 306.2554367), 384),
        (902, (1, 2, 21, 30), (364.2881582, 28.8991606, 63.9717560, 29.5165042), 48),
    ],
)
def test_golden_values(seed, shape, expected, terms):
    torch.manual_seed(seed)
    x = torch.randn(*shape, dtype=torch.float64)
    values = [frequency_ratio(x, rule=rule).item() for rule in ('ratio', 'low', 'sum', 'weighted')]
    assert values == pytest.approx(expected, rel=1e-6)
    assert terms_per_sample(x.shape, 8, 2) * len(x) == terms


def test_single_patterns_prove_pairing_and_scale():
    i = torch.arange(8, dtype=torch.float64)
    wave = [torch.cos(math.pi * (2 * i + 1) * k / 16) for k in range(8)]
    patch = 1.5 * torch.outer(wave[0], wave[0]) + 2 * torch.outer(wave[0], wave[1])
    patch = patch + 0.75 * torch.outer(wave[7], wave[7]) - 0.5 * torch.outer(wave[7], wave[6])
    x = patch[None, None]
    assert frequency_ratio(x, block_size=1).item() == pytest.approx(12 / (3 + 1e-6), rel=1e-9)
    # of the four pairs two have no low part, whose 0 / (0 + sigma) leaves rounding only
    assert frequency_ratio(x).item() == pytest.approx(9.6568557, rel=1e-6)
    assert frequency_ratio(x, rule='low').item() == pytest.approx(12 + 8 * math.sqrt(2), rel=1e-9)
    assert frequency_ratio(x, rule='sum').item() == pytest.approx(28.3137085, rel=1e-9)


@pytest.mark.parametrize(('u', 'v'), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_each_low_coefficient_meets_its_mirror_in_the_same_patch(u, v):
    x = torch.zeros(1, 1, 16, 24, dtype=torch.float64)
    x[..., 8:, 8:16] = 3 * basis(u, v) + 2 * basis(7 - u, 7 - v)
    assert frequency_ratio(x).item() == pytest.approx(3 / (2 + 1e-6), rel=1e-6)


def test_flat_patches_divide_by_sigma():
    x = torch.full((1, 2, 16, 8), -0.5)
    assert frequency_ratio(x).item() == pytest.approx(1.6e7, rel=1e-6)
    assert frequency_ratio(x, rule='low').item() == pytest.approx(16, rel=1e-12)
    assert terms_per_sample(x.shape, 8, 2) == 16


@pytest.mark.parametrize(
    ('high', 'paper', 'guarded'), [(-1.5e-6, 6.0e6, 3.0e6), (0.0, 3.0e6, 3.0e6), (1e-6, 1.5e6, 1.5e6)]
)
def test_guard_removes_the_pole_and_nothing_else(high, paper, guarded):
    x = (3 * basis(0, 0) + high * basis(7, 7))[None, None]
    assert frequency_ratio(x, block_size=1).item() == pytest.approx(paper, rel=1e-6)
    assert frequency_ratio(x, block_size=1, guard=True).item() == pytest.approx(guarded, rel=1e-6)


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('guard', [False, True])
@pytest.mark.parametrize(
    ('shape', 'p', 'q'),
    [
        ((2, 3, 21, 30), 8, 2),
        ((2, 1, 24, 13), 4, 1),
        ((2, 1, 24, 13), 4, 3),
        ((1, 2, 16, 37), 16, 4),
        ((1, 2, 33, 16), 16, 6),
        ((2, 2, 9, 17), 8, 5),
        ((2, 1, 9, 17), 4, 4),
        ((1, 2, 3, 20, 25), 8, 2),
        ((2, 35, 5), 8, 2),
        ((2, 35, 5), 4, 4),
        ((1, 16, 3), 16, 6),
    ],
)
def test_agrees_with_scipy(shape, p, q, rule, guard):
    x = noise(*shape, seed=1)
    value = frequency_ratio(x, p, q, 1e-3, rule, weight=0.8, guard=guard)
    assert value.dtype == torch.float64
    assert value.shape == ()
    assert value.item() == pytest.approx(by_scipy(x, p, q, 1e-3, rule, 0.8, guard), rel=1e-9)


@pytest.mark.parametrize('chunk', [1, 300, 10**9])
@pytest.mark.parametrize('shape', [(3, 2, 24, 40), (3, 2, 21, 30), (3, 20, 7), (3, 1, 2, 17, 9)])
def test_sums_per_sample_do_not_depend_on_chunks_or_neighbours(monkeypatch, chunk, shape):
    monkeypatch.setattr(plugins.frequency, 'CHUNK', chunk)
    x = noise(*shape, seed=2)
    x[1] = torch.nan
    sums = frequency_sums(x, 8, 2, 1e-6, 'ratio')
    assert sums.shape == (3,)
    assert sums[1].isnan()
    for b in (0, 2):
        assert sums[b].item() == pytest.approx(by_scipy(x[b : b + 1], 8, 2, 1e-6, 'ratio'), rel=1e-9)


def test_strides_of_the_input_do_not_matter():
    x = noise(2, 3, 24, 16, seed=3)
    turned = x.to(memory_format=torch.channels_last)
    assert not turned.is_contiguous()
    torch.testing.assert_close(frequency_ratio(turned), frequency_ratio(x))


# ---- exact properties


@pytest.mark.parametrize('factor', [0.25, 127.5])
def test_ratio_does_not_change_when_input_and_sigma_grow_together(factor):
    x = noise(2, 3, 16, 24, seed=4)
    scaled = frequency_ratio(factor * x, sigma=factor * 1e-3)
    torch.testing.assert_close(scaled, frequency_ratio(x, sigma=1e-3), rtol=1e-12, atol=0)


def test_sign_of_the_input_is_the_sign_of_sigma():
    x = noise(2, 3, 16, 24, seed=5)
    mirrored = frequency_sums(x, 8, 2, -1e-2, 'ratio').sum()
    torch.testing.assert_close(frequency_ratio(-x, sigma=1e-2), mirrored, rtol=1e-12, atol=0)
    assert not torch.isclose(mirrored, frequency_ratio(x, sigma=1e-2), rtol=1e-4)


@pytest.mark.parametrize('rule', ['low', 'sum', 'weighted'])
def test_other_rules_are_even_and_homogeneous(rule):
    x = noise(2, 3, 16, 24, seed=6)
    torch.testing.assert_close(frequency_ratio(-3 * x, rule=rule), 3 * frequency_ratio(x, rule=rule))


@pytest.mark.parametrize('rule', RULES)
def test_adds_up_over_samples_and_channels_and_ignores_their_order(rule):
    x = noise(4, 3, 16, 24, seed=7)
    whole = frequency_ratio(x, rule=rule)
    torch.testing.assert_close(frequency_ratio(x[:1], rule=rule) + frequency_ratio(x[1:], rule=rule), whole)
    torch.testing.assert_close(frequency_ratio(x[:, :1], rule=rule) + frequency_ratio(x[:, 1:], rule=rule), whole)
    torch.testing.assert_close(frequency_ratio(x[[2, 0, 3, 1]][:, [1, 2, 0]], rule=rule), whole)
    patches = x.roll(8, dims=2).roll(16, dims=3)  # whole patches change places
    torch.testing.assert_close(frequency_ratio(patches, rule=rule), whole)


def test_what_does_not_fill_a_patch_is_left_out():
    x = noise(2, 3, 21, 30, seed=8)
    changed = x.clone()
    changed[:, :, 16:] = torch.nan
    changed[..., 24:] = torch.inf
    assert torch.equal(frequency_ratio(changed), frequency_ratio(x[:, :, :16, :24]))


def test_even_weights_are_half_the_sum():
    x = noise(2, 3, 16, 24, seed=9)
    torch.testing.assert_close(frequency_ratio(x, rule='weighted', weight=0.5), frequency_ratio(x, rule='sum') / 2)


def test_a_constant_moves_only_the_mean_of_each_patch():
    x = noise(1, 1, 8, 8, seed=10)
    c = scipy.fft.dctn(x[0, 0].numpy(), norm='ortho')
    gain = abs(c[0, 0] + 8 * 5) - abs(c[0, 0])
    assert (frequency_ratio(x + 5, rule='low') - frequency_ratio(x, rule='low')).item() == pytest.approx(gain)


# ---- precision


@pytest.fixture(params=['highest', 'medium'])
def matmul_precision(request):
    """With and without permission to shorten float32 products (TF32 on a GPU, bfloat16 on a CPU)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures('matmul_precision')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_flat_inputs_of_any_dtype_are_as_exact_as_float64(dtype):
    x = torch.full((2, 3, 16, 24), 1000.7).to(dtype)
    expected = 2 * 3 * 6 * 8 * x.double()[0, 0, 0, 0].item() / 1e-6
    assert frequency_ratio(x).item() == pytest.approx(expected, rel=1e-6)


def test_byte_images_in_float32_are_as_exact_as_float64():
    x = torch.randint(0, 256, (2, 3, 24, 40), generator=torch.Generator().manual_seed(11))
    x[:, :, :16, :16] = 213  # some patches are flat
    assert frequency_ratio(x.float()).item() == pytest.approx(by_scipy_flat(x), rel=1e-6)
    with torch.autocast('cpu', torch.bfloat16):
        assert frequency_ratio(x.float()).item() == pytest.approx(by_scipy_flat(x), rel=1e-6)


def by_scipy_flat(x):
    """As `by_scipy`, with a difference to the first element, which makes flat patches exact there too."""
    total = 0.0
    for plane in x.double().numpy().reshape(-1, *x.shape[-2:]):
        for i in _starts(plane.shape[0], 8):
            for j in _starts(plane.shape[1], 8):
                patch = plane[i : i + 8, j : j + 8]
                c = scipy.fft.dctn(patch - patch[0, 0], norm='ortho')
                low = c[:2, :2].copy()
                low[0, 0] += 8 * patch[0, 0]
                total += np.abs(low / (np.flip(c)[:2, :2] + 1e-6)).sum()
    return total


@pytest.mark.parametrize('block_size', [1, 2, 8])
@pytest.mark.parametrize('rule', RULES)
def test_devices_without_float64_get_a_form_that_keeps_flat_patches_flat(rule, block_size):
    x = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(12)) * 2 - 1
    x[0, :, :8] = 0.7
    exact = frequency_sums(x, 8, block_size, 1e-6, rule, guard=True)
    short = frequency_sums(x, 8, block_size, 1e-6, rule, guard=True, dtype=torch.float32)
    assert short.dtype == torch.float32
    torch.testing.assert_close(short.double(), exact, rtol=1e-2, atol=0)


def test_nothing_is_recorded_for_the_gradient():
    assert not frequency_ratio(noise(1, 1, 8, 8, seed=13).requires_grad_()).requires_grad


# ---- which modality dominates


def test_smooth_and_flat_inputs_have_the_larger_ratio():
    ramp = torch.linspace(-1, 1, 48).repeat(1, 1, 32, 1) + torch.linspace(0, 0.5, 32)[:, None]
    grain = 0.2 * noise(1, 1, 32, 48, seed=14)
    noisy, flat = ramp + grain, torch.where(ramp > 0, ramp + grain, -1.0)
    assert frequency_ratio(ramp) > 2 * frequency_ratio(noisy)
    assert frequency_ratio(flat) > 2 * frequency_ratio(noisy)


# ---- bad input


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'patch_size': 1}, 'patch_size must be .* at least 2, got 1'),
        ({'patch_size': 8.0}, 'patch_size must be an integer'),
        ({'block_size': 0}, 'block_size must be .* got 0'),
        ({'block_size': 9}, 'from 1 to patch_size = 8, got 9'),
        ({'sigma': 0}, 'sigma must be above 0, got 0'),
        ({'sigma': math.nan}, 'sigma must be above 0'),
        ({'rule': 'ration'}, "got 'ration'. Did you mean 'ratio'"),
        ({'weight': 1.1}, r'weight must be in \[0, 1\], got 1.1'),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        frequency_ratio(torch.zeros(1, 1, 16, 24), **arguments)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=f'floating point, got {dtype}'):
        frequency_ratio(torch.zeros(1, 1, 8, 8, dtype=dtype))


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match='got list'):
        frequency_ratio([[0.0]])


@pytest.mark.parametrize('shape', [(8,), (8, 8), (1, 1, 1, 1, 8, 8)])
def test_other_ranks_are_refused(shape):
    with pytest.raises(InputError, match=f'got {len(shape)} dimensions'):
        frequency_ratio(torch.zeros(shape))


@pytest.mark.parametrize('shape', [(1, 3, 7, 24), (1, 3, 24, 7), (1, 1, 9, 24, 7), (1, 7, 24)])
def test_inputs_smaller_than_a_patch_are_refused(shape):
    with pytest.raises(InputError, match='smaller than patch_size = 8'):
        frequency_ratio(torch.zeros(shape))


@pytest.mark.parametrize('shape', [(0, 3, 16, 24), (0, 1, 2, 8, 9), (0, 16, 3)])
def test_an_empty_batch_sums_up_to_zero(shape):
    assert frequency_ratio(torch.zeros(shape)) == 0


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_what_is_not_finite_gives_what_is_not_finite(value):
    x = noise(1, 1, 16, 24, seed=15)
    x[0, 0, 3, 4] = value
    assert not frequency_ratio(x).isfinite()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
@pytest.mark.parametrize('shape', [(3, 2, 21, 30), (2, 1, 3, 17, 9), (3, 20, 7)])
def test_cuda_agrees_with_the_cpu_without_a_synchronisation(shape):
    x = noise(*shape, seed=16).float()
    on_device = x.cuda()
    torch.cuda.set_sync_debug_mode('error')
    try:
        sums = frequency_sums(on_device, 8, 2, 1e-6, 'ratio', guard=True)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    torch.testing.assert_close(sums.cpu(), frequency_sums(x, 8, 2, 1e-6, 'ratio', guard=True), rtol=1e-6, atol=0)
