"""A host that is small, has no batch statistics, and whose gradients can be checked by hand."""

import pytest
import torch
from torch import nn

from zoo.hosts import LateFusion


@pytest.fixture
def tiny_host():
    """Makes a late-fusion host with one linear layer as the encoder of each (B, channels, 16, 24) input."""

    def make(modalities=('rgb', 'depth'), channels=1, seed=0, **arguments):
        arguments = {'num_classes': 4, 'encoder': 'test_resnet', 'in_chans': channels, **arguments}
        torch.manual_seed(seed)
        host = LateFusion(modalities, **arguments)
        for m, encoder in host.encoders.items():
            linear = nn.Linear(channels * 16 * 24, encoder.out_channels)
            host.encoders[m] = nn.Sequential(nn.Flatten(), linear, nn.Tanh())
        return host.train()

    return make


@pytest.fixture
def tiny_batch():
    """Makes the arguments of a forward for `tiny_host`: inputs, present, target."""

    def make(modalities=('rgb', 'depth'), size=6, channels=1, seed=0, absent=()):
        generator = torch.Generator().manual_seed(seed)
        inputs = {m: torch.randn(size, channels, 16, 24, generator=generator) for m in modalities}
        present = torch.ones(size, len(modalities), dtype=torch.bool)
        for row, modality in absent:
            present[row, modalities.index(modality)] = False
        return {'inputs': inputs, 'present': present, 'target': torch.randint(0, 4, (size,), generator=generator)}

    return make
