"""Mean average precision: against other evaluators' numbers on a fixed set, by hand, and at the boundaries."""

import importlib.util

import numpy as np
import pytest
import torch

from registry import METRICS, InputError, NameNotFound
from zoo import Batch, Outputs
from zoo.metrics import MeanAP, match_detections

NAN = float('nan')
PRESENT = importlib.util.find_spec('ultralytics') is not None
STYLES = ['coco', pytest.param('ultralytics', marks=pytest.mark.skipif(not PRESENT, reason='needs ultralytics'))]

# pycocotools 2.0.10, COCOeval with maxDets [1, 10, 300]; and DetMetrics of ultralytics 8.4.190, fed by its validator's
# own matching. On `toy_set()`
GOLDEN = {
    'coco': {
        'mAP50': 37.188244,
        'mAP50-95': 20.885734,
        'AP50': [44.035764, 58.519983, 46.197229, 0.0, NAN],
        'AP50-95': [24.402248, 34.082386, 25.058304, 0.0, NAN],
    },
    'ultralytics': {
        'mAP50': 37.245139,
        'mAP50-95': 20.866946,
        'AP50': [43.616, 58.949, 46.415, 0.0, NAN],
        'AP50-95': [24.101, 34.235, 25.131, 0.0, NAN],
    },
}


def toy_set(count=60):
    """For each image detections (n, 6), best first, boxes (g, 4) and labels (g,). Of five classes the fourth is never
    found and the last is in no label; some images have no box, one no detection; scores have two decimals, so that
    many are equal."""
    noise = np.random.default_rng(7)
    images = []
    for index in range(count):
        g = 0 if index % 9 == 4 else int(noise.integers(1, 7))
        corner, side = noise.uniform(0, 100, (g, 2)), noise.uniform(8, 50, (g, 2))
        boxes, labels = np.hstack([corner, corner + side]), noise.integers(0, 4, g)
        copies = np.repeat(np.arange(g), 3)
        copies = copies[(noise.random(len(copies)) < 0.6) & (labels[copies] < 3)]
        found = boxes[copies] + noise.normal(0, 0.09, (len(copies), 4)) * np.tile(side[copies], 2)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        kind = np.where(noise.random(len(copies)) < 0.9, labels[copies], 4)
        stray = noise.uniform(0, 100, (0 if index % 7 == 2 else 3, 4))
        stray[:, 2:] += stray[:, :2] + 5
        rows = np.vstack([np.column_stack([found, kind]), np.column_stack([stray, noise.integers(0, 3, len(stray))])])
        score = noise.beta(2, 2, len(rows)).round(2)
        best = np.argsort(-score, kind='stable')
        detections = np.column_stack([rows[:, :4], score, rows[:, 4]])[best]
        images.append((detections.astype(np.float32), boxes.astype(np.float32), labels))
    return [tuple(map(torch.as_tensor, image)) for image in images]


def given(images):
    detections, boxes, labels = map(list, zip(*images))
    present = torch.ones(len(images), 1, dtype=torch.bool)
    target = {'boxes': boxes, 'labels': labels}
    return Outputs(detections, {}, {}), Batch({'a': torch.zeros(len(images), 1)}, present, ('a',), target)


def scored(*batches, **arguments):
    metric = METRICS.build(dict(type='MeanAP', **arguments))
    for images in batches:
        metric.update(*given(images))
    return metric.compute()


def boxes_of(*rows):
    return torch.tensor(rows).reshape(-1, 4).float()


NOTHING = torch.zeros(0, 6), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
A_BOX = boxes_of([10, 20, 40, 60]), torch.tensor([1])


@pytest.mark.parametrize('style', STYLES)
def test_scores_are_those_of_the_evaluator_whose_convention_it_is(style):
    images = toy_set()
    found = scored(images[:17], images[17:18], images[18:], style=style, num_classes=5)
    assert set(found) == set(GOLDEN[style])
    for name, value in GOLDEN[style].items():
        np.testing.assert_allclose(found[name], value, atol=1e-3, err_msg=name)


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def serve_in_turn(image, threshold):
    """Right or wrong for each detection, one after the other."""
    detections, boxes, labels = (x.tolist() for x in image)
    free, right = set(range(len(boxes))), []
    for *corners, _, kind in detections:
        fits = [(overlap(corners, boxes[j]), -j) for j in free if labels[j] == kind]
        best, j = max(fits, default=(-1, 0))
        right.append(best >= threshold)
        free -= {-j} if right[-1] else set()
    return right


def average_precision(images, kind, threshold):
    """At 101 recalls the best precision at this recall or a higher one; and these precisions."""
    rows = []
    for image in images:
        verdicts = serve_in_turn(image, threshold)
        rows += [(-float(d[4]), right) for d, right in zip(image[0], verdicts) if d[5] == kind]
    rows.sort(key=lambda row: row[0])
    total = sum(int((labels == kind).sum()) for *_, labels in images)
    hits, points = 0, []
    for n, (_, right) in enumerate(rows, start=1):
        hits += right
        points.append((hits / total, hits / n))
    curve = [max((p for r, p in points if r >= i / 100 - 1e-12), default=0.0) for i in range(101)]
    return sum(curve) / 101, curve


def test_coco_scores_and_curves_equal_a_search_through_all_detections():
    images = toy_set(25)
    metric = MeanAP(num_classes=4)
    metric.update(*given(images))
    found, curves = metric.compute(), metric.curves()
    assert curves.recall.tolist() == pytest.approx([i / 100 for i in range(101)])
    for kind in range(4):
        ap, curve = average_precision(images, kind, 0.5)
        assert float(found['AP50'][kind]) == pytest.approx(100 * ap, abs=1e-6)
        np.testing.assert_allclose(curves.precision[kind], curve, atol=1e-6)
        mean = np.mean([average_precision(images, kind, t)[0] for t in np.linspace(0.5, 0.95, 10)])
        assert float(found['AP50-95'][kind]) == pytest.approx(100 * mean, abs=1e-6)


@pytest.mark.parametrize('crowd', [6, 60])
def test_matching_in_rounds_equals_serving_one_detection_after_the_other(crowd):
    noise = torch.Generator().manual_seed(crowd)
    images = toy_set(20)
    for _ in range(5):  # many detections that want the same few boxes
        corner = 10 * torch.rand(4, 2, generator=noise)
        boxes = torch.cat([corner, corner + 20], 1)
        chosen = torch.randint(4, (crowd,), generator=noise)
        moved = boxes[chosen] + torch.randn(crowd, 4, generator=noise)
        score = torch.rand(crowd, 1, generator=noise).sort(0, descending=True).values
        kind = torch.randint(2, (crowd, 1), generator=noise).float()
        images.append((torch.cat([moved, score, kind], 1), boxes, torch.tensor([0, 1, 0, 1])))
    thresholds = [0.5, 0.7, 0.8, 0.9]
    found = match_detections(*map(list, zip(*images)), thresholds)
    for i, threshold in enumerate(thresholds):
        expected = [right for image in images for right in serve_in_turn(image, threshold)]
        assert found[:, i].tolist() == expected
    assert 0 < found.sum(0).min() < found.sum(0).max()


@pytest.mark.parametrize('style', STYLES)
def test_a_perfect_detector_has_what_its_convention_gives_it(style):
    box, label = A_BOX
    perfect = torch.cat([box, torch.tensor([[0.9, 1.0]])], 1), box, label
    found = scored([perfect, NOTHING], style=style)
    full = {'coco': 100, 'ultralytics': 99.5}[style]
    assert float(found['mAP50']) == pytest.approx(full)
    np.testing.assert_allclose(found['AP50-95'], [NAN, full])


@pytest.mark.parametrize('style', STYLES)
@pytest.mark.parametrize('batches', [[], [[NOTHING]], [[(torch.ones(3, 6), *NOTHING[1:])], [NOTHING]]])
def test_without_any_box_in_the_labels_everything_is_nan(style, batches):
    metric = MeanAP(style, num_classes=3)
    for images in batches:
        metric.update(*given(images))
    found = metric.compute()
    assert found['AP50'].shape == found['AP50-95'].shape == (3,)
    assert all(v.isnan().all() for v in found.values())
    assert metric.curves() is None


@pytest.mark.parametrize('style', STYLES)
def test_without_any_detection_the_classes_in_the_labels_have_zero(style):
    metric = MeanAP(style, num_classes=3)
    metric.update(*given([(NOTHING[0], *A_BOX), NOTHING]))
    found = metric.compute()
    torch.testing.assert_close(found['AP50'].tolist(), [NAN, 0.0, NAN], equal_nan=True)
    assert found['mAP50'] == found['mAP50-95'] == 0
    assert metric.curves().precision[1].tolist() == [0] * 101


def test_the_number_of_classes_is_that_of_the_classes_seen_where_nobody_says_it():
    images = toy_set()
    assert scored(images)['AP50'].shape == (5,)  # the last one is only predicted
    assert scored([(NOTHING[0], *A_BOX)])['AP50'].shape == (2,)
    assert scored()['AP50'].shape == (0,)


def test_predictions_may_have_half_precision_and_classes_that_the_data_have_not():
    box, label = A_BOX
    rows = torch.cat([box.repeat(2, 1), torch.tensor([[0.9, 7.0], [0.8, 1.0]])], 1)
    assert float(scored([(rows.bfloat16(), box, label)], num_classes=2)['mAP50']) == pytest.approx(100)


WRONG = {
    'labels': (dict(num_classes=1), lambda o, b: (o, b), 'got the label 1, expected 0..0'),
    'negative label': ({}, lambda o, b: (o, b.replace(target={**b.target, 'labels': [-A_BOX[1]]})), 'got the label -1'),
    'a mask': ({}, lambda o, b: (o, b.replace(target=torch.zeros(1, 4, 5))), r'scores boxes.* a tensor \(1, 4, 5\)'),
    'no boxes': ({}, lambda o, b: (o, b.replace(target={'labels': [1]})), "scores boxes.* a dict of \\['labels'\\]"),
    'raw': ({}, lambda o, b: (o._replace(prediction=torch.zeros(1, 6, 8)), b), r'for each image, got a tensor \(1, 6'),
    'columns': ({}, lambda o, b: (o._replace(prediction=[torch.zeros(3, 5)]), b), r'got tensors \[\(3, 5\)\]'),
    'images': ({}, lambda o, b: (o._replace(prediction=[NOTHING[0]] * 2), b), r'same images, got \[1, 2\]'),
}


@pytest.mark.parametrize('name', WRONG)
def test_what_does_not_fit_is_refused_in_one_line(name):
    arguments, change, message = WRONG[name]
    outputs, batch = change(*given([(NOTHING[0], *A_BOX)]))

    def score():
        metric = MeanAP(**arguments)
        metric.update(outputs, batch)
        metric.compute()

    with pytest.raises(InputError, match=message):
        score()


def test_an_unknown_style_is_answered_with_the_nearest():
    with pytest.raises(NameNotFound, match=r"'cocoo'\. Did you mean 'coco'"):
        MeanAP('cocoo')


def test_the_style_is_stored_with_the_results():
    assert MeanAP().settings == {'style': 'coco'}


SCRIPT = """
import runpy
from zoo.metrics import MeanAP

names = runpy.run_path('tests/zoo/metrics/test_mean_ap.py')
images, given = names['toy_set'](25), names['given']
shared, lone = MeanAP(), MeanAP()
for i in range(rank, 25, world):
    shared.update(*given(images[i : i + 1]))
    if rank == 0 and i < 8 * world:  # the other process sees nothing of this subset
        lone.update(*given(images[i // world : i // world + 1]))
values = [m.compute() for m in (shared, lone, MeanAP())]
out = [*values, shared.curves().precision]
"""


def test_two_processes_get_what_one_gets_also_where_one_of_them_saw_nothing(ranks):
    alone, *both = ranks(SCRIPT)
    assert 0 < alone[0]['mAP50'] < 100
    assert not alone[1]['mAP50'].isnan()
    for found in both:
        torch.testing.assert_close(found, alone, rtol=0, atol=0, equal_nan=True)
