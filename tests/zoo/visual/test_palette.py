"""The palette: distinct colours, whatever their number."""

import numpy as np
import pytest

from zoo.visual.palette import oklab, palette


@pytest.mark.parametrize(('count', 'least'), [(2, 0.3), (13, 0.12), (40, 0.05), (256, 0.012)])
def test_any_two_colours_are_apart(count, least):
    colours = palette(count)
    assert colours.shape == (count, 3)
    lab = oklab(colours)
    distance = np.linalg.norm(lab[:, None] - lab, axis=-1) + 9 * np.eye(count)
    assert distance.min() > least


def test_a_class_keeps_its_colour_when_there_are_more():
    assert palette(7).tolist() == palette(300)[:7].tolist()


def test_no_colour_is_grey_or_dark():
    lab = oklab(palette(60))
    assert np.hypot(lab[:, 1], lab[:, 2]).min() > 0.05
    assert lab[:, 0].min() > 0.45


def test_oklab_has_the_published_values_of_pure_red():
    np.testing.assert_allclose(oklab(np.array([[255, 0, 0]], dtype=np.uint8))[0], [0.628, 0.225, 0.126], atol=5e-4)
