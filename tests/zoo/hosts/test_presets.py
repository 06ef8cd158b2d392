"""Presets: what `official` sets on each host, and that an argument wins."""

import inspect
from pathlib import Path

import pytest
import torch

from registry import HOSTS, InputError, NameNotFound
from zoo.engine import load_config
from zoo.engine.cost import without_weights
from zoo.hosts import SFMD, MMANet, MMFormer, RFNet

CONFIGS = Path(__file__).parents[3] / 'configs'
BOTH = {'encode_on': 'all', 'aux_on': 'all'}
VOLUMES = {**BOTH, 'blend': 'uniform'}
OFFICIAL = {
    MMANet: {'encode_on': 'all'},
    SFMD: BOTH,
    RFNet: {**VOLUMES, 'warmup_epochs': 20},
    MMFormer: {**VOLUMES, 'warmup_epochs': 0, 'absent_tokens': 'zero_pos'},
}


def build(cls, **arguments):
    with torch.device('meta'):
        return cls(['flair', 't1'], num_classes=4, **arguments)


@pytest.mark.parametrize('cls', OFFICIAL)
def test_official_sets_what_published_training_does(cls):
    host, plain = build(cls, preset='official'), build(cls)
    assert {k: getattr(host, k) for k in OFFICIAL[cls]} == OFFICIAL[cls]
    assert {k: getattr(plain, k) for k in BOTH} == dict.fromkeys(BOTH, 'present')
    if cls in (RFNet, MMFormer):
        assert (host.criterion.floor, plain.criterion.floor) == (0.005, 0)
    if cls is MMFormer:
        assert (host.between.token_layout, plain.between.token_layout) == ('official', 'aligned')


def test_an_argument_wins_over_the_preset():
    host = build(RFNet, preset='official', warmup_epochs=0, loss='DiceWCE')
    assert (host.warmup_epochs, host.criterion.floor, host.aux_on, host.blend) == (0, 0, 'all', 'uniform')
    with pytest.raises(InputError, match="aux_on='all' takes losses on dropped modalities"):
        build(RFNet, preset='official', encode_on='present')


@pytest.mark.parametrize('cls', OFFICIAL)
def test_another_preset_is_refused(cls):
    with pytest.raises(NameNotFound, match=r"No preset named 'offical'\. Did you mean 'official'"):
        build(cls, preset='offical')
    assert 'preset' in inspect.signature(cls).parameters


@pytest.mark.parametrize('config', ['rfnet/rfnet_brats', 'mmformer/mmformer_brats_mwam', 'mmanet/mmanet_casia_surf'])
def test_configs_that_reproduce_a_paper_use_it(config):
    model = without_weights(load_config(CONFIGS / f'{config}.py').model)
    model.pop('data_preprocessor', None)
    with torch.device('meta'):
        host = HOSTS.build(model)
    assert {k: getattr(host, k) for k in OFFICIAL[type(host)]} == OFFICIAL[type(host)]
