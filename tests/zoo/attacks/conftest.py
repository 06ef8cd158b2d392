"""A small classifier of two modalities that has learnt its task, and batches of it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.hosts import LateFusion

CLASSES = 5
STATISTICS = {'mean': {'rgb': [0.4, 0.5], 'depth': 0.5}, 'std': {'rgb': [0.2, 0.3], 'depth': 0.25}}


def scenes(count, seed=0):
    """Class k is a bright column of an image 6x10 in both modalities; values in [0, 1], rgb with two channels."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(count) % CLASSES
    inputs = {}
    for m, channels in (('rgb', 2), ('depth', 1)):
        x = 0.35 + 0.12 * torch.randn(count, channels, 6, 10, generator=generator)
        x += 0.2 * F.one_hot(target, CLASSES).repeat_interleave(2, 1)[:, None, None]
        inputs[m] = x.clamp(0, 1)
    return inputs, target


def small(classes=CLASSES, norm=True, modalities=('rgb', 'depth')):
    host = LateFusion(modalities, classes, 'test_resnet', {'rgb': 2, 'depth': 1}, data_preprocessor=STATISTICS)
    for m, encoder in host.encoders.items():
        layers = [nn.Conv2d(host.in_chans[m], 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()]
        layers.append(nn.Linear(6 * 15, encoder.out_channels))
        host.encoders[m] = nn.Sequential(*layers)
    return host


def prepared(host, inputs, target, absent=()):
    """The batch as the host gets it; ``absent`` lists (row, modality), which hold NaN."""
    present = torch.ones(len(target), len(host.modalities), dtype=torch.bool)
    for row, m in absent:
        present[row, host.modalities.index(m)] = False
        inputs = {**inputs, m: inputs[m].index_fill(0, torch.tensor([row]), torch.nan)}
    return host.make_batch(**host.data_preprocessor({'inputs': inputs, 'present': present, 'target': target}))


@pytest.fixture(scope='session')
def _trained():
    torch.manual_seed(0)
    host = small()
    optimizer = torch.optim.Adam(host.parameters(), 5e-3)
    for step in range(60):
        batch = prepared(host, *scenes(40, seed=step))
        sum(host.losses(host.run(batch), batch).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {k: v.clone() for k, v in host.state_dict().items()}


@pytest.fixture
def host(_trained):
    """The host, trained, in training mode."""
    host = small()
    host.load_state_dict(_trained)
    return host.train()


@pytest.fixture
def make_host():
    """Makes an untrained one."""
    return small


@pytest.fixture
def batch(host):
    """40 samples it has not seen, of which some lack a modality."""
    return prepared(host, *scenes(40, seed=999), absent=[(1, 'rgb'), (2, 'depth')])


@pytest.fixture
def make_batch():
    """Makes a batch for a host: of ``scenes`` and of other inputs."""

    def make(host, count=20, seed=999, absent=(), **changes):
        inputs, target = scenes(count, seed)
        target = changes.pop('target', target)
        return prepared(host, {**inputs, **changes}, target, absent)

    return make
