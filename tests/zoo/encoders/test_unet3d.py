"""The encoders of volumes by name, and in the hosts that take others."""

import pytest
import torch
from torch import nn

from registry import ENCODERS, InputError, NameNotFound
from zoo.hosts import MMFormer, RFNet

SMALL = {RFNet: dict(hidden=8), MMFormer: dict(train_size=(8, 8, 8), dim=8, heads=2, mlp=8)}


@pytest.mark.parametrize(
    ('block', 'widths', 'parameters'),
    [('post_norm', (16, 32, 64, 128), 1_466_496), ('pre_norm', (8, 16, 32, 64, 128), 1_473_216)],
)
def test_it_is_the_published_encoder(block, widths, parameters):
    with torch.device('meta'):
        encoder = ENCODERS.build(dict(type='UNet3D', in_chans=1, widths=widths, block=block))
        maps = encoder(torch.zeros(1, 1, 32, 48, 64))
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    assert [x.shape[1] for x in maps] == encoder.out_channels == list(widths)
    assert [32 // x.shape[2] for x in maps] == encoder.reductions
    assert maps[1].shape[2:] == (16, 24, 32)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(block='postnorm'), NameNotFound, "Did you mean 'post_norm'"),
        (dict(padding='zero'), NameNotFound, "Did you mean 'zeros'"),
        (dict(widths=()), InputError, 'widths of UNet3D'),
    ],
)
def test_arguments_that_can_not_work_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ENCODERS.build(dict(type='UNet3D', **arguments))


class Plain(nn.Module):
    """Another encoder of volumes."""

    out_channels = (4, 8)

    def __init__(self, in_chans):
        super().__init__()
        self.first, self.second = nn.Conv3d(in_chans, 4, 1), nn.Conv3d(4, 8, 2, 2)

    def forward(self, x):
        x = self.first(x)
        return [x, self.second(x)]


@pytest.mark.parametrize('cls', SMALL)
def test_a_host_takes_another_encoder(monkeypatch, cls):
    monkeypatch.setitem(ENCODERS.module_dict, 'Plain', Plain)
    host = cls(['flair', 't1'], 3, widths=(4, 8), encoder='Plain', **SMALL[cls])
    batch = {m: torch.randn(2, 1, 4, 8, 6) for m in host.modalities}
    target = torch.randint(0, 3, (2, 4, 8, 6))
    sum(host(batch, target=target, mode='loss').values()).backward()
    assert all(p.grad is not None for p in host.branch('t1'))
    with pytest.raises(InputError, match=r'Plain yields maps of \(4, 8\) channels .* widths = \[8, 16\]'):
        cls(['flair'], 3, widths=(8, 16), encoder='Plain', **SMALL[cls])


@pytest.mark.parametrize('cls', SMALL)
def test_the_default_is_the_registered_one(cls):
    block = 'post_norm' if cls is RFNet else 'pre_norm'
    torch.manual_seed(0)
    given = cls(['flair'], 3, widths=(4, 8), encoder=dict(type='UNet3D', widths=(4, 8), block=block), **SMALL[cls])
    torch.manual_seed(0)
    default = cls(['flair'], 3, widths=(4, 8), **SMALL[cls])
    for (name, a), (_, b) in zip(given.state_dict().items(), default.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
