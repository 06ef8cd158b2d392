"""What data sets share that are made of others."""

from collections.abc import Mapping
from typing import Any

from registry import DATASETS, InputError

from .base import MultimodalDataset


def build_part(cfg: Mapping[str, Any] | str | MultimodalDataset, owner: str) -> MultimodalDataset:
    """A data set from its config.

    Raises:
        InputError: It is none of images, or has no sample.
    """
    dataset = cfg if isinstance(cfg, MultimodalDataset) else DATASETS.build(cfg)
    name = type(dataset).__name__
    if not isinstance(dataset, MultimodalDataset) or dataset.spatial_dims != 2:
        raise InputError(f'{owner} is made of data sets of images that are a MultimodalDataset, {name} is none.')
    if not len(dataset):
        raise InputError(f'{owner}: {name} is empty.')
    return dataset
