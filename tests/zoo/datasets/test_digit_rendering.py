"""How scenes are drawn: each part against figures worked out apart from it."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from registry import InputError
from zoo.datasets import digit_rendering as drawing
from zoo.datasets.digit_rendering import Difficulty


def test_a_digit_that_is_all_ink_fills_its_square_and_nothing_else():
    digits = np.full((1, 1, 8, 8), 16.0)
    places = np.array([[[12.0, 20.0, 8.0, 0.0]]])  # centre y 12, x 20, side 8
    strokes = drawing.draw_digits(digits, places, (24, 40))
    assert strokes.shape == (1, 1, 24, 40)
    expected = torch.zeros(24, 40)
    expected[8:16, 16:24] = 1
    inner = expected.clone()
    inner[[8, 15]], inner[:, [16, 23]] = 0, 0
    assert (strokes[0, 0][inner.bool()] == 1).all()
    outside = torch.ones(24, 40)
    outside[7:17, 15:25] = 0
    assert (strokes[0, 0][outside.bool()] == 0).all()


def test_a_digit_is_drawn_upright_and_a_quarter_turn_turns_it():
    digits = np.zeros((1, 1, 8, 8))
    digits[..., 0:3, 0:3] = 16  # ink at the top left
    for angle, rows, columns in [(0.0, slice(0, 12), slice(0, 12)), (np.pi / 2, slice(0, 12), slice(12, 24))]:
        strokes = drawing.draw_digits(digits, np.array([[[12.0, 12.0, 24.0, angle]]]), (24, 24))[0, 0]
        assert strokes[rows, columns].sum() == pytest.approx(float(strokes.sum()))
        assert strokes.sum() > 40


def test_several_digits_lie_in_quarters_of_their_own():
    slot = np.random.default_rng(0).random((50, 4, 6))
    number = np.full(50, 4)
    places = drawing.place(slot, number, slot[:, 0, 5], (32, 48), (0.7, 0.95))
    y, x, side = places[..., 0], places[..., 1], places[..., 2]
    assert (side <= 16).all()
    assert (side >= 0.8 * 16).all()
    quarter = (y > 16) * 2 + (x > 24)
    assert (np.sort(quarter, axis=1) == np.arange(4)).all()
    assert (y - side / 2 >= (quarter // 2) * 16 - 1e-9).all()
    assert (x + side / 2 <= (quarter % 2 + 1) * 24 + 1e-9).all()


def test_one_digit_stays_inside_the_image_with_the_sides_asked_for():
    slot = np.random.default_rng(0).random((200, 1, 6))
    places = drawing.place(slot, np.ones(200, int), slot[:, 0, 5], (32, 48), (0.5, 0.75))[:, 0]
    y, x, side, angle = places.T
    assert side.min() >= 16
    assert side.max() <= 24
    assert (y - side / 2).min() >= -1e-9
    assert (y + side / 2).max() <= 32 + 1e-9
    assert (x - side / 2).min() >= -1e-9
    assert (x + side / 2).max() <= 48 + 1e-9
    assert np.abs(angle).max() <= np.deg2rad(12)


def test_boxes_are_tight_and_zero_for_an_empty_mask():
    inside = torch.zeros(2, 2, 5, 7, dtype=torch.bool)
    inside[0, 0, 1:3, 2:6] = True
    inside[0, 1, 4, 0] = True
    inside[1, 0] = True
    boxes = drawing.bounding_boxes(inside)
    assert boxes.tolist() == [[[2, 1, 6, 3], [0, 4, 1, 5]], [[0, 0, 7, 5], [0, 0, 0, 0]]]


def test_the_blur_is_that_of_scipy():
    x = torch.rand(2, 1, 9, 13, dtype=torch.float64).float()
    ours = drawing.blur(x, 1.5)
    theirs = gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5), mode='nearest', radius=(0, 0, 4, 4))
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)
    assert torch.equal(drawing.blur(x, 0.0), x)


def test_sensors_follow_their_formulas_without_noise():
    plain = Difficulty(
        rgb_opacity=(0.5, 0.5), rgb_light=0.5, rgb_noise=0, depth_relief=(30, 30), depth_noise=0,
        ir_contrast=(40, 40), ir_blur=0, ir_noise=0,
    )  # fmt: skip
    ink = torch.tensor([[0.0, 1.0], [0.5, 0.0]]).expand(1, 1, 2, 2)
    photo = torch.full((1, 3, 2, 2), 100.0)
    half = torch.full((1, 4), 0.5)
    rgb = drawing.see_rgb(ink, photo, half, torch.zeros(1, 3, 2, 2), plain)
    # photo 50, colour 128 + 63.5 = 191.5, opacity 0.5: 50 + 0.5 * 141.5 = 120.75 under full ink
    torch.testing.assert_close(rgb[0, 0], torch.tensor([[50.0, 120.75], [85.375, 50.0]]))
    depth = drawing.see_depth(ink, half[:, :3], torch.zeros(1, 1, 2, 2), plain)
    torch.testing.assert_close(depth[0, 0], torch.tensor([[110.0, 140.0], [125.0, 110.0]]))
    tilted = drawing.see_depth(ink * 0, torch.tensor([[0.5, 1.0, 0.75]]), torch.zeros(1, 1, 2, 2), plain)
    torch.testing.assert_close(tilted[0, 0], torch.tensor([[110.0 - 30 - 15, 110 - 30 + 15], [125.0, 155.0]]))
    ir = drawing.see_ir(ink, photo, half[:, :1], torch.zeros(1, 1, 2, 2), plain)
    torch.testing.assert_close(ir[0, 0], torch.tensor([[90.0, 130.0], [110.0, 90.0]]))


def test_a_photograph_seen_at_its_own_scale_is_the_photograph():
    photos = drawing._sample_photographs()
    assert photos.shape == (2, 3, 213, 320)
    # a window of 32 pixels at a size of 32: one pixel of the photograph for one of the scene
    draws = torch.tensor([[0.0, 0.0, 17 / 181, 40 / 288], [0.9, 0.0, 1.0, 1.0]])
    seen = drawing.photographs(draws, (32, 32))
    torch.testing.assert_close(seen[0], photos[0, :, 17:49, 40:72], atol=0.05, rtol=0)
    torch.testing.assert_close(seen[1], photos[1, :, -32:, -32:], atol=0.05, rtol=0)


@pytest.mark.parametrize('size', [(24, 200), (300, 40), (500, 500)])
def test_the_window_of_an_elongated_or_large_scene_stays_inside_the_photograph(size):
    seen = drawing.photographs(torch.ones(1, 4) * 0.999, size)
    bright = drawing._sample_photographs()[1].amin()
    assert seen.shape == (1, 3, *size)
    assert seen.amin() >= bright - 1e-3  # beyond the border grid_sample would deliver zeros


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(rgb_opacity=(0.2, 1.2)), r'rgb_opacity is a range \(low, high\) within 0\.\.1'),
        (dict(rgb_opacity=0.5), 'rgb_opacity is a range'),
        (dict(rgb_opacity=('a', 'b')), 'rgb_opacity is a range'),
        (dict(digit_side=(0.1, 0.9)), r'within 0\.3\.\.1'),
        (dict(depth_relief=(40, 20)), r'depth_relief is a range .* got \(40, 20\)'),
        (dict(ir_noise=-1), r'ir_noise is a number in 0\.\.255, got -1'),
        (dict(ir_noise='much'), 'ir_noise is a number'),
        (dict(rgb_light=1.5), r'rgb_light is a number in 0\.\.1'),
    ],
)
def test_a_difficulty_out_of_its_range_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Difficulty(**arguments)
