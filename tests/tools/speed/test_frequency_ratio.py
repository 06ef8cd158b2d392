"""The stand-in of the official route computes the same value as ours."""

import pytest
import torch

from plugins.frequency import frequency_ratio
from tools.speed.frequency_ratio import reference


@pytest.mark.parametrize(('p', 'q'), [(8, 2), (8, 4), (4, 1)])
def test_both_routes_give_the_same_value(p, q):
    x = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    torch.testing.assert_close(reference(x, p, q, 1e-3), frequency_ratio(x, p, q, 1e-3))
