"""The detection loss: what it hands on, and the probability of the true class."""

from importlib.util import find_spec

import pytest
import torch

from registry import InputError
from zoo.losses import YOLOLoss
from zoo.losses.yolo_loss import flatten

pytestmark = pytest.mark.skipif(find_spec('ultralytics') is None, reason='needs ultralytics')


def test_lists_become_rows():
    boxes = [torch.tensor([[10.0, 20, 30, 60]]), torch.zeros(0, 4), torch.tensor([[0.0, 0, 100, 80], [50, 40, 60, 44]])]
    labels = [torch.tensor([2]), torch.zeros(0, dtype=torch.int64), torch.tensor([0, 1])]
    flat = flatten(boxes, labels, (80, 100))
    assert flat['batch_idx'].tolist() == [0, 2, 2]
    assert flat['cls'].tolist() == [2, 0, 1]
    expected = [[0.2, 0.5, 0.2, 0.5], [0.5, 0.5, 1, 1], [0.55, 0.525, 0.1, 0.05]]
    torch.testing.assert_close(flat['bboxes'], torch.tensor(expected))


def raw(size=2, classes=3, bins=4, shapes=((4, 6), (2, 3)), seed=0):
    generator = torch.Generator().manual_seed(seed)
    places = sum(h * w for h, w in shapes)
    return {
        'boxes': torch.randn(size, 4 * bins, places, generator=generator),
        'scores': torch.randn(size, classes, places, generator=generator),
        'feats': [torch.zeros(size, 1, *s) for s in shapes],
    }


def test_the_probability_of_the_true_class_is_that_at_the_places_of_a_box():
    loss = YOLOLoss(3, 4, (8, 16))
    prediction = raw()
    boxes = [torch.tensor([[2.0, 2, 30, 30], [20, 4, 46, 28]]), torch.zeros(0, 4)]
    labels = [torch.tensor([2, 0]), torch.zeros(0, dtype=torch.int64)]
    found = loss.true_class_probability(prediction, boxes, labels)
    assert found[1].isnan()  # without a box there is nothing to score
    # whatever places the assigner takes, one class has one probability everywhere here
    flat = {**prediction, 'scores': torch.tensor([0.3, -0.2, 1.1])[None, :, None].expand(2, 3, 30)}
    same = [torch.tensor([2, 2]), labels[1]]
    torch.testing.assert_close(loss.true_class_probability(flat, boxes, same)[0], torch.tensor(1.1).sigmoid())
    assert loss.true_class_probability(flat, boxes, [torch.tensor([0, 0]), labels[1]])[0] == torch.tensor(0.3).sigmoid()
    mixed = loss.true_class_probability(flat, boxes, labels)[0]
    assert torch.tensor(0.3).sigmoid() < mixed < torch.tensor(1.1).sigmoid()


def test_no_box_in_the_whole_batch():
    loss = YOLOLoss(3, 4, (8, 16))
    nothing = [torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2
    assert loss.true_class_probability(raw(), *nothing).isnan().all()
    parts = loss(raw(), *nothing)
    assert parts['box'] == parts['dfl'] == 0 < parts['cls']


def test_under_autocast_it_computes_in_float32():
    """Places beyond cell 128 are no numbers of bfloat16: near-perfect predictions would cost a lot."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((40, 160), (20, 80))
    low = torch.rand(40, 2, generator=generator) * torch.tensor([1240.0, 280])
    boxes = [torch.cat((low, low + 12 + 14 * torch.rand(40, 2, generator=generator)), 1)]
    labels = [torch.randint(3, (40,), generator=generator)]
    grads, losses = [], []
    for dtype in (None, torch.bfloat16):
        prediction = raw(size=1, bins=16, shapes=shapes)
        prediction['boxes'].requires_grad_()
        with torch.autocast('cpu', dtype, enabled=dtype is not None):
            parts = YOLOLoss(3, 16, (8, 16))(prediction, boxes, labels)
        sum(parts.values()).backward()
        grads.append(prediction['boxes'].grad.flatten())
        losses.append(torch.stack(list(parts.values())))
    torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(grads[1], grads[0])


def test_too_few_places_are_refused():
    with pytest.raises(InputError, match='needs 10 places, an input of this size has 5'):
        YOLOLoss(3, 4, (8, 16))(raw(shapes=((2, 2), (1, 1))), [torch.zeros(0, 4)] * 2, [torch.zeros(0).long()] * 2)
