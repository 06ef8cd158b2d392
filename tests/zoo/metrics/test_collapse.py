"""The performance collapse rate."""

import math

import numpy as np
import pytest
import torch

from registry import InputError
from zoo.metrics.collapse import performance_collapse_rate


@pytest.mark.parametrize(
    ('full', 'incomplete', 'percent'), [(80.0, 60.0, 25.0), (0.5, 0.6, -20.0), (97.69, 0.0, 100.0), (3, 3, 0)]
)
def test_it_is_the_lost_share_in_percent(full, incomplete, percent):
    assert performance_collapse_rate(full, incomplete) == pytest.approx(percent)


def test_arrays_and_tensors_keep_their_type():
    expected = [25.0, -12.5, 0.0]
    array = performance_collapse_rate(8.0, np.array([6.0, 9.0, 8.0]))
    assert isinstance(array, np.ndarray)
    np.testing.assert_allclose(array, expected)
    tensor = performance_collapse_rate(torch.tensor(8.0), torch.tensor([6.0, 9.0, 8.0]))
    torch.testing.assert_close(tensor, torch.tensor(expected))
    np.testing.assert_allclose(performance_collapse_rate([8.0, 4.0], [6.0, 3.0]), [25, 25])


@pytest.mark.parametrize('full', [0, -1.0, math.nan, torch.tensor(0.0), np.array([1.0, 0.0])])
def test_a_complete_score_that_is_not_above_zero_is_refused(full):
    with pytest.raises(InputError, match='complete score above 0'):
        performance_collapse_rate(full, 0.5)


def test_the_published_averages_of_rfnet_come_out():
    rows = [85.07, 74.95, 71.98, 85.16, 86.91, 78.48, 88.08, 86.94, 88.70, 88.46, 89.36, 89.74, 89.44, 87.74, 90.14]
    assert np.mean(rows) == pytest.approx(85.41, abs=0.005)
    assert np.mean(performance_collapse_rate(rows[-1], np.array(rows[:-1]))) == pytest.approx(5.62, abs=0.005)
