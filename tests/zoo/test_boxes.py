"""Non-maximum suppression against ultralytics' own and by hand."""

from importlib.util import find_spec

import pytest
import torch

from zoo import boxes
from zoo.boxes import detections
from zoo.foreign_yolo import ultralytics_module


def dense(*rows, classes=2):
    """(1, 4 + K, A) of rows cx, cy, w, h, class probabilities."""
    return torch.tensor(rows).T[None] if rows else torch.zeros(1, 4 + classes, 0)


def test_by_hand():
    (found,) = detections(
        dense(
            [20.0, 10, 10, 10, 0.9, 0.2],
            [21.0, 10, 10, 10, 0.8, 0.0],  # overlaps the first by 9 / 11: the worse one of class 0
            [40.0, 10, 10, 10, 0.0, 0.5],
            [62.0, 30, 10, 10, 0.4, 0.0],  # leaves the image
        ),
        (32, 64),
    )
    expected = [
        [15, 5, 25, 15, 0.9, 0],
        [35, 5, 45, 15, 0.5, 1],
        [57, 25, 64, 32, 0.4, 0],
        [15, 5, 25, 15, 0.2, 1],  # another class of the first place
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_limits():
    rows = [[10.0 * i + 5, 5, 8, 8, 0.9 - 0.1 * i, 0.0] for i in range(6)]
    assert len(detections(dense(*rows), (10, 64), max_det=2)[0]) == 2
    (found,) = detections(dense(*rows), (10, 64), confidence=0.65)
    torch.testing.assert_close(found[:, 4], torch.tensor([0.9, 0.8, 0.7]))
    overlapping = dense([5.0, 5, 8, 8, 0.9, 0.0], [6.0, 5, 8, 8, 0.8, 0.0])  # 7 / 9
    assert [len(detections(overlapping, (10, 10), iou=v)[0]) for v in (0.7, 0.8)] == [1, 2]


def test_the_best_candidates_are_kept_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(boxes, 'MOST_CANDIDATES', 3)
    rows = [[10.0 * i + 5, 5, 8, 8, 0.1 + 0.1 * i, 0.0] for i in range(6)]
    (found,) = detections(dense(*rows), (10, 64))
    torch.testing.assert_close(found[:, 4], torch.tensor([0.6, 0.5, 0.4]))


@pytest.mark.parametrize('rows', [(), ([5.0, 5, 4, 4, 0.0, 0.0],)])
def test_nothing_is_found_where_there_is_nothing(rows):
    (found,) = detections(dense(*rows), (10, 10))
    assert found.shape == (0, 6)


@pytest.mark.skipif(find_spec('ultralytics') is None, reason='needs ultralytics')
@pytest.mark.parametrize('seed', range(3))
def test_it_finds_what_ultralytics_finds(seed):
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(2, 4, 400, generator=generator) * torch.tensor([300.0, 200, 60, 60])[:, None] + 4
    given = torch.cat((places, torch.rand(2, 5, 400, generator=generator) ** 4), 1)
    expected = ultralytics_module('ultralytics.utils.nms').non_max_suppression(
        given.clone(), 0.001, 0.7, multi_label=True, max_det=300, max_time_img=1e6, nc=5
    )
    limit = torch.tensor([320, 240] * 2)
    for found, theirs in zip(detections(given, (240, 320)), expected):
        theirs = torch.cat((torch.minimum(theirs[:, :4].clamp(min=0), limit), theirs[:, 4:]), 1)
        torch.testing.assert_close(found, theirs, rtol=0, atol=1e-3)
