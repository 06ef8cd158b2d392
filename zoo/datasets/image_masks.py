"""Segmentation of single images: a folder of images and one of black and white masks."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from registry import DATASETS, InputError, unknown_name

from .base import Sample, choose_split
from .image_folders import ALL, HOME
from .images import read_listed
from .listing import check_headers, find_folder, list_files
from .one_modality import OneModality
from .splits import SHARES, divide

THRESHOLD = 127  # masks are kept as JPEG, in which black and white are not exact


@dataclass(frozen=True)
class Masks:
    """How a public set lies on the disk: its folders, what follows a stem in the name of its mask, the white class."""

    images: str
    masks: str
    suffix: str
    label: str
    published: int


LAYOUTS = {
    'kvasir_seg': Masks('images', 'masks', '', 'polyp', 1000),
    'isic2018': Masks(
        'ISIC2018_Task1-2_Training_Input', 'ISIC2018_Task1_Training_GroundTruth', '_segmentation', 'lesion', 2594
    ),
}


@DATASETS.register_module()
class ImageMasks(OneModality):
    """Images with a mask of one kind of object each, in the layout of a public set.

    The target is a mask (H, W) int64, 1 where that of the file is above 127, else 0. The images are divided at random,
    the same on every machine; neither set has a public division of these images.

    Args:
        root: The folder of the data set.
        split: One of ``shares``, or ``'all'``.
        layout: kvasir_seg: ``images`` and ``masks`` with files of one stem; isic2018: ``ISIC_*.jpg`` in
            ``ISIC2018_Task1-2_Training_Input`` and ``ISIC_*_segmentation.png`` in
            ``ISIC2018_Task1_Training_GroundTruth``.
        shares: Split to its share, the shares sum up to 1; None for 0.8 train, 0.1 val, 0.1 test.
        seed: Of the division.
        modality: What the images are called.
        channels: See `OneModality`.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown layout or split.
        InputError: A missing folder, an image without mask, or wrong shares.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        layout: str = 'kvasir_seg',
        shares: Mapping[str, float] | None = None,
        seed: int = 0,
        modality: str = 'image',
        channels: int = 3,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modality, channels, transforms)
        if layout not in LAYOUTS:
            raise unknown_name('layout of ImageMasks', layout, LAYOUTS)
        owner, facts, shares = f'ImageMasks ({layout})', LAYOUTS[layout], SHARES if shares is None else shares
        root = find_folder(root, owner, HOME)
        images, masks = (list_files(root / folder, owner) for folder in (facts.images, facts.masks))
        if not images:
            raise InputError(f'{owner}: there is no image in {root / facts.images}.')
        for stem, file in images.items():
            if stem + facts.suffix not in masks:
                raise InputError(f'{file}: its mask {stem}{facts.suffix} is not in {root / facts.masks}.')
        if len(images) != facts.published:
            warnings.warn(f'{owner} in {root}: {len(images)} images, published are {facts.published}.', stacklevel=2)
        parts = {**divide(images, shares, seed), ALL: sorted(images)}
        self.classes = ('background', facts.label)
        self.list, self.names = str(root), parts[choose_split(split, parts, owner)]
        self.files = [(images[n], masks[n + facts.suffix]) for n in self.names]

    def __len__(self) -> int:
        return len(self.files)

    def source(self, index: int) -> str:
        return self.files[index][0]

    def load(self, index: int) -> Sample:
        image, mask = self.files[index]
        x, target = read_listed(image, self.channels[self.modality]), self.load_target(index)
        _check_sizes(image, tuple(x.shape[1:]), mask, tuple(target.shape))
        return {
            'inputs': {self.modality: x},
            'present': torch.ones(1, dtype=torch.bool),
            'target': target,
            'info': {'files': {self.modality: image}, 'labels': mask},
        }

    def load_target(self, index: int) -> Tensor:
        return (read_listed(self.files[index][1], 1)[0] > THRESHOLD).long()

    def check_annotations(self) -> None:
        """Read the headers of all images and masks.

        Raises:
            InputError: A file that is no image, or a mask of another size than its image.
        """
        images, masks = zip(*self.files)
        owner = type(self).__name__
        sizes = check_headers(images, owner), check_headers(masks, owner)
        for image, mask, size, mask_size in zip(images, masks, *sizes):
            _check_sizes(image, size, mask, mask_size)


def _check_sizes(image: str, size: tuple[int, int], mask: str, mask_size: tuple[int, int]) -> None:
    if size != mask_size:
        raise InputError(
            f'{mask}: the mask has {mask_size[0]}x{mask_size[1]} pixels (H x W), its image {image} {size[0]}x{size[1]}.'
        )
