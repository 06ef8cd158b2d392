"""Training on attacked inputs: what the host sees, that it helps, and that it repeats."""

import pytest
import torch

import zoo
from plugins import AdversarialTraining, ModalityDropout
from registry import ATTACKS, InputError, NameNotFound
from zoo.engine import build_optim_wrapper

ATTACK = {'type': 'PGD', 'eps': 0.2, 'steps': 2, 'bounds': None}


def seen(host, data, **clock):
    """The batch behind the plugins."""
    host.clock.__dict__.update(clock)
    batch = host.make_batch(**data)
    for plugin in host.acting('on_inputs'):
        batch = plugin.on_inputs(host, batch)
    return batch


def test_the_host_is_trained_on_what_the_attack_makes_of_its_inputs(tiny_host, tiny_batch):
    data = tiny_batch(absent=[(1, 'depth')])
    data['inputs']['depth'][1] = torch.nan
    host = tiny_host().plug(plugin := AdversarialTraining(ATTACK))
    batch = seen(host, data, iteration=3)
    expected = ATTACKS.build(ATTACK)(host, host.make_batch(**data), plugin.generator(host))
    for m, x in batch.inputs.items():
        assert torch.equal(x.nan_to_num(), expected.inputs[m].nan_to_num())
        moved = (x - data['inputs'][m]).abs().flatten(1).amax(1)
        here = batch.present[:, host.modalities.index(m)]
        torch.testing.assert_close(moved[here], torch.full_like(moved[here], 0.2))
    again, later = seen(host, data, iteration=3), seen(host, data, iteration=4)
    assert torch.equal(again.inputs['rgb'], batch.inputs['rgb'])
    assert not torch.equal(later.inputs['rgb'], batch.inputs['rgb'])
    other = seen(host, data, iteration=3, rank=1)
    assert not torch.equal(other.inputs['rgb'], batch.inputs['rgb'])


@pytest.mark.parametrize(('size', 'clean', 'attacked'), [(6, 0.5, 3), (5, 0.25, 4), (1, 0.9, 1)])
def test_a_share_of_the_batch_can_stay_clean(tiny_host, tiny_batch, size, clean, attacked):
    data = tiny_batch(size=size)
    host = tiny_host().plug(AdversarialTraining(ATTACK, clean=clean))
    batch = seen(host, data)
    changed = [(x != data['inputs'][m]).flatten(1).any(1) for m, x in batch.inputs.items()]
    assert torch.equal(changed[0], changed[1])
    assert int(changed[0].sum()) == attacked


def test_what_dropout_has_left_is_attacked(tiny_host, tiny_batch):
    data = tiny_batch()
    host = tiny_host().plug(ModalityDropout(p={'rgb': 1.0}), AdversarialTraining(ATTACK))
    batch = seen(host, data)
    assert torch.equal(batch.inputs['rgb'], data['inputs']['rgb'])
    assert (batch.inputs['depth'] != data['inputs']['depth']).flatten(1).any(1).all()


def test_it_lowers_the_loss_under_attack(tiny_host, tiny_batch):
    found = {}
    data = tiny_batch(size=16)
    attack = ATTACKS.build({**ATTACK, 'steps': 10})
    for name, plugins in (('clean', []), ('robust', [AdversarialTraining(ATTACK)])):
        host = tiny_host().plug(*plugins)
        optimizer = build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 0.05}})
        for i in range(30):
            host.clock.iteration = i
            host.train_step(data, optimizer)
        attacked = attack(host, host.make_batch(**data), torch.Generator().manual_seed(0))
        with torch.no_grad(), host.aside(training=False):
            found[name] = float(host.sample_losses(host.run(attacked), attacked).mean())
    assert found['robust'] < 0.7 * found['clean']


def test_an_attack_that_is_made_serves_as_well_as_its_config(tiny_host, tiny_batch):
    data = tiny_batch()
    found = [seen(tiny_host().plug(AdversarialTraining(a)), data) for a in (ATTACK, ATTACKS.build(ATTACK))]
    assert torch.equal(found[0].inputs['rgb'], found[1].inputs['rgb'])
    with pytest.raises(InputError, match='The attack must be dict'):
        AdversarialTraining(3)


def test_a_wrong_range_is_found_in_the_first_batch(tiny_host, tiny_batch):
    host = tiny_host().plug(AdversarialTraining())
    with pytest.raises(InputError, match=r'rgb runs from .* outside its range 0\.\.1'):
        host(**tiny_batch(), mode='loss')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'attack': 'PDG'}, "No attack named 'PDG'. Did you mean 'PGD'"),
        ({'attack': {'type': 'PGD', 'eps': -1}}, 'eps must be'),
        ({'clean': 1.0}, r'clean must be in \[0, 1\), got 1.0'),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises((InputError, NameNotFound), match=message):
        AdversarialTraining(**arguments)


def test_an_attack_that_compares_samples_needs_a_host_that_can(tiny_host):
    pytest.importorskip('ultralytics')
    host = zoo.create_host('two_stream_yolo', modalities=['rgb', 'ir'], num_classes=2, model='yolov8n')
    host.plug(AdversarialTraining('FGSM'))
    with pytest.raises(InputError, match=r'Square compares losses of single samples, .* FGSM, PGD, BIM and MIM do'):
        host.plug(AdversarialTraining('Square', name='other'))
    with pytest.raises(NameNotFound, match=r"modality \(in eps\) named 'dept'"):
        tiny_host().plug(AdversarialTraining({'type': 'PGD', 'eps': {'dept': 0.1}}))
