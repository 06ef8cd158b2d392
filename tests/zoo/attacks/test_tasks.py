"""Attacks on hosts of other tasks than one label for a sample."""

import pytest
import torch

from plugins import RPAN
from registry import ATTACKS, InputError
from zoo.attacks.scores import minus_margin
from zoo.hosts import MAIL, EncoderDecoder

EPS = 0.1


@pytest.fixture
def two_tasks():
    torch.manual_seed(0)
    encoder = {'type': 'ERLAEncoder', 'depths': (1, 1), 'widths': (8, 8), 'stem_width': 8}
    host = MAIL(('rgb', 'ir'), {'cell': 5, 'skin': 4}, encoder, 1).train()
    inputs = {m: torch.rand(6, 1, 16, 24) for m in host.modalities}
    with torch.no_grad():
        target = {k: z.argmax(1) for k, z in host.eval()(inputs).items()}
    target['skin'][1] = target['cell'][2] = -1  # no label
    target['skin'][3] = -1
    return host.train(), host.make_batch(inputs, target=target)


def lead(host, batch):
    """How far wrong classes are ahead of the true ones, (B,), summed over the tasks."""
    with torch.no_grad(), host.aside(training=False):
        return minus_margin(host, host.run(batch), batch)


@pytest.mark.parametrize(
    'attack',
    [
        dict(type='PGD', steps=3),
        dict(type='APGD', steps=6, loss='dlr'),
        dict(type='APGD', steps=6, loss='targeted', targets=2),
        dict(type='FAB', steps=4, targets=2),
        dict(type='Square', queries=30),
    ],
)
def test_every_task_of_a_host_is_attacked(attack, two_tasks):
    host, batch = two_tasks
    found = ATTACKS.build(dict(eps=EPS, **attack))(host, batch, torch.Generator().manual_seed(0))
    assert lead(host, found).sum() > lead(host, batch).sum()
    for m, x in found.inputs.items():
        assert (x - batch.inputs[m]).abs().max() <= EPS + 1e-6


def test_fewer_classes_in_one_task_leave_members_out(two_tasks):
    _, batch = two_tasks
    host = MAIL(('rgb', 'ir'), {'cell': 5, 'skin': 3}, {'type': 'ERLAEncoder', 'depths': (1,), 'widths': (8,)}, 1)
    batch = batch.replace(target={k: y.clamp(max=2) for k, y in batch.target.items()})
    options = {'apgd-ce': {'steps': 1}, 'fab-t': {'steps': 1}, 'square': {'queries': 1}}
    attack = ATTACKS.build(dict(type='AutoAttack', options=options))
    attack(host, batch)
    assert attack.left_out == ('apgd-t',)
    with pytest.raises(InputError, match=r'Labels run from 0 to 3, the host has the classes 0\.\.2'):
        ATTACKS.build('PGD')(host, batch.replace(target={**batch.target, 'skin': torch.tensor([3, 0, 0, 0, 0, 0])}))


def test_a_random_host_is_attacked_through_draws_that_leave_no_trace(two_tasks):
    host, batch = two_tasks
    host.plug(plugin := RPAN())
    kept = plugin.kernels.clone()
    runs = [
        ATTACKS.build(dict(type='APGD', eps=EPS, steps=4, eot=2))(host, batch, torch.Generator().manual_seed(0))
        for _ in range(2)
    ]
    assert torch.equal(plugin.kernels, kept)
    assert torch.equal(runs[0].inputs['rgb'], runs[1].inputs['rgb'])


@pytest.fixture
def masks():
    torch.manual_seed(0)
    encoder = {'model': 'test_resnet', 'out_indices': (2, 3, 4)}
    host = EncoderDecoder(('rgb', 'depth'), 4, encoder, {'rgb': 3, 'depth': 1}, head='FCN8s')
    inputs = {m: torch.rand(3, c, 32, 64) for m, c in host.in_chans.items()}
    with torch.no_grad():
        target = host.eval()(inputs).argmax(1)
    target[:, :4] = host.ignore_index
    return host, host.make_batch(inputs, target=target)


@pytest.mark.parametrize(
    'attack', [dict(type='PGD', steps=3), dict(type='APGD', steps=4, loss='margin'), dict(type='Square', queries=20)]
)
def test_of_masks_the_pixels_are_attacked(attack, masks):
    host, batch = masks
    found = ATTACKS.build(dict(eps=EPS, **attack))(host, batch, torch.Generator().manual_seed(0))
    assert lead(host, found).sum() > lead(host, batch).sum()


@pytest.mark.parametrize(
    ('name', 'message'), [('FAB', 'FAB needs one class label'), ('AutoAttack', 'AutoAttack needs class labels')]
)
def test_attacks_that_need_one_label_refuse_masks(name, message, masks):
    with pytest.raises(InputError, match=message):
        ATTACKS.build(name)(*masks)
