"""Error rates of face anti-spoofing: confusions made by hand, a ROC curve of scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from registry import METRICS, InputError
from zoo.batch import Batch, Outputs
from zoo.metrics import FaceAntiSpoofing
from zoo.metrics.face_anti_spoofing import true_positive_rate


def score(logits, target, batch_size=5, **arguments):
    metric = METRICS.build({'type': 'FaceAntiSpoofing', **arguments})
    for z, t in zip(logits.split(batch_size), target.split(batch_size)):
        metric.update(Outputs(z, {}, {}), Batch({}, torch.ones(len(t), 1, dtype=torch.bool), ('rgb',), t))
    return {k: float(v) for k, v in metric.compute().items()}


def case(attacks_kept, attacks_passed, real_passed, real_rejected):
    target = torch.tensor([0] * (attacks_kept + attacks_passed) + [1] * (real_passed + real_rejected))
    predicted = [0] * attacks_kept + [1] * attacks_passed + [1] * real_passed + [0] * real_rejected
    return torch.eye(2)[predicted], target


@pytest.mark.parametrize('batch_size', [1, 7, 100])
def test_rates_are_those_of_a_confusion_made_by_hand(batch_size):
    found = score(*case(attacks_kept=6, attacks_passed=2, real_passed=3, real_rejected=1), batch_size=batch_size)
    assert found['accuracy'] == pytest.approx(100 * 9 / 12)
    assert found['apcer'] == pytest.approx(25)
    assert found['bpcer'] == pytest.approx(25)
    assert found['acer'] == pytest.approx(25)


def test_attacks_that_pass_and_faces_that_do_not_are_not_mixed_up():
    found = score(*case(attacks_kept=9, attacks_passed=1, real_passed=2, real_rejected=3))
    assert (found['apcer'], found['bpcer'], found['acer']) == pytest.approx((10, 60, 35))


def test_the_label_of_real_faces_may_be_the_other():
    logits, target = case(attacks_kept=9, attacks_passed=1, real_passed=2, real_rejected=3)
    assert score(logits, target) == pytest.approx(score(logits.flip(1), 1 - target, real=0))


def test_one_class_alone_has_no_error_of_the_other():
    found = score(*case(attacks_kept=3, attacks_passed=1, real_passed=0, real_rejected=0))
    assert found['apcer'] == 25
    assert np.isnan([found['bpcer'], found['acer'], found['tpr@fpr']]).all()


@pytest.mark.parametrize('fpr', [0.0, 0.01, 0.1, 0.29])
def test_the_true_positive_rate_is_that_of_a_roc_curve(fpr):
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(400) % 4 == 0
    scores = torch.randn(400, generator=generator, dtype=torch.float64) + target
    known_fpr, known_tpr, _ = roc_curve(target.numpy(), scores.numpy(), drop_intermediate=False)
    expected = known_tpr[known_fpr <= fpr + 1e-12].max()
    assert true_positive_rate(scores[target], scores[~target], fpr) == pytest.approx(expected)
    logits = torch.stack([torch.zeros_like(scores), scores], 1)
    assert score(logits, target.long(), fpr=fpr)['tpr@fpr'] == pytest.approx(100 * expected)


def test_equal_scores_pass_together_or_not_at_all():
    scores = torch.tensor([1.0, 1.0, 1.0])
    assert true_positive_rate(scores, scores, 0.0) == 0


@pytest.mark.parametrize('arguments', [{'real': 2}, {'fpr': 1.0}, {'fpr': -0.1}])
def test_values_outside_their_range_are_refused(arguments):
    with pytest.raises(InputError, match=f'{next(iter(arguments))} .*got'):
        FaceAntiSpoofing(**arguments)


def test_labels_of_no_class_are_refused():
    with pytest.raises(InputError, match='1 samples have labels that are neither 0 nor 1'):
        score(torch.zeros(3, 2), torch.tensor([0, 2, 1]))


def test_other_tasks_than_two_classes_are_refused():
    with pytest.raises(InputError, match=r'logits \(B, 2\), of attack and real, got \(2, 3\)'):
        score(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
