"""What every registered host, fusion block and plugin promises, in every combination.

Whoever registers one is tested here; where its constructor needs arguments, `tests/recipes/README.md` says how.
"""

import inspect

import pytest
import torch
from contract_cases import (
    COUNTS,
    POINTS,
    REFUSED,
    assert_finite,
    assert_same,
    every_bare,
    every_case,
    every_plugged,
    every_plugin,
    gradients,
    holes,
    needed,
    predict,
    recipe,
    train,
    wrapper,
)

from registry import HOSTS, InputError
from zoo.engine.optim import build_optim_wrapper
from zoo.host import ENCODE_ON, MultimodalHost

# ---- absent modalities


def assert_holes_do_not_matter(case, **arguments):
    results = []
    # NaN shows whatever is multiplied by zero, a large number what is hidden by nan_to_num and the like
    for fill in (0.0, (torch.nan, 1e4)):
        host, batches = case.make(**arguments), holes(case, fill)
        left = train(host, *batches)
        left['predictions'] = [predict(host, data) for data in batches]
        assert_finite(left)
        results.append(left)
    assert_same(*results)


@every_case
def test_what_an_absent_modality_holds_changes_nothing(case):
    assert_holes_do_not_matter(case)


@every_bare
@pytest.mark.parametrize('encode_on', ENCODE_ON[1:])
def test_what_an_absent_modality_holds_changes_nothing_in_any_way_to_encode(case, encode_on):
    if 'encode_on' not in inspect.signature(HOSTS.find(case.host)).parameters:
        pytest.skip('the host has one way to encode')
    assert_holes_do_not_matter(case, encode_on=encode_on)


@every_case
def test_a_modality_that_the_whole_batch_lacks_has_a_zero_gradient(case):
    host = case.make()
    for absent in host.modalities:
        data = case.data(absent=[(None, absent)], fill=torch.nan)
        left_out = {**data, 'inputs': {m: x for m, x in data['inputs'].items() if m != absent}}
        for batch in (data, left_out):
            grads = gradients(host, batch)
            if not any(p.idle_parameters for p in host.plugins.values()):
                assert not [name for name, g in grads.items() if g is None]
            for p in host.branch(absent):
                assert p.grad is not None
                assert not p.grad.any()


@every_bare
def test_dense_encoding_has_zero_gradients_too(case):
    if 'encode_on' not in inspect.signature(HOSTS.find(case.host)).parameters:
        pytest.skip('the host has one way to encode')
    host = case.make(encode_on='dense')
    absent = host.modalities[1]
    grads = gradients(host, case.data(absent=[(None, absent)], fill=torch.nan))
    assert not [name for name, g in grads.items() if g is None]
    assert not any(p.grad.any() for p in host.branch(absent))


# ---- parameters


@every_case
def test_every_parameter_gets_a_gradient_from_a_complete_batch(case):
    host = case.make()
    grads = gradients(host, case.data())
    assert_finite(grads)
    assert not [name for name, g in grads.items() if g is None]
    for m in host.modalities:
        own = list(host.branch(m))
        assert not own or any(p.grad.any() for p in own), m


@pytest.mark.parametrize('count', COUNTS)
@every_bare
def test_branches_are_disjoint_parts_of_the_host(case, count):
    host = case.make(case.pool[:count])
    every = {id(p) for p in host.parameters()}
    training_only = {id(p) for p in host.training_only()}
    seen = set()
    for m in host.modalities:
        own = [id(p) for p in host.branch(m)]
        assert len(own) == len(set(own))
        assert set(own) <= every
        assert not set(own) & (seen | training_only)
        seen |= set(own)
    assert training_only <= every


@every_case
def test_frozen_parameters_stay_and_stop_nobody(case):
    host = case.make()
    frozen = list(host.branch(host.modalities[0]))
    for p in frozen:
        p.requires_grad_(False)
    before = [p.clone() for p in frozen]
    assert_finite(train(host, case.data()))
    assert all(torch.equal(a, b) for a, b in zip(frozen, before))


# ---- sizes


@pytest.mark.parametrize('count', COUNTS)
@every_case
def test_any_number_of_modalities_works(case, count):
    counts = getattr(recipe(case.host), 'COUNTS', COUNTS)
    if count not in counts:
        pytest.skip(f'{case.host} takes {counts} modalities')
    names = case.pool[:count]
    if case.plugin and count < (least := case.make_plugin().min_modalities):
        with pytest.raises(InputError, match=f'needs at least {least} modalities'):
            case.make(names)
        return
    host = case.make(names)
    data = case.data(names, absent=[(0, names[-1])] if count > 1 else [])
    assert_finite(train(host, data))
    whole = predict(host, data)
    assert_finite(whole)
    if count > 2 and case.plugin and not case.make_plugin().structural:
        return  # other plugins do not act in eval mode, as another test says: the bare host stands for them
    batch = host.eval().make_batch(**data)
    masks = torch.cat([torch.eye(count), torch.ones(1, count)]).bool()
    with torch.no_grad():
        outputs = list(host.run_subsets(batch, masks))
    torch.testing.assert_close(outputs[-1].prediction, whole, rtol=1e-4, atol=1e-5)
    for mask, found in zip(masks[:-1], outputs):
        part = batch.restrict(mask)
        part = part.select(part.present.any(1))
        expected = predict(host, {'inputs': part.inputs, 'present': part.present})
        torch.testing.assert_close(found.prediction, expected, rtol=1e-4, atol=1e-5)


@every_bare
def test_the_order_of_columns_does_not_matter(case):
    names = case.pool[:3]
    host = case.make(names)
    data = case.data(names, absent=[(0, names[1]), (2, names[0])], fill=torch.nan)
    expected = predict(host, data)
    order = [2, 0, 1]
    shuffled = {
        'inputs': {names[i]: data['inputs'][names[i]] for i in order},
        'present': data['present'][:, order],
        'modalities': [names[i] for i in order],
    }
    assert_same(predict(host, shuffled), expected)


@every_bare
def test_the_order_of_the_modalities_does_not_matter_where_weights_go_by_name(case):
    if case.fusion and getattr(recipe(case.fusion), 'ORDERED', False):
        pytest.skip(f'the weights of {case.fusion} go by position')
    if getattr(recipe(case.host), 'ORDERED', False):
        pytest.skip(f'{case.host} treats its first modality apart')
    names = case.pool[:3]
    shuffled = (names[2], names[0], names[1])
    absent = [(0, names[1]), (2, names[0])]
    host, other = case.make(names), case.make(shuffled, seed=1)
    train(host, case.data(names))
    other.load_state_dict(host.state_dict())
    found, expected = predict(other, case.data(shuffled, absent=absent)), predict(host, case.data(names, absent=absent))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@every_case
def test_a_batch_of_one_and_odd_batches_train(case):
    host = case.make()
    a, b = host.modalities
    batches = [
        case.data(size=1),
        case.data(size=1, absent=[(0, b)]),
        case.data(size=3, absent=[(0, a), (1, a)]),
        case.data(size=7, absent=[(6, b)]),
    ]
    assert_finite(train(host, *batches))
    for data in batches:
        assert_finite(predict(host, data))


# ---- states


@every_case
def test_a_state_survives_the_round_trip(case):
    host, other = case.make(), case.make(seed=1)
    data = case.data(absent=[(0, 'rgb')])
    train(host, data, case.data(seed=4))
    other.load_state_dict(host.state_dict())
    assert_same(other.state_dict(), host.state_dict())
    assert_same(predict(other, data), predict(host, data))
    # and training goes on alike
    host.clock.iteration = other.clock.iteration = 2
    assert_same(train(other, data), train(host, data, optimizer=wrapper(host)))


@every_plugged
def test_a_plugin_leaves_the_host_what_it_is_without(case, monkeypatch):
    plain, host = case.make(plugged=False), case.make()
    if case.make_plugin().structural:
        pytest.skip('it changes the architecture')
    own = {k: v for k, v in host.state_dict().items() if not k.startswith('plugins.')}
    assert_same(own, plain.state_dict())  # nothing was drawn from the random state, no key has changed
    data = case.data(absent=[(0, 'rgb')])
    train(host, data, case.data(seed=4))
    saved = host.state_dict()
    plain.load_state_dict({k: v for k, v in saved.items() if not k.startswith('plugins.')})

    def never(*_):
        raise AssertionError('a plugin acted in eval mode')

    for plugin in host.plugins.values():
        for point in POINTS:
            monkeypatch.setattr(type(plugin), point, never)
    assert_same(predict(host, data), predict(plain, data))
    host.eval()(**data, mode='loss')


@every_plugin
def test_an_extra_pass_between_steps_leaves_plugins_and_host_alone(case):
    batches = [case.data(absent=[(0, 'rgb')]), case.data(seed=2)]
    host, other = case.make(), case.make()

    def extra():
        with other.aside(), torch.no_grad():
            other.run(other.make_batch(**batches[1]))

    assert_same(train(other, *batches, between=extra), train(host, *batches))


# ---- precision


@every_case
def test_bfloat16_autocast_works(case):
    host = case.make()
    data = case.data(absent=[(0, 'rgb')], fill=torch.nan)
    optimizer = build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 0.1}, 'dtype': 'bfloat16'})
    assert_finite(train(host, data, data, optimizer=optimizer))
    assert {p.dtype for p in host.parameters()} == {torch.float32}
    with torch.autocast('cpu', torch.bfloat16):
        assert_finite(predict(host, data))


# ---- what a host offers


@every_bare
def test_a_host_keeps_what_it_offers(case):
    module = needed(case.host, 'arguments', 'shape', 'target')
    asked = module.arguments(case.pool[:2], case.fusion, HOSTS.find(case.host).offers)
    host = case.make(**asked)
    data = case.data(size=5, absent=[(1, 'rgb')], fill=torch.nan)
    batch = host.make_batch(**data)
    outputs = host.run(batch)
    assert host.offers <= {'features', 'unimodal', 'sample_losses'}
    if 'features' in host.offers:
        assert set(outputs.features) == set(host.modalities)
    if 'sample_losses' in host.offers:
        losses = host.sample_losses(outputs, batch)
        assert losses.shape == (5,)
        assert_finite(losses)
    if 'unimodal' not in host.offers:
        assert host.unimodal(outputs) is None
        return
    predictions = host.unimodal(outputs)
    assert list(predictions) == list(host.modalities)
    for m, rows in zip(host.modalities, batch.present.T):
        mean = host.unimodal_loss(predictions[m], batch, rows)
        assert mean.shape == ()
        assert_finite(mean)
        none = host.unimodal_loss(predictions[m], batch, torch.zeros_like(rows))
        assert none == 0
        assert none.requires_grad
        if type(host).true_class_probability is not MultimodalHost.true_class_probability:
            p = host.true_class_probability(predictions[m], batch)
            assert p.shape == (5,)
            assert ((p >= 0) & (p <= 1) | p.isnan()).all()
            assert not p.isnan().all()


def test_what_can_not_be_combined_is_refused():
    for case in REFUSED:
        with pytest.raises(InputError, match=case.plugin):
            case.make()


def test_a_missing_recipe_is_asked_for():
    with pytest.raises(
        pytest.fail.Exception, match=r'Add a recipe for Nobody: tests/recipes/Nobody\.py lacks VARIANTS'
    ):
        needed('Nobody', 'VARIANTS')
