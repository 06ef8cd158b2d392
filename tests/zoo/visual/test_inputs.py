"""Inputs as pictures: colours, colour maps, what has no value, what is not there."""

import numpy as np
import pytest
import torch

from zoo.visual import Scene, base_picture, draw_input
from zoo.visual.inputs import NO_VALUE

SIZE = (20, 30)


def scene(invalid=None, blue_first=False, **inputs):
    return Scene('x', ('rgb', 'depth'), inputs, SIZE, invalid=invalid or {}, blue_first=blue_first)


@pytest.mark.parametrize('blue_first', [False, True])
def test_a_colour_image_is_shown_as_it_is(blue_first):
    x = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    panel = draw_input(scene(rgb=x, blue_first=blue_first), 'rgb')
    assert panel.title == 'rgb'
    expected = (x.flip(0) if blue_first else x).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.asarray(panel.image), expected)


def test_other_colours_are_stretched_from_the_smallest_to_the_largest_value():
    x = torch.linspace(-4, 4, 3 * 600).reshape(3, *SIZE)
    image = np.asarray(draw_input(scene(rgb=x), 'rgb').image)
    assert image.min() == 0
    assert image.max() == 255
    assert abs(int(image[0, 0, 1]) - 255 // 3) <= 1


@pytest.mark.parametrize(('value', 'invalid'), [(0.0, {'depth': 0}), (torch.nan, {}), (torch.inf, {})])
def test_pixels_without_a_value_are_grey_and_do_not_move_the_scale(value, invalid):
    x = 1000 + 100 * torch.rand(1, *SIZE)
    x[0, 3:6, 4:9] = value
    panel = draw_input(scene(depth=x, invalid=invalid), 'depth')
    image = np.asarray(panel.image)
    assert panel.note == 'grey: no value'
    is_grey = (image == NO_VALUE).all(-1)
    assert is_grey[3:6, 4:9].all()
    assert is_grey.sum() == 15
    assert len(np.unique(image[~is_grey].reshape(-1, 3), axis=0)) > 100  # the map is used in full


def test_zeros_are_values_unless_they_are_called_invalid():
    panel = draw_input(scene(depth=torch.zeros(1, *SIZE)), 'depth')
    assert panel.note == ''
    assert not (np.asarray(panel.image) == NO_VALUE).all(-1).any()


def test_an_absent_input_is_a_picture_that_says_so():
    panel = draw_input(scene(rgb=torch.rand(3, *SIZE)), 'depth')
    assert panel.image.size == (240, 160)
    assert (np.asarray(panel.image) < 150).any()  # letters


def test_what_is_no_picture_still_gets_a_panel():
    assert draw_input(scene(rgb=torch.rand(77)), 'rgb').image.size == (240, 160)


def test_of_a_volume_the_middle_slice_is_shown():
    x = torch.zeros(1, 5, *SIZE)
    x[0, 2, 5:10] = 1
    image = np.asarray(draw_input(scene(depth=x), 'depth').image)
    assert (image[7] == image[7, 0]).all()
    assert (image[7, 0] != image[0, 0]).any()


def test_predictions_lie_on_the_first_image_with_three_channels():
    rgb = torch.full((3, *SIZE), 90, dtype=torch.uint8)
    both = Scene('x', ('depth', 'rgb'), {'depth': torch.rand(1, *SIZE), 'rgb': rgb}, SIZE)
    assert (np.asarray(base_picture(both)) == 90).all()
    assert np.asarray(base_picture(both, grey=False)).shape == (*SIZE, 3)
    alone = np.asarray(base_picture(scene(depth=torch.linspace(0, 1, 600).reshape(1, *SIZE))))
    assert alone.shape == SIZE
    assert alone[0, 0] == 0
    assert alone[-1, -1] == 255
