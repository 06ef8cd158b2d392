"""Fused images: in the colours of what was fused, at the sample's own size, grey where nothing has colours."""

import numpy as np
import pytest
import torch

from zoo.colour import luma
from zoo.visual import DRAWERS, Scene, fused_picture

SIZE = (10, 14)


def scene(**arguments):
    rgb = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    inputs = {'vis': rgb, 'ir': torch.zeros(1, *SIZE, dtype=torch.uint8)}
    return Scene('x', ('vis', 'ir'), inputs, SIZE, **arguments)


@pytest.mark.parametrize('blue_first', [False, True])
def test_the_own_luma_gives_the_picture_back(blue_first):
    given = scene(blue_first=blue_first)
    rgb = given.inputs['vis'].flip(0) if blue_first else given.inputs['vis']
    picture = np.asarray(fused_picture(given, ('vis', 'ir'), luma(rgb / 255)))
    np.testing.assert_array_equal(picture, rgb.movedim(0, -1).numpy())


def test_colours_of_what_was_not_fused_do_not_count():
    picture = fused_picture(scene(), ('ir',), torch.full((1, *SIZE), 0.2))
    assert picture.mode == 'L'
    assert np.asarray(picture).tolist() == np.full(SIZE, 51).tolist()
    panel = DRAWERS['fusion'](scene(), torch.full((1, *SIZE), 0.2))
    assert panel.image.mode == 'L'


def test_a_prediction_goes_back_to_the_size_of_its_sample():
    padded = torch.zeros(1, 32, 32)
    padded[:, 6:26, 2:30] = 0.6
    picture = np.asarray(fused_picture(scene(place=(6, 2, 20, 28)), (), padded))
    assert picture.shape == SIZE
    assert set(picture.flatten().tolist()) == {153}
