"""Drawing detections: where the boxes lie, which are drawn, and what is said of them."""

import numpy as np
import pytest
import torch

from zoo.visual import Scene, detection
from zoo.visual.tasks import class_colour

SIZE = 60, 240  # as large as its panel
TRUTH = {'boxes': torch.tensor([[20.0, 20, 60, 50], [100, 20, 160, 50]]), 'labels': torch.tensor([1, 2])}
RIGHT = [22, 20, 60, 50, 0.9, 1]


def scene(target=None, size=SIZE, place=None):
    rgb = torch.zeros(3, *size, dtype=torch.uint8)
    rgb[0] = 77
    return Scene(
        'x', ('ir', 'rgb'), {'ir': torch.rand(1, *size), 'rgb': rgb}, size, ('a', 'b', 'c'), target, place=place
    )


def drawn(panel, k):
    """(x1, y1, x2, y2) of the pixels that have a class's colour below the captions, the last ones included."""
    y, x = (np.asarray(panel.image) == class_colour(k)).all(-1).nonzero()
    return x.min(), y.min(), x.max(), y.max()


def test_the_edge_of_a_box_has_the_colour_of_its_class_and_the_rest_is_the_picture_in_colour():
    panel = detection(scene(), torch.tensor([RIGHT]))
    image = np.asarray(panel.image)
    assert image.shape == (*SIZE, 3)
    for x, y in ((22, 35), (59, 35), (40, 20), (40, 49)):
        assert tuple(image[y, x]) == class_colour(1)
    for x, y in ((40, 35), (5, 5), (61, 45), (40, 51)):
        assert tuple(image[y, x]) == (77, 0, 0)
    assert panel.classes == {1}


def test_the_truth_is_drawn_where_nothing_is_predicted():
    panel = detection(scene(TRUTH), None)
    assert panel.classes == {1, 2}
    assert tuple(np.asarray(panel.image)[35, 100]) == class_colour(2)
    assert panel.note == ''
    nothing = {'boxes': torch.zeros(0, 4), 'labels': torch.zeros(0, dtype=torch.int64)}
    assert detection(scene(nothing), None).classes == frozenset()


def test_low_scores_are_not_drawn():
    panel = detection(scene(), torch.tensor([RIGHT, [100, 20, 160, 50, 0.24, 2]]))
    assert panel.classes == {1}
    assert panel.note == '1 found'
    assert not (np.asarray(panel.image) == class_colour(2)).all(-1).any()


NOTES = {
    '1 of 2 found, 0 false': [RIGHT],
    '2 of 2 found, 0 false': [RIGHT, [100, 22, 160, 50, 0.8, 2]],
    '1 of 2 found, 2 false': [RIGHT, [21, 20, 60, 50, 0.8, 1], [100, 20, 160, 50, 0.7, 0]],  # twice; the wrong class
    '0 of 2 found, 1 false': [[20, 20, 30, 50, 0.9, 1], [100, 20, 160, 50, 0.2, 2]],  # too small; too unsure
    '0 of 2 found, 0 false': [],
}


@pytest.mark.parametrize('note', NOTES)
def test_it_says_how_many_were_found(note):
    assert detection(scene(TRUTH), torch.tensor(NOTES[note]).reshape(-1, 6)).note == note


@pytest.mark.parametrize(
    ('place', 'box'),
    [
        (None, [40, 20, 120, 50]),
        ((0, 0, 120, 240), [40, 40, 120, 100]),  # stretched to twice its height
        ((40, 8, 30, 120), [28, 50, 68, 65]),  # half the size, in the middle of a canvas
    ],
)
def test_boxes_go_back_from_the_input_of_the_host_to_the_picture(place, box):
    panel = detection(scene(place=place), torch.tensor([[*box, 0.9, 1]]))
    x1, _, x2, y2 = drawn(panel, 1)
    assert (x1, x2, y2) == (40, 119, 49)
    assert tuple(np.asarray(panel.image)[20, 110]) == class_colour(1)  # beside the caption


def test_boxes_on_a_small_picture_are_magnified_with_it_and_clipped():
    panel = detection(scene(size=(20, 30)), torch.tensor([[-5.0, 4, 10, 90, 0.9, 2]]))
    assert panel.image.size == (240, 160)
    x1, _, x2, y2 = drawn(panel, 2)
    assert (x1, x2, y2) == (0, 79, 159)


def test_a_box_without_extent_is_a_mark_and_no_mistake():
    assert detection(scene(), torch.tensor([[239.9, 59.9, 240, 60, 0.9, 1]])).classes == {1}
