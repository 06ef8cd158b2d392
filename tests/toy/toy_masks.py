"""A small data set of masks with unequal classes and void pixels; tests name this module in ``custom_imports``."""

from typing import ClassVar

import torch

from registry import DATASETS
from zoo.datasets import IGNORE, MultimodalDataset


@DATASETS.register_module()
class ToyMasks(MultimodalDataset):
    """Classes: ground, a stripe at the left, a block in each third image, one pixel; the lowest row is void.
    Each class has its own brightness.
    """

    all_modalities = ('rgb', 'depth')
    all_channels: ClassVar[dict[str, int]] = {'rgb': 3, 'depth': 1}
    classes = ('ground', 'stripe', 'block', 'dot')

    def __init__(self, length=22, **arguments):
        super().__init__(**arguments)
        self.length = length

    def __len__(self):
        return self.length

    def load(self, index):
        mask = torch.zeros(32, 64, dtype=torch.int64)
        mask[:, : 4 + index % 5] = 1
        if index % 3 == 0:
            mask[8:16, 20:40] = 2
        mask[20, 30 + index % 7] = 3
        mask[-1] = IGNORE
        brightness = mask.where(mask != IGNORE, 0).float()
        inputs = {m: (brightness + 0.3 * torch.randn(self.channels[m], 32, 64)) for m in self.modalities}
        return {'inputs': inputs, 'present': torch.ones(len(self.modalities), dtype=torch.bool), 'target': mask}
