"""Losses of logits against literal ones in numpy, sample by sample."""

import numpy as np
import pytest
import torch

from plugins.distillation.dist import correlation, dist_loss
from plugins.distillation.dkd import dkd_loss
from plugins.distillation.logit_kd import kl_loss
from plugins.distillation.nkd import nkd_loss


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER, TARGET = 3 * draw(5, 4), 3 * draw(5, 4, seed=1), torch.tensor([0, 3, 1, 1, 2])
WEIGHTS = torch.tensor([1.0, 0, 1, 1, 0], dtype=torch.float64)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def kl(p, q):
    return float(sum(a * np.log(a / b) for a, b in zip(p, q)))


def rows():
    return zip(STUDENT.numpy(), TEACHER.numpy(), TARGET.tolist())


def literal_kl(t):
    return [t * t * kl(softmax(b / t), softmax(a / t)) for a, b, _ in rows()]


def literal_dkd(t, alpha, beta):
    found = []
    for a, b, y in rows():
        p, q = softmax(b / t), softmax(a / t)
        binary = kl([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        rest = kl(np.delete(p, y) / (1 - p[y]), np.delete(q, y) / (1 - q[y]))
        found.append(t * t * (alpha * binary + beta * rest))
    return found


def literal_nkd(t, gamma):
    found = []
    for a, b, y in rows():
        p, q = softmax(np.delete(b, y) / t), softmax(np.delete(a, y) / t)
        found.append(-softmax(b)[y] * np.log(softmax(a)[y]) - gamma * t * t * float((p * np.log(q)).sum()))
    return found


@pytest.mark.parametrize(
    ('loss', 'literal'),
    [
        (lambda w: kl_loss(STUDENT, TEACHER, 2.0, w), literal_kl(2.0)),
        (lambda w: dkd_loss(STUDENT, TEACHER, TARGET, 1.5, 8.0, 4.0, w), literal_dkd(4.0, 1.5, 8.0)),
        (lambda w: nkd_loss(STUDENT, TEACHER, TARGET, 1.5, 2.0, w), literal_nkd(2.0, 1.5)),
    ],
    ids=['kl', 'dkd', 'nkd'],
)
def test_a_loss_is_the_literal_sum_over_the_rows_that_count(loss, literal):
    assert float(loss(None)) == pytest.approx(np.mean(literal))
    assert float(loss(WEIGHTS)) == pytest.approx(np.mean([literal[i] for i in (0, 2, 3)]))
    assert float(loss(0 * WEIGHTS)) == 0


def test_dist_is_one_minus_correlations_within_samples_and_within_classes():
    s, t = (np.stack([softmax(z / 2) for z in x.numpy()]) for x in (STUDENT, TEACHER))
    for kept, weights in ((slice(None), None), ([0, 2, 3], WEIGHTS)):
        between = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s[kept], t[kept])])
        within = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s[kept].T, t[kept].T)])
        found = dist_loss(STUDENT, TEACHER, 2.0, 3.0, 2.0, weights)
        assert float(found) == pytest.approx(4 * (2 * between + 3 * within))


def test_a_batch_of_one_has_no_relations_within_a_class():
    found = dist_loss(STUDENT[:1], TEACHER[:1], beta=0.0)
    assert found == 0


@pytest.mark.parametrize('loss', [kl_loss, dist_loss])
def test_the_same_logits_have_no_loss_and_those_of_one_value_a_finite_gradient(loss):
    assert abs(float(loss(TEACHER, TEACHER))) < 1e-9
    flat = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    loss(flat, flat.detach()).backward()
    assert flat.grad.isfinite().all()


def test_coupling_its_weights_makes_dkd_the_divergence_of_all_classes():
    t = 3.0
    p = (TEACHER / t).softmax(1).gather(1, TARGET[:, None])[:, 0]
    each = [dkd_loss(STUDENT[i : i + 1], TEACHER[i : i + 1], TARGET[i : i + 1], 1, 1 - p[i], t) for i in range(5)]
    torch.testing.assert_close(torch.stack(each).mean(), kl_loss(STUDENT, TEACHER, t))


@pytest.mark.parametrize(
    'loss',
    [
        lambda s: kl_loss(s, TEACHER, 2.0),
        lambda s: dist_loss(s, TEACHER),
        lambda s: dkd_loss(s, TEACHER, TARGET),
        lambda s: nkd_loss(s, TEACHER, TARGET),
    ],
)
def test_gradients_are_those_of_differences(loss):
    assert torch.autograd.gradcheck(loss, STUDENT.clone().requires_grad_())


def test_correlations_are_those_of_numpy_and_zero_without_spread():
    for dim, (a, b) in ((1, (STUDENT, TEACHER)), (0, (STUDENT.T, TEACHER.T))):
        expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.numpy())]
        np.testing.assert_allclose(correlation(STUDENT, TEACHER, dim), expected)
    assert not correlation(torch.ones(2, 3), torch.randn(2, 3), 1).any()
