"""The box around a brain and its statistics, by hand."""

import numpy as np
import pytest

from registry import InputError
from zoo.datasets.brain_volumes import brain_box, brain_mask, standardise


def marked(size, *voxels):
    mask = np.zeros(size, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def test_the_brain_is_where_any_sequence_is_not_zero():
    a, b = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    a[0, 1, 2], b[1, 2, 3] = 5, -1
    kept = a.copy()
    np.testing.assert_array_equal(np.argwhere(brain_mask({'a': a, 'b': b})), [[0, 1, 2], [1, 2, 3]])
    np.testing.assert_array_equal(a, kept)


def test_the_box_holds_the_last_occupied_slice():
    assert brain_box(marked((9, 9, 9), (2, 3, 4), (6, 8, 5)), least=1) == (slice(2, 7), slice(3, 9), slice(4, 6))


@pytest.mark.parametrize(
    ('voxel', 'expected'), [(0, slice(0, 6)), (9, slice(4, 10)), (5, slice(2, 8)), (1, slice(0, 6)), (8, slice(4, 10))]
)
def test_a_small_box_grows_about_its_centre_and_stays_inside(voxel, expected):
    box = brain_box(marked((10, 6, 4), (voxel, 0, 0)), least=6)
    assert box == (expected, slice(0, 6), slice(0, 4))
    assert box[0].start <= voxel < box[0].stop


def test_an_empty_volume_is_refused():
    with pytest.raises(InputError, match='every voxel is 0'):
        brain_box(np.zeros((3, 3, 3), bool))


def test_statistics_are_those_of_the_brain_and_the_rest_is_transformed_too():
    volume = np.zeros((1, 2, 3), np.float32)
    volume[0, 0] = [2, 4, 6]
    found = standardise(volume, volume > 0)
    std = np.sqrt(8 / 3)
    np.testing.assert_allclose(found[0], [[-2 / std, 0, 2 / std], [-4 / std] * 3], rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize(('value', 'message'), [(7, 'constant inside the brain'), (np.nan, 'NaN or Inf')])
def test_what_can_not_be_standardised_is_refused(value, message):
    with pytest.raises(InputError, match=message):
        standardise(np.full((2, 2, 2), value, np.float32), np.ones((2, 2, 2), bool))
