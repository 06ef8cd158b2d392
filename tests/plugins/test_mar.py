"""MAR: which combinations it finds weak, its loss, and that it resumes."""

import math

import pytest
import torch
import torch.nn.functional as F

from plugins import MAR
from plugins.mar import modality_aware_loss, prediction_shift
from registry import InputError, NameNotFound
from zoo.hosts import LateFusion, MMANet

NARROW = {'encoder': {'type': 'ResNetSEStem', 'channels': (4, 8)}, 'trunk_channels': (8, 8)}
MODALITIES = ('rgb', 'depth', 'ir')


def build(modalities=MODALITIES, seed=0, **arguments):
    torch.manual_seed(seed)
    return MMANet(modalities, **NARROW).plug(MAR(**arguments)).train()


def data(size=6, modalities=MODALITIES, absent=(), seed=1):
    generator = torch.Generator().manual_seed(seed)
    present = torch.ones(size, len(modalities), dtype=torch.bool)
    for row, m in absent:
        present[row, modalities.index(m)] = False
    inputs = {m: torch.randn(size, 3, 24, 40, generator=generator) for m in sorted(modalities)}
    return {'inputs': inputs, 'present': present, 'target': torch.arange(size) % 2}


def step(host, epoch, iteration=0, **arguments):
    host.clock.epoch, host.clock.iteration = epoch, iteration
    losses = host(**data(**arguments), mode='loss')
    host.on_gradients(torch.optim.SGD(host.parameters(), lr=0.1))
    return losses


def test_the_shift_is_the_divergence_of_shares_with_one_count_added():
    found = prediction_shift(torch.tensor([[3.0, 7.0], [0.0, 10.0]]), torch.tensor([5.0, 5.0]))
    for value, (a, b) in zip(found, [(4 / 12, 8 / 12), (1 / 12, 11 / 12)]):
        assert float(value) == pytest.approx(a * math.log(2 * a) + b * math.log(2 * b))


def test_the_loss_is_that_of_weak_samples_over_the_whole_batch():
    losses = torch.tensor([1.0, 2.0, torch.inf, 4.0])
    assert modality_aware_loss(losses, torch.tensor([True, False, False, True])) == 5 / 4
    assert modality_aware_loss(losses, torch.zeros(4, dtype=torch.bool)) == 0


def test_given_combinations_are_the_weak_ones():
    host = build(weak=[['depth', 'rgb'], 'ir'], start_epoch=0, beta=2.0)
    assert host.plugins['MAR'].weak_subsets() == [('ir',), ('depth', 'rgb')]
    absent = [(0, 'ir'), (1, 'rgb'), (1, 'depth'), (2, 'rgb')]
    losses = step(host, 0, absent=absent)
    with host.aside():
        batch = host.make_batch(**data(absent=absent))
        aux = host.run(batch).extras['aux']
    expected = F.cross_entropy(aux, batch.target, reduction='none')[:2].sum() / 6
    torch.testing.assert_close(losses['loss_mar'], 2 * expected)
    assert host.plugins['MAR'].logged['weak_share'][1] == 2 / 6


def test_without_weak_samples_it_is_zero_and_the_auxiliary_trunk_rests():
    host = build(weak=[['rgb']], start_epoch=0)
    losses = step(host, 0)
    assert losses['loss_mar'] == 0
    sum(losses.values()).backward()
    assert not any(p.grad.any() for p in host.training_only())


def test_weak_samples_train_the_auxiliary_trunk():
    host = build(weak=[['rgb']], start_epoch=0)
    step(host, 0, absent=[(i, m) for i in (0, 3) for m in ('depth', 'ir')])['loss_mar'].backward()
    assert any(p.grad.any() for p in host.training_only())
    assert not any(p.grad is not None and p.grad.any() for p in host.trunk.parameters())


def test_counts_are_those_of_predictions_on_complete_samples():
    host = build()
    plugin = host.plugins['MAR']
    absent = [(2, 'rgb')]
    step(host, 1, absent=absent)
    masks = torch.tensor([[m in s for m in MODALITIES] for s in [*plugin.subsets, MODALITIES]])
    assert plugin.subsets == [('depth', 'ir'), ('depth', 'rgb'), ('ir', 'rgb')]
    batch = host.make_batch(**data(absent=absent))
    batch = batch.select(batch.present.all(1))
    host.eval()
    with torch.no_grad():
        classes = [host.run(batch.restrict(m)).prediction.argmax(1) for m in masks]
    expected = torch.stack([torch.bincount(c, minlength=2) for c in classes])
    assert torch.equal(plugin.counts, expected.double())
    assert plugin.counts.sum() == 4 * 5


@pytest.mark.parametrize(('epoch', 'counted'), [(0, False), (1, True), (3, True), (4, False), (7, False)])
def test_only_the_epochs_of_the_warm_up_are_counted(epoch, counted):
    host = build()
    step(host, epoch)
    assert bool(host.plugins['MAR'].counts.any()) == counted


def test_counting_leaves_no_trace_in_the_host():
    host, plain = build(), MMANet(MODALITIES, **NARROW)
    plain.load_state_dict({k: v for k, v in host.state_dict().items() if not k.startswith('plugins.')})
    plain.train()(**data(), mode='loss')
    step(host, 1)
    for k, v in plain.state_dict().items():
        assert torch.equal(host.state_dict()[k], v), k


@pytest.mark.parametrize(
    ('candidates', 'weak'),
    [
        ('leave_one_out', [('depth',), ('rgb',), ('depth', 'rgb')]),
        ('proper', [('ir',)]),
    ],
)
def test_the_combination_whose_predictions_shift_most_is_weak_with_its_parts(candidates, weak):
    plugin = build(candidates=candidates).plugins['MAR']
    even = torch.tensor([50.0, 50.0])
    shifted = {('depth', 'rgb'): torch.tensor([20.0, 80.0]), ('ir',): torch.tensor([99.0, 1.0])}
    plugin.counts.copy_(torch.stack([shifted.get(s, even) for s in [*plugin.subsets, None]]))
    assert plugin.weak_subsets() == weak


def test_without_any_complete_sample_nothing_is_weak():
    host = build()
    step(host, 1, absent=[(i, 'rgb') for i in range(6)])
    assert not host.plugins['MAR'].counts.any()
    assert host.plugins['MAR'].weak_subsets() == []
    assert step(host, 5, absent=[(0, 'rgb')])['loss_mar'] == 0


def test_what_was_counted_survives_and_does_not_depend_on_the_order_of_the_modalities():
    host, other = build(), build(('ir', 'rgb', 'depth'), seed=3)
    for i in range(2):
        step(host, 1, i, seed=i)
    other.load_state_dict(host.state_dict())
    assert other.plugins['MAR'].weak_subsets() == host.plugins['MAR'].weak_subsets() != []
    absent = [(0, 'ir'), (1, 'rgb'), (2, 'depth'), (3, 'rgb'), (3, 'ir')]
    batch = data(absent=absent)
    moved = {**batch, 'present': batch['present'][:, [2, 0, 1]]}
    host.clock.epoch = other.clock.epoch = 5
    torch.testing.assert_close(other(**moved, mode='loss'), host(**batch, mode='loss'))


def test_on_any_host_the_loss_is_that_of_its_prediction():
    torch.manual_seed(0)
    host = LateFusion(['rgb', 'ir'], 2, encoder='test_resnet').plug(MAR(weak=['rgb'], start_epoch=0)).train()
    batch = data(modalities=('rgb', 'ir'), absent=[(0, 'ir'), (5, 'ir')])
    losses = host(**batch, mode='loss')
    with host.aside():
        outputs = host.run(host.make_batch(**batch))
    each = F.cross_entropy(outputs.prediction, batch['target'], reduction='none')
    torch.testing.assert_close(losses['loss_mar'], 0.5 * (each[0] + each[5]) / 6)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'beta': -1.0}, InputError, 'beta must be'),
        ({'start_epoch': -1, 'weak': ['rgb']}, InputError, 'start_epoch must be an integer of at least 0'),
        ({'start_epoch': '5'}, InputError, "start_epoch must be an integer of at least 0, got '5'"),
        ({'mine': 3}, InputError, 'mine must be two epochs .* got 3'),
        ({'mine': (1, 6)}, InputError, r'mine must be two epochs .* <= start_epoch = 5, got \(1, 6\)'),
        ({'mine': (2, 2)}, InputError, 'mine must be two epochs'),
        ({'candidates': 'propper'}, NameNotFound, "Did you mean 'proper'"),
        ({'weak': [['rgb', 'dept']]}, NameNotFound, "Did you mean 'depth'"),
    ],
)
def test_arguments_that_can_not_work_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        build(**arguments)
