"""MMANet beyond the contract: published sizes, and when its auxiliary trunk runs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from zoo.hosts import SFMD, MMANet

MODALITIES = ('rgb', 'depth', 'ir')
NARROW = {'encoder': {'type': 'ResNetSEStem', 'channels': (4, 8)}, 'trunk_channels': (8, 8)}


def inputs(size=4):
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(size, 3, 24, 40, generator=generator) for m in MODALITIES}


@pytest.fixture(scope='module')
def published():
    with torch.device('meta'):
        return MMANet(MODALITIES)


def test_parameters_are_the_published_ones(published):
    assert sum(p.numel() for p in published.parameters()) == 24_332_380
    assert sum(p.numel() for p in published.training_only()) == 11_149_826


@pytest.mark.parametrize(('training', 'giga'), [(False, 0.94045), (True, 1.20955)])
def test_multiply_accumulates_are_the_published_ones(published, training, giga):
    host = published.to('meta').train(training)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        host({m: torch.zeros(2, 3, 112, 112, device='meta') for m in MODALITIES})
    assert counter.get_total_flops() / 4e9 == pytest.approx(giga, rel=5e-3)


def test_at_inference_it_is_sfmd():
    torch.manual_seed(0)
    host, plain = MMANet(MODALITIES, **NARROW).eval(), SFMD(MODALITIES, **NARROW).eval()
    plain.load_state_dict({k: v for k, v in host.state_dict().items() if not k.startswith('aux.')})
    assert torch.equal(host(inputs()), plain(inputs()))
    assert 'aux' not in host.run(host.make_batch(inputs())).extras


def test_the_auxiliary_trunk_reads_the_masked_fused_map():
    torch.manual_seed(0)
    host = MMANet(MODALITIES, **NARROW).train()
    outputs = host.run(host.make_batch(inputs()))
    expected = host.aux['trunk'](outputs.extras['fused'])[0]
    torch.testing.assert_close(outputs.extras['aux'], expected)
    assert host.unimodal(outputs) is None


def test_the_auxiliary_trunk_has_a_gradient_of_zero_without_its_loss():
    host = MMANet(MODALITIES, **NARROW).train()
    losses = host(inputs(), target=torch.tensor([0, 1, 1, 0]), mode='loss')
    assert list(losses) == ['loss_task']
    losses['loss_task'].backward()
    assert all(p.grad is not None and not p.grad.any() for p in host.training_only())
