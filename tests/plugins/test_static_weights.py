"""StaticWeights: fixed factors, as gradients or as rates."""

import math

import pytest
import torch

from plugins.static_weights import StaticWeights
from registry import InputError, NameNotFound
from zoo.engine import build_optim_wrapper


def moved(host, batch, lr=0.1, **arguments):
    """How far each parameter moved in one step of SGD."""
    before = {n: p.detach().clone() for n, p in host.named_parameters()}
    wrapper = build_optim_wrapper(host, dict(optimizer=dict(type='SGD', lr=lr, **arguments)))
    wrapper.update_params(host.parse_losses(host(**batch, mode='loss'))[0])
    return {n: p.detach() - before[n] for n, p in host.named_parameters()}


@pytest.mark.parametrize('form', ['grad', 'lr'])
def test_each_branch_moves_by_its_factor_and_the_rest_as_before(tiny_host, tiny_batch, form):
    names = ('t', 't1', 'rgb')  # one name begins with another
    plain = moved(tiny_host(names), tiny_batch(names))
    scaled = moved(tiny_host(names).plug(StaticWeights({'t': 0.5, 't1': 2}, apply=form)), tiny_batch(names))
    for name, path in scaled.items():
        factor = {'t': 0.5, 't1': 2.0}.get(name.split('.')[1], 1.0)
        torch.testing.assert_close(path, factor * plain[name], rtol=1e-3, atol=1e-7)
        assert plain[name].norm() > 0


def test_zero_as_a_rate_stops_a_branch_with_its_weight_decay(tiny_host, tiny_batch):
    host = tiny_host().plug(StaticWeights({'rgb': 0}, apply='lr'))
    path = moved(host, tiny_batch(), weight_decay=0.1, momentum=0.9)
    assert not path['encoders.rgb.1.weight'].any()
    assert path['encoders.depth.1.weight'].any()


def test_factors_of_one_change_no_bit(tiny_host, tiny_batch):
    plain = moved(tiny_host(), tiny_batch())
    for form in ('grad', 'lr'):
        same = moved(tiny_host().plug(StaticWeights({'rgb': 1.0}, apply=form)), tiny_batch())
        assert all(torch.equal(plain[n], same[n]) for n in plain)


@pytest.mark.parametrize('factors', [{'rgb': -0.1}, {'rgb': math.inf}, {'rgb': math.nan}])
def test_factors_must_be_finite_and_not_negative(factors):
    with pytest.raises(InputError, match='finite and not negative, got'):
        StaticWeights(factors)


def test_factors_must_be_named(tiny_host):
    with pytest.raises(InputError, match='must map modalities to numbers'):
        StaticWeights([0.5, 1.0])
    with pytest.raises(NameNotFound, match="Did you mean 'depth'"):
        tiny_host().plug(StaticWeights({'dept': 0.5}))
