"""Class weights, computed by hand."""

import math
import warnings

import pytest
import torch

from registry import NameNotFound
from zoo.losses.class_weights import class_weights

PIXELS, OF_IMAGES = torch.tensor([50, 30, 15, 5]), torch.tensor([100, 60, 100, 100])


def test_median_frequency_is_that_of_the_formula():
    # frequencies .5 .5 .15 .05, so the median of four is (.15 + .5) / 2
    found = class_weights(PIXELS, OF_IMAGES, 'median_frequency')
    torch.testing.assert_close(found, torch.tensor([0.65, 0.65, 0.325 / 0.15, 6.5]))
    assert found.dtype == torch.float32


def test_logarithmic_is_that_of_the_formula():
    found = class_weights(PIXELS, OF_IMAGES, 'logarithmic')
    torch.testing.assert_close(found, torch.tensor([1 / math.log(1.02 + p) for p in (0.5, 0.3, 0.15, 0.05)]))
    assert found.dtype == torch.float32


@pytest.mark.parametrize('kind', ['median_frequency', 'logarithmic'])
def test_an_absent_class_weighs_nothing_and_does_not_count(kind):
    pixels, of_images = torch.tensor([50, 0, 30, 15, 5, 0]), torch.tensor([100, 0, 60, 100, 100, 0])
    with pytest.warns(UserWarning, match=r'weight 0: 1, 5\.'):
        found = class_weights(pixels, of_images, kind)
    assert found[[1, 5]].tolist() == [0, 0]
    torch.testing.assert_close(found[[0, 2, 3, 4]], class_weights(PIXELS, OF_IMAGES, kind))


@pytest.mark.parametrize('kind', ['median_frequency', 'logarithmic'])
def test_nothing_at_all_gives_zeros(kind):
    with pytest.warns(UserWarning, match='weight 0: 0, 1'):
        assert class_weights(torch.zeros(2).long(), torch.zeros(2).long(), kind).tolist() == [0, 0]


def test_classes_that_all_occur_give_no_warning_and_huge_counts_no_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = class_weights(torch.tensor([2**60, 2**61]), torch.tensor([2**62, 2**62]), 'median_frequency')
    torch.testing.assert_close(found, torch.tensor([1.5, 0.75]))


def test_an_unknown_kind_is_refused():
    with pytest.raises(NameNotFound, match=r"kind of class weights named 'logaritmic'\. Did you mean 'logarithmic'"):
        class_weights(PIXELS, OF_IMAGES, 'logaritmic')
