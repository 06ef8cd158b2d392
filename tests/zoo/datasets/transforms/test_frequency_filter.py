"""The frequency filter against numpy's FFT and scipy's correlation."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch

from registry import TRANSFORMS, InputError
from zoo.datasets.transforms.frequency_filter import KINDS, FrequencyFilter, frequency_filter

SHAPES = [(3, 12, 17), (1, 9, 6), (5, 8, 8), (2, 4, 11, 10), (7, 13)]


def low_by_numpy(x, size):
    """Keeps the window of the shifted spectrum entry by entry."""
    x = x.double().numpy()
    height, width = x.shape[-2:]
    spectrum = np.fft.fftshift(np.fft.fft2(x), axes=(-2, -1))
    for i in range(height):
        for j in range(width):
            top, left = height // 2 - size // 2, width // 2 - size // 2
            if not (top <= i < top + size and left <= j < left + size):
                spectrum[..., i, j] = 0
    return np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1))).real


def image(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3)) * 255


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('size', [1, 2, 5, 6])
def test_fft_low_keeps_the_window_and_fft_high_the_rest(shape, size):
    x = image(*shape)
    low, high = (frequency_filter(x, size, kind) for kind in ('fft_low', 'fft_high'))
    np.testing.assert_allclose(low.numpy(), low_by_numpy(x, size), atol=1e-3)
    np.testing.assert_allclose(high.numpy(), x.numpy() - low_by_numpy(x, size), atol=1e-3)


@pytest.mark.parametrize('size', [9, 10])
def test_a_window_wider_than_one_side_only_cuts_the_other(size):
    x = image(2, 9, 30)
    np.testing.assert_allclose(frequency_filter(x, size, 'fft_low').numpy(), low_by_numpy(x, size), atol=1e-3)


@pytest.mark.parametrize('size', [17, 18, 100])
def test_a_window_as_large_as_the_image_keeps_all(size):
    x = image(3, 12, 17)
    assert torch.equal(frequency_filter(x, size, 'fft_low'), x)
    assert not frequency_filter(x, size, 'fft_high').any()


def test_a_window_of_one_keeps_the_mean():
    x = image(3, 12, 17)
    mean = x.mean((1, 2), keepdim=True).expand_as(x)
    torch.testing.assert_close(frequency_filter(x, 1, 'fft_low'), mean, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('size', [1, 3, 7])
def test_blur_is_a_gaussian_with_reflecting_borders(shape, size):
    x = image(*shape)
    kernel = scipy.signal.windows.gaussian(size, std=0.3 * ((size - 1) / 2 - 1) + 0.8)
    kernel /= kernel.sum()
    expected = x.double().numpy()
    for axis in (-2, -1):
        expected = scipy.ndimage.correlate1d(expected, kernel, axis=axis, mode='mirror')
    np.testing.assert_allclose(frequency_filter(x, size, 'blur_low').numpy(), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float16, torch.float32, torch.float64])
def test_every_dtype_becomes_float32_and_the_input_stays(kind, dtype):
    x = image(3, 12, 17).to(dtype)
    before = x.clone()
    y = frequency_filter(x, 5, kind)
    assert y.dtype == torch.float32
    assert y.shape == x.shape
    torch.testing.assert_close(y, frequency_filter(x.double(), 5, kind), rtol=1e-4, atol=1e-2)
    y.zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ('size', 'kind', 'match'),
    [
        (5, 'fft_lo', "kind must be one of .* got 'fft_lo'. Did you mean 'fft_low'"),
        (0, 'fft_low', 'size must be an integer of at least 1, got 0'),
        (2.5, 'fft_high', 'size must be an integer of at least 1, got 2.5'),
        (4, 'blur_low', 'size must be odd .* got 4'),
    ],
)
def test_bad_arguments_are_refused_at_once(size, kind, match):
    with pytest.raises(InputError, match=match):
        frequency_filter(image(3, 8, 9), size, kind)
    with pytest.raises(InputError, match=match):
        FrequencyFilter(size, kind)


def test_bad_images_are_refused():
    with pytest.raises(TypeError, match=r'uint8 or floating point, got torch\.int64'):
        frequency_filter(torch.zeros(3, 8, 8, dtype=torch.int64), 3, 'fft_low')
    with pytest.raises(TypeError, match='got ndarray'):
        frequency_filter(np.zeros((3, 8, 8)), 3, 'fft_low')
    with pytest.raises(InputError, match=r'\(\.\.\., H, W\), got shape \(8,\)'):
        frequency_filter(torch.zeros(8), 3, 'fft_low')
    with pytest.raises(InputError, match='reflects 8 pixels, which an image of 8 x 20 lacks'):
        frequency_filter(torch.zeros(3, 8, 20), 17, 'blur_low')


def sample():
    return {
        'inputs': {'rgb': image(3, 12, 17), 'depth': image(1, 12, 17)},
        'present': torch.tensor([True, True]),
        'target': 1,
    }


def test_the_transform_filters_the_chosen_inputs_of_a_copy():
    given = sample()
    rgb = given['inputs']['rgb']
    filtered = TRANSFORMS.build(dict(type='FrequencyFilter', size=5, kind='fft_high', modalities=['rgb', 'ir']))(given)
    assert torch.equal(filtered['inputs']['rgb'], frequency_filter(rgb, 5, 'fft_high'))
    assert filtered['inputs']['depth'] is given['inputs']['depth']
    assert given['inputs']['rgb'] is rgb
    assert filtered['target'] == 1
    assert list(filtered['inputs']) == ['rgb', 'depth']


def test_the_transform_filters_everything_by_default():
    given = sample()
    filtered = FrequencyFilter(3, 'blur_low')(given)['inputs']
    assert all(torch.equal(filtered[m], frequency_filter(x, 3, 'blur_low')) for m, x in given['inputs'].items())
    assert list(FrequencyFilter(3, 'blur_low', 'depth')(given)['inputs']) == ['rgb', 'depth']
    assert 'blur_low' in repr(FrequencyFilter(3, 'blur_low'))
