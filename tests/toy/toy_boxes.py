"""A data set of one bright rectangle a picture and a detector that looks for it; tests name this module in
``custom_imports``."""

from typing import ClassVar

import torch
from torch import nn

from registry import DATASETS, HOSTS
from zoo import MultimodalHost, Outputs
from zoo.datasets import MultimodalDataset


@DATASETS.register_module()
class ToyBoxes(MultimodalDataset):
    """A rectangle of class index % 2 at a place of its own; each third picture has none, and in ir it lies
    ``shift`` pixels to the right."""

    all_modalities = ('rgb', 'ir')
    all_channels: ClassVar[dict[str, int]] = {'rgb': 3, 'ir': 1}
    classes = ('dim', 'bright')

    def __init__(self, length=9, shift=0, **arguments):
        super().__init__(**arguments)
        self.length, self.shift = length, shift

    def __len__(self):
        return self.length

    def load(self, index):
        x, y, label = 3 + index, 5, index % 2
        inputs = {m: torch.zeros(self.channels[m], 32, 64, dtype=torch.uint8) for m in self.modalities}
        found = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
        if index % 3 != 2:
            for m in self.modalities:
                move = self.shift if m == 'ir' else 0
                inputs[m][:, y : y + 12, x + move : x + move + 20] = 120 + 120 * label
            found = torch.tensor([[x, y, x + 20, y + 12]]).float(), torch.tensor([label])
        present = torch.ones(len(self.modalities), dtype=torch.bool)
        return {'inputs': inputs, 'present': present, 'target': dict(zip(('boxes', 'labels'), found))}


@HOSTS.register_module()
class ToyDetector(MultimodalHost):
    """Finds the box around all pixels above 60, of class 1 if one is above 180, in the average over the modalities that
    are there; only ``postprocess`` makes boxes of it."""

    task = 'detection'
    num_classes = 2
    settings: ClassVar = {'missing': 'mask'}

    def __init__(self, modalities=('rgb', 'ir')):
        super().__init__(modalities)
        self.unused = nn.Parameter(torch.zeros(()))

    def encode(self, batch):
        rows = batch.mask.T[:, :, None, None]
        return {m: x.mean(1).where(here, 0) for (m, x), here in zip(batch.inputs.items(), rows)}

    def fuse(self, features, mask):
        here = mask.T[:, :, None, None]
        return sum(x * h for x, h in zip(features.values(), here)) / here.sum(0).clamp(min=1)

    def decode(self, fused, features):
        return Outputs(fused, features, {})

    def postprocess(self, outputs):
        return outputs._replace(prediction=[self.find(plane) for plane in outputs.prediction])

    def find(self, plane):
        if not (plane > 60).any():
            return plane.new_zeros(0, 6)
        y, x = (plane > 60).nonzero().unbind(1)
        corners = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        return torch.stack([*corners, torch.tensor(0.9), (plane.max() > 180).float()])[None].float()
