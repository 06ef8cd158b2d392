"""Plugins in two processes against one: the same decisions on both ranks, those of the joined batch."""

import pytest
import torch

SCRIPT = """
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from plugins import MAD, MAR, MWAM, OGMGE
from zoo.hosts import LateFusion

found = {}


def build(seed=0):
    torch.manual_seed(seed)
    host = LateFusion(('rgb', 'depth'), 4, 'test_resnet', 1)
    for m in host.modalities:
        host.encoders[m] = nn.Sequential(nn.Flatten(), nn.Linear(16 * 24, 96), nn.Tanh())
    return host


plugins = {
    'mwam': MWAM(),
    'hybrid': MWAM(mode='hybrid'),
    'ogm': OGMGE(noise=False),
    'ogm_ge': OGMGE(),
    'mad': MAD(build(seed=1), start_epoch=0),
    'mar': MAR(beta=1.0, mine=(0, 1), start_epoch=1),
}
for name, plugin in plugins.items():
    host = build().train().plug(plugin)
    host.clock.rank = rank
    model = DistributedDataParallel(host)
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda o, *_: host.on_gradients(o))
    generator = torch.Generator().manual_seed(1)
    for step in range(3):
        host.clock.iteration, host.clock.epoch = step, step // 2
        x = {m: torch.randn(8, 1, 16, 24, generator=generator) for m in host.modalities}
        present = torch.ones(8, 2, dtype=torch.bool)
        present[:4, 1] = step != 1  # the first rank sees no depth at all in one step
        if name == 'mar' and step == 2:  # one sample for each combination that may be weak, one on each rank
            present[1, 0] = present[6, 1] = False
        target = torch.randint(0, 4, (8,), generator=generator)
        mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
        losses = model({m: v[mine] for m, v in x.items()}, present[mine], target[mine], mode='loss')
        optimizer.zero_grad()
        losses['loss_task'].backward() if name in ('mwam', 'ogm', 'ogm_ge') else sum(losses.values()).backward()
        optimizer.step()
        for key in {'K', 'k'} & set(plugin.logged):
            found[name, step] = plugin.logged[key][1]
    found[name] = torch.cat([p.detach().flatten() for p in host.parameters()])
found['counts'], found['weak'] = plugins['mar'].counts, plugins['mar']._weak_table()
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


def test_mar_counts_the_complete_samples_of_all_ranks_and_trains_as_one_process(found):
    one, first, _ = found
    assert one['counts'].sum() == 3 * (8 + 4)  # two combinations and all; the first rank has none in one step
    assert torch.equal(first['counts'], one['counts'])
    assert torch.equal(first['weak'], one['weak'])
    assert one['weak'].sum() == 1
    torch.testing.assert_close(first['mar'], one['mar'], rtol=1e-4, atol=1e-6)


def test_mad_compares_the_samples_of_each_rank(found):
    one, first, _ = found
    assert not torch.equal(first['mad'], one['mad'])  # a batch of four is not one of eight
    assert not torch.equal(first['mad'], first['mar'])
