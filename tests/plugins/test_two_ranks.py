"""MWAM and OGM-GE in two processes against one: the same decisions on both ranks, those of the joined batch."""

import pytest
import torch

SCRIPT = """
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from plugins import MWAM, OGMGE
from zoo.hosts import LateFusion

found = {}
plugins = {'mwam': MWAM(), 'hybrid': MWAM(mode='hybrid'), 'ogm': OGMGE(noise=False), 'ogm_ge': OGMGE()}
for name, plugin in plugins.items():
    torch.manual_seed(0)
    host = LateFusion(('rgb', 'depth'), 4, 'test_resnet', 1)
    for m in host.modalities:
        host.encoders[m] = nn.Sequential(nn.Flatten(), nn.Linear(16 * 24, 96), nn.Tanh())
    host.train().plug(plugin)
    host.clock.rank = rank
    model = DistributedDataParallel(host)
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda o, *_: host.on_gradients(o))
    generator = torch.Generator().manual_seed(1)
    for step in range(3):
        host.clock.iteration = step
        x = {m: torch.randn(8, 1, 16, 24, generator=generator) for m in host.modalities}
        present = torch.ones(8, 2, dtype=torch.bool)
        present[:4, 1] = step != 1  # the first rank sees no depth at all in one step
        target = torch.randint(0, 4, (8,), generator=generator)
        mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
        losses = model({m: v[mine] for m, v in x.items()}, present[mine], target[mine], mode='loss')
        optimizer.zero_grad()
        losses['loss_task'].backward() if name != 'hybrid' else sum(losses.values()).backward()
        optimizer.step()
        found[name, step] = plugin.logged['K' if 'K' in plugin.logged else 'k'][1]
    found[name] = torch.cat([p.detach().flatten() for p in host.parameters()])
out = found
"""


@pytest.fixture(scope='module')
def found(ranks):
    """The findings of one process, and of each of two."""
    return ranks(SCRIPT)


def test_both_ranks_decide_and_train_alike(found):
    _, first, second = found
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize('name', ['mwam', 'hybrid', 'ogm'])
@pytest.mark.parametrize('step', [0, 1, 2])
def test_two_ranks_decide_as_one_does_on_the_joined_batch(found, name, step):
    one, first, _ = found
    torch.testing.assert_close(first[name, step], one[name, step], rtol=1e-4, atol=1e-5)


def test_one_step_of_mwam_is_the_same_to_the_last_digits(found):
    one, first, _ = found
    torch.testing.assert_close(first['mwam', 0], one['mwam', 0], rtol=1e-12, atol=0)
    torch.testing.assert_close(first['mwam'], one['mwam'], rtol=1e-4, atol=1e-6)


def test_noise_is_the_same_on_both_ranks_and_there(found):
    _, first, _ = found
    assert not torch.equal(first['ogm'], first['ogm_ge'])
