"""Taps: the rows of what they note, whose pass it was, and copies of hosts."""

import copy

import pytest
import torch
from torch import nn

from zoo import create_host
from zoo.host import ENCODE_ON
from zoo.hosts import LateFusion

NARROW = {'model': 'test_resnet', 'stem_width': 4, 'channels': (8, 8, 8, 16)}


def make(**arguments):
    torch.manual_seed(0)
    return LateFusion(['rgb', 'ir'], num_classes=3, encoder=NARROW, **arguments).eval()


def draw(size=4):
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(size, 3, 32, 48, generator=generator) for m in ('rgb', 'ir')}
    present = torch.tensor([[True, True], [False, True], [True, False], [True, True]])[:size]
    return inputs, present


def last_activation(host, modality='rgb'):
    return [m for m in host.encoders[modality].modules() if isinstance(m, nn.ReLU)][-1]


@pytest.mark.parametrize('encode_on', ENCODE_ON)
def test_what_is_noted_has_the_rows_of_the_batch_and_zeros_where_absent(encode_on):
    host = make(encode_on=encode_on)
    host.tap('last', last_activation(host))
    inputs, present = draw()
    inputs['rgb'][1] = torch.nan
    outputs = host.run(host.make_batch(inputs, present))
    noted = outputs.features.tapped['last']
    assert noted.shape[:2] == (4, 16)
    torch.testing.assert_close(noted.relu().mean((2, 3)), outputs.features['rgb'])
    assert (noted < 0).any()  # it was copied before the activation worked in place
    assert not noted[1].any()


def test_an_output_and_a_module_behind_the_encoders_can_be_noted():
    host = make()
    host.tap('logits', host.head, output=True)
    inputs, present = draw()
    outputs = host.run(host.make_batch(inputs, present))
    torch.testing.assert_close(outputs.features.tapped['logits'], outputs.prediction)


def test_a_later_pass_leaves_what_an_earlier_one_noted():
    host = make()
    host.tap('last', last_activation(host))
    inputs, present = draw()
    first = host.run(host.make_batch(inputs, present))
    kept = first.features.tapped['last'].clone()
    host.run(host.make_batch({m: x + 1 for m, x in inputs.items()}, present))
    torch.testing.assert_close(first.features.tapped['last'], kept)


def test_a_copy_of_a_host_notes_for_itself():
    host = make()
    host.tap('last', last_activation(host))
    twin = copy.deepcopy(host)
    inputs, present = draw()
    outputs = twin.run(twin.make_batch(inputs, present))
    assert 'last' in outputs.features.tapped
    assert not host.taps.noted
    assert not host.taps.found


def test_asking_twice_is_asking_once():
    host = make()
    for _ in range(2):
        host.tap('last', last_activation(host))
    assert len(last_activation(host)._forward_pre_hooks) == 1


@pytest.mark.parametrize('name', ['ESANet', 'MAIL'])
def test_hosts_that_go_stage_by_stage_put_rows_back_too(name):
    arguments = {
        'ESANet': {'encoder': {**NARROW, 'out_indices': (1, 2, 3, 4)}, 'head': 'FCN8s', 'neck': None},
        'MAIL': {'encoder': {'type': 'ERLAEncoder', 'depths': (1, 1), 'widths': (8, 12), 'stem_width': 8}},
    }[name]
    host = create_host(name, modalities=['rgb', 'ir'], num_classes=3, **arguments).eval()
    host.tap('stage', next(m for m in host.encoders['ir'].modules() if isinstance(m, nn.Conv2d)), output=True)
    inputs, present = draw()
    inputs = {m: torch.nn.functional.interpolate(x, (32, 64)) for m, x in inputs.items()}
    noted = host.run(host.make_batch(inputs, present)).features.tapped['stage']
    assert len(noted) == 4
    assert not noted[2].any()
    assert noted[1].any()


def test_a_compiled_encoder_notes_too():
    host, whole = make(), make()
    for h in (host, whole):
        h.tap('last', last_activation(h))
    host.encoders['rgb'].compile(backend='eager')
    inputs, present = draw()
    with torch.no_grad():
        found, expected = (h.run(h.make_batch(inputs, present)).features.tapped['last'] for h in (host, whole))
    torch.testing.assert_close(found, expected)
