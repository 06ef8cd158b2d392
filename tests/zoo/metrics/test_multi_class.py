import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

from registry import METRICS, InputError
from zoo.batch import Batch, Outputs


def batch(target):
    size = len(next(iter(target.values())) if isinstance(target, dict) else target)
    return Batch({'rgb': torch.zeros(size, 1)}, torch.ones(size, 1, dtype=torch.bool), ('rgb',), target)


def scored(metric, *pairs):
    metric = METRICS.build(metric)
    for logits, target in pairs:
        metric.update(Outputs(logits, {}, {}), batch(target))
    return metric.compute()


def test_scores_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(90, 4, generator=generator), torch.randint(0, 4, (90,), generator=generator)
    values = scored('MultiClass', (logits[:50], target[:50]), (logits[50:], target[50:]))
    predicted = logits.argmax(1)
    assert float(values['accuracy']) == pytest.approx(100 * float((predicted == target).double().mean()))
    assert float(values['f1']) == pytest.approx(100 * f1_score(target, predicted, average='macro'), rel=1e-5)
    auc = roc_auc_score(target, logits.softmax(1), multi_class='ovr', average='macro')
    assert float(values['auc']) == pytest.approx(100 * auc, rel=1e-5)
    torch.testing.assert_close(
        values['F1'].numpy(), 100 * f1_score(target, predicted, average=None), check_dtype=False, rtol=1e-5, atol=0
    )


def test_unlabelled_samples_and_classes_that_do_not_occur_are_left_out():
    logits = torch.tensor([[2.0, 1, 0], [0, 2, 1], [2, 1, 0], [0, 0, 9]])
    values = scored('MultiClass', (logits, torch.tensor([0, 1, 1, -1])))
    assert float(values['accuracy']) == pytest.approx(200 / 3)
    torch.testing.assert_close(values['F1'], torch.tensor([200 / 3, 200 / 3, torch.nan]), equal_nan=True)
    assert float(values['f1']) == pytest.approx(200 / 3)
    assert values['AUC'].isnan().tolist() == [False, False, True]


def test_without_a_label_there_is_no_score():
    for pairs in ((), ((torch.randn(2, 3), torch.tensor([-1, -1])),)):
        values = scored('MultiClass', *pairs)
        assert all(torch.as_tensor(v).isnan().all() for v in values.values())


def test_what_does_not_fit_is_told():
    with pytest.raises(InputError, match=r'A label is 3, the logits have the classes 0\.\.2'):
        scored('MultiClass', (torch.randn(1, 3), torch.tensor([3])))
    with pytest.raises(InputError, match='MultiTask scores several tasks'):
        scored('MultiClass', ({'cells': torch.randn(1, 3)}, {'cells': torch.tensor([0])}))


# ---- several tasks

BOTH = dict(type='MultiTask', metrics=dict(cells='MultiClass', skin='Accuracy'))


def test_each_task_has_its_metric_and_the_score_is_their_mean():
    logits = {'cells': torch.eye(3), 'skin': torch.eye(3)[[0, 0, 1]]}
    target = {'cells': torch.tensor([0, 1, -1]), 'skin': torch.tensor([0, 1, 1])}
    metric = METRICS.build(BOTH)
    assert (metric.task, metric.name, metric.also) == (
        'classification', 'accuracy', ('cells_accuracy', 'skin_accuracy')
    )  # fmt: skip
    values = scored(BOTH, (logits, target))
    assert {k: round(float(v), 2) for k, v in values.items()} == {
        'accuracy': 83.33, 'cells_accuracy': 100, 'cells_f1': 100, 'cells_auc': 100, 'skin_accuracy': 66.67,
    }  # fmt: skip


def test_mistakes_with_tasks_are_told():
    with pytest.raises(InputError, match='MultiTask needs predictions of cells, skin, got cells'):
        scored(BOTH, ({'cells': torch.randn(1, 3)}, {'cells': torch.tensor([0])}))
    with pytest.raises(InputError, match='needs labels of cells, skin, got Tensor'):
        scored(BOTH, (dict.fromkeys(('cells', 'skin'), torch.randn(1, 3)), torch.tensor([0])))
    with pytest.raises(InputError, match='one kind of host'):
        METRICS.build(dict(type='MultiTask', metrics=dict(cells='Accuracy', skin='MeanIoU')))
    with pytest.raises(InputError, match=r'metrics=dict\(TASK=METRIC'):
        METRICS.build(dict(type='MultiTask', metrics={}))
