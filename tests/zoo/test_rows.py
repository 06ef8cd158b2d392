"""Running modules on some rows of a batch, and the norm layers meanwhile."""

import pytest
import torch
from torch import nn

from zoo.rows import Rows, lone_values_allowed, on_cpu, running_statistics, to_device, untouched_statistics

CPU = torch.device('cpu')


def test_a_mask_on_a_device_remembers_the_one_on_the_cpu():
    present = torch.tensor([[True, False]])
    assert on_cpu(to_device(present, CPU)) is present
    copy = to_device(present, torch.device('meta'))
    assert copy.device.type == 'meta'
    assert on_cpu(copy) is on_cpu(to_device(copy, copy.device)) is present
    assert on_cpu(~copy) is None


@pytest.mark.parametrize('rows', [[True, False, True, False], [True] * 4, [False, False, False, True]])
def test_rows_go_out_and_come_back_among_zeros(rows):
    rows = torch.tensor(rows)
    x = torch.randn(4, 3, 2)
    chosen = Rows(rows, CPU)
    taken = chosen.take(x)
    assert torch.equal(taken, x[rows])
    assert torch.equal(chosen.put({'maps': [taken]})['maps'][0], x.where(rows[:, None, None], 0))


def test_all_rows_are_not_copied():
    x = torch.randn(4, 3)
    for chosen in (Rows(torch.ones(4, dtype=torch.bool), CPU), Rows(None, CPU, 4)):
        assert chosen.take(x) is x
        assert chosen.put(x) is x


def test_no_row_at_all_gives_zeros_and_zero_gradients_whatever_the_batch_holds():
    layer = nn.Linear(3, 2)
    chosen = Rows(torch.zeros(4, dtype=torch.bool), CPU)
    y = chosen.put(chosen.run(layer, chosen.take(torch.full((4, 3), torch.nan))))
    assert torch.equal(y, torch.zeros(4, 2))
    y.sum().backward()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in layer.parameters())


@pytest.mark.parametrize(('count', 'updates'), [(0, False), (1, False), (2, True)])
def test_norm_layers_learn_from_two_rows_on(count, updates):
    norm = nn.BatchNorm1d(3)
    chosen = Rows(torch.arange(4) < count, CPU)
    chosen.run(norm, chosen.take(torch.randn(4, 3) + 5))
    assert bool(norm.num_batches_tracked) == updates
    assert bool(norm.running_mean.any()) == updates
    assert norm.training


def test_modes_and_tracking_come_back_also_after_an_error():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3).eval())
    for context in (running_statistics, untouched_statistics, lone_values_allowed):
        with pytest.raises(RuntimeError, match='should contain 2 elements'), context(net):
            net(torch.randn(4, 2))
        assert [m.training for m in net] == [True, False]
        assert all(m.track_running_stats and not m._forward_pre_hooks for m in net)


def test_untouched_statistics_normalise_by_the_batch_and_remember_nothing():
    net = nn.Sequential(nn.BatchNorm1d(3))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with untouched_statistics(net):
        y = net(torch.randn(8, 3) + 5)
    torch.testing.assert_close(y.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_only_the_layer_with_one_value_per_channel_uses_running_statistics():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    x = torch.randn(1, 3, 4, 4) + 5
    with pytest.raises(ValueError, match='more than 1 value'):
        net(x)
    net = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    with lone_values_allowed(net):
        assert net(x).isfinite().all()
    assert [int(m.num_batches_tracked) for m in (net[0], net[2])] == [1, 0]
    assert net[2].training
