"""What the measurement of fused images counts, and that it runs; how fast anything is, no test asks."""

import pytest

from tools.speed import fused_images


def test_multiply_accumulates_are_those_of_the_network():
    rows = {r['call']: r for r in fused_images.measure(repeats=1, size=64)}
    assert rows['convolution']['GMAC'] == 32 * 32 * 9 * 64**2 / 1e9
    assert rows['two images']['GMAC'] == pytest.approx(5.953 / 16, rel=1e-3)
    assert rows['two images, batch 8']['GMAC'] == pytest.approx(8 * rows['two images']['GMAC'])
    assert rows['two images']['images/s'] == pytest.approx(1e3 / rows['two images']['ms'])
    assert rows['a pyramid']['images/s'] == ''
