"""Luma and chroma, against Pillow and by their meaning."""

import numpy as np
import torch
from PIL import Image

from zoo.colour import luma, recoloured, rgb_to_ycbcr, ycbcr_to_rgb


def picture(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_colours_come_back():
    x = picture(2, 3, 5, 7)
    torch.testing.assert_close(ycbcr_to_rgb(rgb_to_ycbcr(x)), x, rtol=0, atol=1e-5)


def test_it_is_the_colour_space_of_jpeg():
    pixels = (255 * picture(9, 11, 3)).round().byte().numpy()
    expected = np.asarray(Image.fromarray(pixels).convert('YCbCr'), dtype=float)
    found = 255 * rgb_to_ycbcr(torch.from_numpy(pixels).movedim(-1, 0) / 255)
    found[1:] += 0.5  # 8 bits have their grey at 128
    np.testing.assert_allclose(found.movedim(0, -1).numpy(), expected, atol=1.01)  # Pillow truncates


def test_the_own_luma_leaves_colours_as_they_are_and_another_keeps_the_chroma():
    x = 0.4 + 0.2 * picture(3, 5, 7)
    torch.testing.assert_close(recoloured(luma(x), x), x, rtol=0, atol=1e-5)
    darker = recoloured(luma(x) - 0.1, x)
    torch.testing.assert_close(rgb_to_ycbcr(darker)[1:], rgb_to_ycbcr(x)[1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(darker, x - 0.1, rtol=0, atol=1e-5)
    assert recoloured(torch.ones(1, 5, 7), x).amax() == 1


def test_one_channel_is_its_own_luma():
    x = picture(2, 1, 4, 6)
    assert luma(x) is x
    assert luma(x.expand(2, 3, 4, 6)).shape == (2, 1, 4, 6)
