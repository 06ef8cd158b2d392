"""What the measurements of volumes compare, and that they run; how fast anything is, no test asks."""

import pytest
import torch

from tools.speed import volumes


@pytest.mark.parametrize('name', volumes.NETWORKS)
def test_torchs_layers_are_the_same_network(name):
    small = {'widths': (4, 8), **({'dim': 16, 'heads': 2, 'mlp': 16, 'dropout': 0.0} if name == 'MMFormer' else {})}
    host, data = volumes.build(name, 'cpu', 8, **small)

    def loss_and_gradients():
        host.zero_grad()
        loss = sum(host.train()(**data, mode='loss').values())
        loss.backward()
        return [loss, *(p.grad.clone() for p in host.parameters())]

    found = loss_and_gradients()
    with volumes.torch_layers():
        expected = loss_and_gradients()
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_both_networks_are_measured(monkeypatch):
    monkeypatch.setattr(volumes, 'NETWORKS', {'RFNet': {'widths': (2, 4), 'hidden': 4}})
    rows = volumes.measure_layers(repeats=1, side=8)
    assert [r['call'] for r in rows] == [
        "RFNet, evaluation, torch's layers",
        'RFNet, evaluation',
        "RFNet, training step, torch's layers",
        'RFNet, training step',
    ]
    stock, ours = (r['saved for backward, MB'] for r in rows[2:])
    assert ours < 0.6 * stock


def test_subsets_from_one_encoding_take_fewer_multiply_accumulates(monkeypatch):
    monkeypatch.setattr(volumes, 'NETWORKS', {'RFNet': {}})
    monkeypatch.setattr(volumes, 'interleaved', lambda routes, *_: {name: {} for name in routes})
    rows = volumes.measure_subsets(side=16)
    assert rows[-1]['evaluation'] == 'RFNet, 15 subsets, multiply-accumulates'
    assert 0.4 < rows[-1]['ratio'] < 0.5
