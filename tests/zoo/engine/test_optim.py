"""Parameter groups by branch, rates that come back, and mixed precision."""

import pytest
import torch

import zoo
from registry import InputError, NameNotFound
from zoo.engine import build_optim_wrapper, parameter_groups

SGD = {'type': 'SGD', 'lr': 0.1}


@pytest.fixture
def host():
    return zoo.create_host('late_fusion', modalities=['a', 'b'], num_classes=3, encoder='test_resnet', aux_heads=True)


def loss(host, size=3):
    inputs = {m: torch.randn(size, 3, 32, 48) for m in host.modalities}
    return sum(host(inputs, target=torch.randint(3, (size,)), mode='loss').values())


def test_one_group_for_each_branch_and_one_for_the_rest(host):
    groups = parameter_groups(host)
    assert [g['branch'] for g in groups] == ['a', 'b', None]
    assert [p for g in groups for p in g['params']] == list(dict.fromkeys(p for g in groups for p in g['params']))
    assert set(groups[0]['params']) == set(host.branch('a'))
    rest = set(groups[2]['params'])
    assert rest == {*host.head.parameters(), *host.aux.parameters()}


def test_shared_and_frozen_parameters(host):
    host.encoders['b'] = host.encoders['a']
    host.head.bias.requires_grad_(False)
    groups = parameter_groups(host)
    assert [g['branch'] for g in groups] == [None]
    assert host.head.bias not in set(groups[0]['params'])


def test_a_modality_without_a_branch_of_its_own_has_no_group(host, monkeypatch):
    own = host.branch
    monkeypatch.setattr(host, 'branch', lambda m: () if m == 'b' else own(m))
    wrapper = build_optim_wrapper(host, {'optimizer': SGD})
    assert [g['branch'] for g in wrapper.optimizer.param_groups] == ['a', None]
    before = [p.detach().clone() for p in host.encoders['b'].parameters()]
    wrapper.update_params(loss(host))
    assert any(not torch.equal(x, y) for x, y in zip(before, host.encoders['b'].parameters()))


class Boom(Exception):
    pass


@pytest.mark.parametrize('rate', [0.1, torch.tensor(0.1)])
@pytest.mark.parametrize('fails', [False, True])
def test_rates_are_as_before_after_the_step_also_on_an_error(host, rate, fails):
    wrapper = build_optim_wrapper(host, {'optimizer': {**SGD, 'lr': rate, 'foreach': False}})
    seen = []

    def change(optimizer, *_):
        for group in optimizer.param_groups:
            group['lr'] = group['lr'] * 0.5
        seen.append(float(optimizer.param_groups[0]['lr']))
        if fails:
            raise Boom

    wrapper.optimizer.register_step_pre_hook(change)
    if fails:
        with pytest.raises(Boom):
            wrapper.update_params(loss(host))
    else:
        wrapper.update_params(loss(host))
    assert seen == [pytest.approx(0.05)]
    assert all(
        float(g['lr']) == pytest.approx(0.1) and type(g['lr']) is type(rate) for g in wrapper.optimizer.param_groups
    )


def test_plugins_act_once_for_each_real_step_after_clipping(host):
    calls = []
    host.on_gradients = lambda optimizer: calls.append(
        torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in host.parameters()])).item()
    )
    wrapper = build_optim_wrapper(host, {'optimizer': SGD, 'accumulative_counts': 2, 'clip_grad': {'max_norm': 0.01}})
    for _ in range(4):
        wrapper.update_params(loss(host))
    assert calls == [pytest.approx(0.01, rel=1e-3)] * 2
    assert wrapper.logged['grad_norm'] > 0.01


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_mixed_precision_works_on_the_cpu(host, dtype):
    wrapper = build_optim_wrapper(host, {'optimizer': SGD, 'dtype': dtype, 'clip_grad': {'max_norm': 1.0}})
    before = host.head.weight.detach().clone()
    for _ in range(3):
        with wrapper.optim_context(host):
            assert torch.is_autocast_enabled('cpu')
            value = loss(host)
        wrapper.update_params(value)
    assert wrapper.scaler.is_enabled() == (dtype == 'float16')
    assert not torch.equal(before, host.head.weight)
    assert all(p.grad is None or p.grad.isfinite().all() for p in host.parameters())


@pytest.mark.parametrize('fused', [False, True])
def test_plugins_see_unscaled_gradients(host, fused):
    seen = []
    host.on_gradients = lambda optimizer: seen.append(host.head.bias.grad.clone())
    wrapper = build_optim_wrapper(host, {'optimizer': {**SGD, 'fused': fused}, 'dtype': 'float16'})
    before = host.head.bias.detach().clone()
    value = loss(host)
    (expected,) = torch.autograd.grad(value, host.head.bias, retain_graph=True)
    wrapper.update_params(value)
    torch.testing.assert_close(seen, [expected])
    torch.testing.assert_close(host.head.bias.detach(), before - SGD['lr'] * expected)


@pytest.mark.parametrize('fused', [False, True])
def test_a_step_that_the_scaler_skips_reaches_no_plugin_and_changes_nothing(host, fused):
    calls = []
    host.on_gradients = lambda optimizer: calls.append(1)
    wrapper = build_optim_wrapper(host, {'optimizer': {**SGD, 'fused': fused}, 'dtype': 'float16'})
    before = {k: v.clone() for k, v in host.named_parameters()}
    scale = wrapper.scaler.get_scale()
    wrapper.update_params(loss(host) * float('inf'))
    assert calls == []
    assert wrapper.scaler.get_scale() < scale
    assert all(torch.equal(before[k], v) for k, v in host.named_parameters())


def test_state_round_trip_keeps_the_loss_scale(host):
    wrapper = build_optim_wrapper(host, {'optimizer': {**SGD, 'momentum': 0.9}, 'dtype': 'float16'})
    wrapper.update_params(loss(host) * float('inf'))
    other = build_optim_wrapper(host, {'optimizer': {**SGD, 'momentum': 0.9}, 'dtype': 'float16'})
    other.load_state_dict(wrapper.state_dict())
    assert other.scaler.get_scale() == wrapper.scaler.get_scale()


def test_bad_input(host):
    with pytest.raises(InputError, match='needs "optimizer"'):
        build_optim_wrapper(host, {})
    with pytest.raises(NameNotFound, match=r"'bfloat61'\. Did you mean 'bfloat16'"):
        build_optim_wrapper(host, {'optimizer': SGD, 'dtype': 'bfloat61'})


def test_a_skipped_step_keeps_the_window_open(host):
    wrapper = build_optim_wrapper(host, {'optimizer': SGD, 'dtype': 'float16'})
    assert not wrapper.window_open
    wrapper.update_params(loss(host) * float('inf'))
    assert wrapper.window_open  # what plugins summed up waits for the next step; a checkpoint would lose it
    wrapper.update_params(loss(host))
    assert not wrapper.window_open


def test_norms_and_biases_can_decay_otherwise(host):
    decay = {'norm_decay_mult': 0, 'bias_decay_mult': 0.5}
    config = {'optimizer': {**SGD, 'weight_decay': 0.1}, 'paramwise_cfg': decay}
    groups = build_optim_wrapper(host, config).optimizer.param_groups
    found = {p: (g['branch'], g['weight_decay']) for g in groups for p in g['params']}
    assert len(found) == len(list(host.parameters())) == sum(len(g['params']) for g in groups)
    conv, norm = host.encoders['a'].model.conv1[:2]
    assert found[conv.weight] == ('a', 0.1)
    assert found[norm.weight] == found[norm.bias] == ('a', 0)
    assert found[host.head.weight] == (None, 0.1)
    assert found[host.head.bias] == (None, 0.05)


def test_weights_that_decay_alike_share_a_group(host):
    decay = {'norm_decay_mult': 0, 'bias_decay_mult': 0}
    config = {'optimizer': {'type': 'AdamW', 'lr': 0.1}, 'paramwise_cfg': decay}
    groups = build_optim_wrapper(host, config).optimizer.param_groups
    assert [g['branch'] for g in groups] == ['a', 'a', 'b', 'b', None, None]
    assert [g['weight_decay'] for g in groups][1::2] == [0] * 3


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'norm_decay_mul': 0}, "No entry of paramwise_cfg named 'norm_decay_mul'. Did you mean 'norm_decay_mult'"),
        ({'bias_decay_mult': -1}, 'must be a number of at least 0, got -1'),
    ],
)
def test_other_multipliers_are_refused(host, given, message):
    with pytest.raises((InputError, NameNotFound), match=message):
        build_optim_wrapper(host, {'optimizer': SGD, 'paramwise_cfg': given})
