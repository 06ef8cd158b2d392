"""Mean IoU: against scikit-learn, by hand, and at the sizes and with the gaps that real labels have."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score

from registry import METRICS, InputError
from zoo import Batch, Outputs
from zoo.metrics import MeanIoU, class_map

NAN = float('nan')


def given(logits, target):
    present = torch.ones(len(logits), 1, dtype=torch.bool)
    return Outputs(logits, {}, {}), Batch({'a': torch.zeros(len(logits), 1)}, present, ('a',), target)


def scored(*pairs, **arguments):
    metric = METRICS.build(dict(type='MeanIoU', **arguments))
    for logits, target in pairs:
        metric.update(*given(logits, target))
    return metric.compute()


def as_logits(labels, classes):
    """Logits whose largest is that of ``labels`` (B, H, W)."""
    return F.one_hot(torch.as_tensor(labels), classes).movedim(-1, 1).float()


def test_it_agrees_with_scikit_learn_over_several_batches():
    batches = []
    for size in (3, 2):
        target = torch.randint(0, 7, (size, 9, 13))
        target[target == 6] = 255
        batches.append((torch.randn(size, 7, 9, 13), target))
    found = scored(*batches)
    true = torch.cat([t[t != 255] for _, t in batches]).numpy()
    predicted = torch.cat([z.argmax(1)[t != 255] for z, t in batches]).numpy()
    here = sorted(set(true))
    iou = jaccard_score(true, predicted, labels=here, average=None)
    recall = recall_score(true, predicted, labels=here, average=None)
    np.testing.assert_allclose(found['IoU'][here], 100 * iou)
    np.testing.assert_allclose(found['accuracy'][here], 100 * recall)
    assert found['IoU'][6].isnan()
    assert float(found['mIoU']) == pytest.approx(100 * iou.mean())
    assert float(found['mean_accuracy']) == pytest.approx(100 * recall.mean())
    assert float(found['pixel_accuracy']) == pytest.approx(100 * (true == predicted).mean())


def test_counts_are_exact():
    logits, target = torch.randn(2, 5, 60, 80), torch.randint(0, 5, (2, 60, 80))
    metric = MeanIoU()
    for _ in range(3):
        metric.update(*given(logits, target))
    assert metric.counts.dtype == torch.int64
    expected = confusion_matrix(target.flatten(), logits.argmax(1).flatten(), labels=range(5))
    np.testing.assert_array_equal(metric.counts[1:-1], 3 * expected)
    metric.counts.fill_(2**60 + 1)  # what float64 could not hold
    metric.update(*given(logits, target))
    np.testing.assert_array_equal(metric.counts[1:-1] - (2**60 + 1), expected)


def test_a_class_without_labels_is_left_out_of_the_means_also_where_it_is_predicted():
    target = torch.tensor([[[0, 0, 0, 1]]])
    found = scored((as_logits([[[0, 0, 2, 1]]], 4), target))
    torch.testing.assert_close(found['IoU'].tolist(), [200 / 3, 100.0, NAN, NAN], equal_nan=True)
    assert float(found['mIoU']) == pytest.approx(250 / 3)  # mmsegmentation: (2/3 + 1 + 0) / 3
    assert float(found['pixel_accuracy']) == 75


def test_what_is_predicted_where_nothing_is_labelled_counts_nowhere():
    target = torch.tensor([[[0, 1, 255, 255]]])
    found = scored((as_logits([[[0, 1, 0, 1]]], 2), target))
    assert found['IoU'].tolist() == [100, 100]


@pytest.mark.parametrize('ignored', [0, -1, 255])
def test_the_ignored_label_may_be_a_class_or_none(ignored):
    target = torch.tensor([[[1, 2, ignored, 1]]])
    found = scored((as_logits([[[1, 1, 2, 1]]], 3), target), ignore_index=ignored)
    torch.testing.assert_close(found['IoU'].tolist(), [NAN, 200 / 3, 0.0], equal_nan=True)


def test_without_a_labelled_pixel_everything_is_nan():
    found = scored((torch.randn(2, 3, 4, 5), torch.full((2, 4, 5), 255)))
    assert found['IoU'].shape == (3,)
    assert all(v.isnan().all() for v in found.values())


def test_without_a_batch_everything_is_nan_and_there_are_no_classes():
    found = scored()
    assert found['IoU'].shape == (0,)
    assert found['mIoU'].isnan()


@pytest.mark.parametrize('size', [(24, 36), (10, 7)])
def test_logits_are_resized_to_the_labels(size):
    logits, target = torch.randn(3, 6, 12, 18), torch.randint(0, 6, (3, *size))
    resized = F.interpolate(logits, size, mode='bilinear', align_corners=False)
    expected = jaccard_score(target.flatten(), resized.argmax(1).flatten(), average='macro')
    assert float(scored((logits, target))['mIoU']) == pytest.approx(100 * expected)


def test_labels_of_different_sizes_come_as_a_list():
    logits = torch.randn(3, 4, 6, 8)
    sizes = [(6, 8), (12, 10), (9, 31)]
    targets = [torch.randint(0, 4, size) for size in sizes]
    found = scored((logits, targets))
    alone = [(z, t[None]) for z, t in zip(logits.split(1), targets)]
    torch.testing.assert_close(found, scored(*alone))
    predicted = [F.interpolate(z, t.shape[1:], mode='bilinear', align_corners=False).argmax(1) for z, t in alone]
    true, predicted = torch.cat([t.flatten() for t in targets]), torch.cat([p.flatten() for p in predicted])
    assert float(found['mIoU']) == pytest.approx(100 * jaccard_score(true, predicted, average='macro'))


@pytest.mark.parametrize('wrong', [-7, 3, 300])
def test_labels_that_no_class_has_are_refused(wrong):
    target = torch.tensor([[[0, wrong, 255]]])
    with pytest.raises(InputError, match=r'^1 pixels have labels that are neither in 0..2'):
        scored((torch.randn(1, 3, 1, 3), target))


@pytest.mark.parametrize('target', [torch.tensor([1, 2]), [torch.zeros(4, 5, 6)], [{'boxes': 1}], {'labels': 1}])
def test_a_target_that_is_no_mask_is_refused(target):
    with pytest.raises(InputError, match='MeanIoU scores masks'):
        MeanIoU().update(Outputs(torch.randn(2, 3, 4, 5), {}, {}), Batch({}, torch.ones(2, 1).bool(), ('a',), target))


LAYOUTS = {
    'contiguous': lambda x: x.contiguous(),
    'channels last': lambda x: x.contiguous(memory_format=torch.channels_last),
    'cropped': lambda x: F.pad(x, (0, 3, 0, 2))[..., : x.shape[2], : x.shape[3]],
}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('classes', [1, 2, 40, 300])
def test_the_class_map_is_the_argmax_and_takes_the_first_of_equals(layout, classes):
    logits = torch.randint(-3, 3, (2, classes, 7, 11)).float()
    before = logits.clone()
    assert torch.equal(class_map(LAYOUTS[layout](logits)).long(), logits.argmax(1))
    assert torch.equal(logits, before)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_the_class_map_of_resized_logits_is_their_argmax(layout):
    logits = torch.randn(2, 5, 7, 11)
    expected = F.interpolate(logits, (20, 9), mode='bilinear', align_corners=False).argmax(1)
    assert torch.equal(class_map(LAYOUTS[layout](logits), (20, 9)).long(), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
@pytest.mark.parametrize('size', [(12, 18), (20, 9)])
def test_cuda_agrees_with_the_cpu_without_a_synchronisation(size):
    logits, target = torch.randn(3, 6, 12, 18), torch.randint(0, 6, (3, *size))
    on_device = given(logits.cuda(), target.cuda())
    metric = MeanIoU().cuda()
    torch.cuda.set_sync_debug_mode('error')
    try:
        metric.update(*on_device)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    found = {k: v.cpu() for k, v in metric.compute().items()}
    torch.testing.assert_close(found, scored((logits, target)), rtol=0, atol=1)  # resized logits may round otherwise


SCRIPT = """
from zoo import Batch, Outputs
from zoo.metrics import MeanIoU

generator = torch.Generator().manual_seed(0)
logits, target = torch.randn(3, 4, 5, 6, generator=generator), torch.randint(0, 4, (3, 5, 6), generator=generator)
target[0, 0] = 255
shared, lone = MeanIoU(), MeanIoU()
for i in range(rank, 3, world):
    batch = Batch({'a': torch.zeros(1, 1)}, torch.ones(1, 1, dtype=torch.bool), ('a',), target[i : i + 1])
    outputs = Outputs(logits[i : i + 1], {}, {})
    shared.update(outputs, batch)
    if i == 0:  # the other process sees nothing of this subset
        lone.update(outputs, batch)
out = [shared.compute(), shared.compute(), lone.compute(), MeanIoU().compute()]
"""


def test_two_processes_get_what_one_gets_also_where_one_of_them_saw_nothing(ranks):
    alone, *both = ranks(SCRIPT)
    assert 0 < alone[0]['mIoU'] < 100
    for found in both:
        torch.testing.assert_close(found, alone, rtol=0, atol=0, equal_nan=True)
