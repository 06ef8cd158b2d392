"""Weights of classes from how often they occur, for a weighted cross-entropy."""

import warnings

import torch
from torch import Tensor

from registry import unknown_name

KINDS = ('median_frequency', 'logarithmic')
SOFTEN = 1.02  # keeps the logarithm of a class that fills everything above 0 (ENet, arXiv:1606.02147)


def class_weights(pixels: Tensor, of_images: Tensor, kind: str) -> Tensor:
    """The weight of each class.

    * ``'median_frequency'``: median(f) / f with f = ``pixels / of_images`` (arXiv:1411.4734, 6.3.2), where the median
      of an even number of classes is the mean of the two in the middle;
    * ``'logarithmic'``: 1 / ln(1.02 + p) with p = ``pixels / pixels.sum()`` (arXiv:1606.02147).

    A class that never occurs gets the weight 0, and a warning says so; it does not enter the median.

    >>> class_weights(torch.tensor([6, 3, 3]), torch.tensor([12, 12, 6]), 'median_frequency')
    tensor([1., 2., 1.])

    Args:
        pixels: (K,) pixels of each class, as `MultimodalDataset.label_counts` counts them.
        of_images: (K,) pixels of the images in which the class occurs; ``'logarithmic'`` does without.
        kind: One of the two.

    Returns:
        (K,) float32.

    Raises:
        NameNotFound: An unknown ``kind``.
    """
    if kind not in KINDS:
        raise unknown_name('kind of class weights', kind, KINDS)
    pixels, seen = pixels.double(), pixels > 0
    if not seen.all():
        absent = ', '.join(map(str, (~seen).nonzero().flatten().tolist()))
        warnings.warn(f'Classes that never occur get the weight 0: {absent}.', stacklevel=2)
    if kind == 'median_frequency':
        frequency = pixels / of_images
        weights = frequency[seen].quantile(0.5) / frequency if seen.any() else pixels
    else:
        weights = 1 / torch.log(SOFTEN + pixels / pixels.sum())
    return torch.where(seen, weights, 0).float()
