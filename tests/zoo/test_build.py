"""Building and listing by name, without a config."""

import pytest
import torch

from plugins import ModalityDropout
from registry import InputError, NameNotFound
from zoo import create_host, list_hosts, list_plugins
from zoo.hosts import LateFusion

ARGUMENTS = dict(modalities=['rgb', 'depth'], num_classes=3, encoder='test_resnet')


@pytest.mark.parametrize('name', ['late_fusion', 'LateFusion', 'latefusion'])
def test_a_host_is_created_by_name(name):
    host = create_host(name, **ARGUMENTS)
    assert isinstance(host, LateFusion)
    assert host({m: torch.randn(2, 3, 32, 48) for m in host.modalities}).shape == (2, 3)


@pytest.mark.parametrize(
    ('plugins', 'names'),
    [
        ((), []),
        ('ModalityDropout', ['ModalityDropout']),
        ({'type': 'ModalityDropout', 'p': 0.3, 'name': 'dropout'}, ['dropout']),
        (['ModalityDropout', {'type': 'StaticWeights', 'factors': {'rgb': 0.5}}], ['ModalityDropout', 'StaticWeights']),
    ],
)
def test_plugins_are_attached_in_order(plugins, names):
    host = create_host('late_fusion', plugins=plugins, **ARGUMENTS)
    assert list(host.plugins) == names
    if 'dropout' in names:
        assert isinstance(host.plugins['dropout'], ModalityDropout)
        assert host.plugins['dropout'].p == 0.3


@pytest.mark.parametrize(
    ('name', 'arguments', 'error', 'message'),
    [
        ('late_fusoin', {}, NameNotFound, r"No host named 'late_fusoin'\. Did you mean 'LateFusion'"),
        ('late_fusion', {'plugins': ['MWAN']}, NameNotFound, r"No plugin named 'MWAN'\. Did you mean 'MWAM'"),
        (
            'late_fusion',
            {'encodr': 'x'},
            InputError,
            r"host LateFusion has no argument 'encodr'\. Did you mean 'encoder'",
        ),
    ],
)
def test_mistakes_are_answered_with_the_nearest(name, arguments, error, message):
    with pytest.raises(error, match=message):
        create_host(name, **{**ARGUMENTS, **arguments})


def test_a_missing_argument_is_named():
    with pytest.raises(InputError, match="missing a required argument: 'num_classes'"):
        create_host('late_fusion', modalities=['rgb'])


def test_names_are_listed_and_can_be_created():
    assert 'late_fusion' in list_hosts()
    assert list_hosts('LATE*') == ['late_fusion']
    assert list_hosts('nothing*') == []
    assert 'ModalityDropout' in list_plugins('modality*')
    assert list_plugins('*') == sorted(list_plugins())
