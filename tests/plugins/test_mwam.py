"""MWAM: weights by hand, its bank, and what it does to a training step."""

import copy
import math
import re
import warnings

import pytest
import torch
from torch import nn

from plugins.frequency import frequency_ratio
from plugins.mwam import MWAM, allocation_weights
from plugins.plugin import Plugin
from plugins.static_weights import StaticWeights
from registry import PLUGINS, InputError
from zoo.engine import build_optim_wrapper
from zoo.hosts import LateFusion

SGD = dict(optimizer=dict(type='SGD', lr=0.1))


class Fed(MWAM):
    """MWAM with ratios that a test chooses: `fed` (M,), NaN for a modality that is absent."""

    fed: torch.Tensor = None

    def _measure(self, batch):
        here = ~self.fed.isnan()
        return torch.stack((self.fed.nan_to_num() * 7, 7.0 * here))


def decide(plugin, host, frm):
    """One step with these ratios; returns K."""
    plugin.fed = torch.tensor(frm, dtype=torch.float64)
    plugin.on_inputs(host, host.make_batch({m: torch.zeros(1, 1, 16, 24) for m in host.modalities}))
    plugin.on_gradients(host, torch.optim.SGD(host.parameters(), lr=0.1))
    return plugin.logged['K'][1]


def step(host, batch, wrapper):
    """One training step through the optimiser wrapper; returns the losses."""
    losses = host(**batch, mode='loss')
    wrapper.update_params(host.parse_losses(losses)[0])
    return losses


def gradients(host, batch):
    """The gradients of a plain step, by name."""
    host.zero_grad()
    sum(host(**batch, mode='loss').values()).backward()
    grads = {n: p.grad.clone() for n, p in host.named_parameters() if p.grad is not None}
    host.zero_grad()
    return grads


def weights_of(host):
    return {n: p.detach().clone() for n, p in host.named_parameters()}


# ---- Eqs. 5 and 6


@pytest.mark.parametrize(
    ('frm', 'expected'),
    [
        ([1.81e8, 2.33e10, 1.02e9], [1.4831602, 0.5000025, 1.4692503]),
        ([2.0, 3.0, 4.0], [1.0498343, 0.6418513, 0.5218813]),
    ],
)
def test_golden_weights(frm, expected):
    weights = allocation_weights(frm)
    assert weights.dtype == torch.float64
    assert weights.tolist() == pytest.approx(expected, rel=1e-6)
    assert allocation_weights(torch.tensor(frm, dtype=torch.float32)).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ('gamma', 'lam', 'expected'),
    [
        (0.7, 6, {0: 1.4852, 0.25: 1.4370, 0.5: 1.2685, 0.7: 1.0, 1: 0.6419, 1.5: 0.5082, 2: 0.5004, 3: 0.5000}),
        (1, 10, {0: 1.49995, 0.25: 1.4994, 0.5: 1.4933, 0.7: 1.4526, 1: 1.0, 1.5: 0.5067, 2: 0.50005, 3: 0.5000}),
    ],
)
def test_weights_follow_the_share_of_the_mean(gamma, lam, expected):
    for share, k in expected.items():
        frm = 1e4 * torch.tensor([share, *[(4 - share) / 3] * 3], dtype=torch.float64)  # four modalities, mean 1e4
        assert allocation_weights(frm, gamma=gamma, lam=lam)[0].item() == pytest.approx(k, abs=6e-5)


@pytest.mark.parametrize('modalities', [2, 3, 5])
def test_a_larger_ratio_gets_a_smaller_weight_within_bounds(modalities):
    frm = torch.rand(modalities, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    weights = allocation_weights(frm, alpha=2, beta=1.5)
    assert torch.equal(frm.argsort(), weights.argsort(descending=True))
    assert ((weights >= 0.5) & (weights < 2)).all()
    assert torch.equal(allocation_weights(frm.flip(0), alpha=2, beta=1.5), weights.flip(0))


def test_equal_ratios_get_equal_weights_and_zeros_get_one():
    assert allocation_weights([5.0, 5.0, 5.0]).tolist() == pytest.approx([0.6418513] * 3, rel=1e-6)
    assert allocation_weights([5.0, 5.0], gamma=1).tolist() == pytest.approx([1.0, 1.0], rel=1e-6)
    assert allocation_weights([0.0, 0.0]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ('frm', 'arguments', 'match'),
    [
        ([1.0], {}, 'at least two modalities'),
        ([[1.0, 2.0]], {}, r'got shape \(1, 2\)'),
        ([1.0, -1.0], {}, r'not negative, got \[1\.0, -1\.0\]'),
        ([1.0, math.nan], {}, 'must be finite'),
        ([1.0, 2.0], {'alpha': 1.0}, r'alpha must be above beta = 1\.0, got 1\.0'),
        ([1.0, 2.0], {'beta': 0}, 'beta must be above 0, got 0'),
        ([1.0, 2.0], {'lam': -6}, 'lam must be above 0, got -6'),
        ([1.0, 2.0], {'sigma': 0}, 'sigma must be above 0, got 0'),
        ([1.0, 2.0], {'gamma': math.inf}, 'gamma must be finite'),
    ],
)
def test_bad_ratios_and_constants_are_refused(frm, arguments, match):
    with pytest.raises(InputError, match=match):
        allocation_weights(frm, **arguments)


# ---- the bank


@pytest.mark.parametrize(
    ('arguments', 'banks', 'weights'),
    [
        (
            {},
            [[2, 6, 1], [3, 4, 2], [2, 2.5, 5.5]],
            [
                [1.0498343, 0.5004096, 1.4002496],
                [0.6418513, 0.5218813, 1.0498343],
                [1.1456566, 0.9255578, 0.5033348],
            ],
        ),
        (
            {'compat': 'code', 'gamma': 1, 'lam': 10},
            [[7, 21, 3.5], [17.5, 17.5, 12.25], [12.25, 12.25, 37.625]],  # sums: `Fed` sums up seven terms
            [
                [0.5344455, 0.5000000, 1.4655550],
                [0.5004188, 1.2523369, 0.5344454],
                [1.4986680, 1.4986680, 0.5000000],
            ],
        ),
    ],
)
def test_golden_bank(tiny_host, arguments, banks, weights):
    plugin = Fed(**arguments)
    host = tiny_host(('a', 'b', 'c')).plug(plugin)
    for frm, bank, expected in zip([[2, 6, 1], [4, 2, 3], [1, 1, 9]], banks, weights):
        assert decide(plugin, host, frm).tolist() == pytest.approx(expected, rel=1e-6)
        assert plugin.bank.tolist() == pytest.approx(bank)
    assert plugin.updates.tolist() == [3, 3, 3]


def test_without_momentum_the_bank_is_the_last_ratio(tiny_host):
    plugin = Fed(momentum=0)
    host = tiny_host().plug(plugin)
    for frm in ([2.0, 6.0], [4.0, 1.0]):
        assert torch.equal(decide(plugin, host, frm), allocation_weights(frm))
        assert plugin.bank.tolist() == frm


def test_absent_modalities_keep_their_bank_and_their_weight_follows_it(tiny_host):
    plugin = Fed()
    host = tiny_host(('a', 'b', 'c')).plug(plugin)
    nan = math.nan
    assert decide(plugin, host, [2, nan, nan]).tolist() == [1, 1, 1]  # fewer than two have been seen
    k = decide(plugin, host, [4, 5, nan])
    assert k[2] == 1  # never seen
    assert k[:2].tolist() == pytest.approx(allocation_weights([3.0, 5.0]).tolist())
    before = plugin.bank.clone()
    k = decide(plugin, host, [nan, nan, 8.0])
    assert torch.equal(plugin.bank[:2], before[:2])
    torch.testing.assert_close(k, allocation_weights([3.0, 5.0, 8.0]))
    assert plugin.updates.tolist() == [2, 1, 1]
    assert plugin.failures.tolist() == [0, 0, 0]


def test_zeros_everywhere_leave_every_weight_at_one(tiny_host):
    plugin = Fed()
    assert decide(plugin, tiny_host().plug(plugin), [0.0, 0.0]).tolist() == [1, 1]


def test_what_is_not_finite_is_skipped_counted_and_told_once(tiny_host, tiny_batch):
    plugin = MWAM()
    host = tiny_host().plug(plugin)
    wrapper = build_optim_wrapper(host, SGD)
    step(host, tiny_batch(seed=1), wrapper)
    bank, k = plugin.bank.clone(), plugin.logged['K'][1]
    batch = tiny_batch(seed=2)
    batch['inputs']['depth'][3, 0, 5, 5] = math.inf
    plugin.on_inputs(host, host.make_batch(**batch))
    plugin.on_gradients(host, wrapper.optimizer)
    assert plugin.bank[1] == bank[1]
    assert plugin.bank[0] != bank[0]
    assert plugin.logged['K'][1].isfinite().all()
    assert not torch.equal(plugin.logged['K'][1], k)
    assert plugin.means.isfinite().all()
    with pytest.warns(UserWarning, match=re.escape("not finite, steps by modality: {'depth': 1}")):
        plugin.after_train_epoch(None)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        plugin.after_train_epoch(None)


# ---- measuring


def measured(plugin, host, batch):
    """The ratio of one batch, through `on_inputs`."""
    plugin.on_inputs(host, host.make_batch(**batch))
    total, plugin._window = plugin._window, None
    return plugin._decide(total)['F']


@pytest.mark.parametrize('rule', ['ratio', 'low', 'sum', 'weighted'])
def test_the_ratio_is_the_mean_over_the_samples_present(tiny_host, tiny_batch, rule):
    plugin = MWAM(rule=rule)
    host = tiny_host(channels=2).plug(plugin)
    batch = tiny_batch(channels=2, absent=[(0, 'depth'), (4, 'depth'), (5, 'rgb')])
    batch['inputs']['depth'][[0, 4]] = math.nan
    batch['inputs']['rgb'][5] = math.inf
    for i, (x, kept) in enumerate(zip(batch['inputs'].values(), ([0, 1, 2, 3, 4], [1, 2, 3, 5]))):
        expected = frequency_ratio(x[kept], rule=rule, guard=True) / (len(kept) * 2 * 6 * 4)
        torch.testing.assert_close(measured(plugin, host, batch)[i], expected, rtol=1e-12, atol=0)


def test_a_missing_key_is_an_absent_modality(tiny_host, tiny_batch):
    plugin = MWAM()
    host = tiny_host().plug(plugin)
    batch = tiny_batch(absent=[(b, 'depth') for b in range(6)])
    del batch['inputs']['depth']
    plugin.on_inputs(host, host.make_batch(**batch))
    assert plugin._window[:, 1].tolist() == [0, 0]
    assert plugin._window[1, 0] == 6 * 6 * 4


def test_copies_of_samples_or_channels_change_nothing(tiny_host, tiny_batch):
    plugin = MWAM()
    host = tiny_host().plug(plugin)
    batch = tiny_batch()
    plain = measured(plugin, host, batch)
    twice = {
        k: {m: torch.cat((x, x)) for m, x in v.items()} if k == 'inputs' else torch.cat((v, v))
        for k, v in batch.items()
    }
    torch.testing.assert_close(measured(plugin, host, twice), plain, rtol=1e-12, atol=0)
    grey = {**batch, 'inputs': {**batch['inputs'], 'rgb': batch['inputs']['rgb'].repeat(1, 3, 1, 1)}}
    torch.testing.assert_close(measured(plugin, host, grey), plain, rtol=1e-12, atol=0)


def test_it_sees_the_columns_of_the_host_in_the_hosts_order(tiny_host, tiny_batch):
    plugin = MWAM()
    host = tiny_host(('rgb', 'depth')).plug(plugin)
    batch = tiny_batch(('depth', 'ir', 'rgb'), absent=[(0, 'depth')])
    plugin.on_inputs(host, host.make_batch(**batch, modalities=('depth', 'ir', 'rgb')))
    assert plugin._window[1].tolist() == [6 * 24, 5 * 24]


def test_it_measures_before_other_plugins_change_the_inputs(tiny_host, tiny_batch):
    seen = []

    class Blind(Plugin):
        def on_inputs(self, host, batch):
            seen.append('blind')
            return batch.replace(inputs={m: torch.full_like(x, math.nan) for m, x in batch.inputs.items()})

    plugin = MWAM()
    host = tiny_host().plug(Blind(), plugin)
    host(**tiny_batch(), mode='loss')
    assert seen == ['blind']
    assert plugin._window.isfinite().all()


@pytest.mark.parametrize(('shape', 'error'), [((2, 1, 7, 24), InputError), ((2, 16), InputError)])
def test_inputs_that_can_not_be_measured_are_named(tiny_host, shape, error):
    plugin = MWAM()
    host = tiny_host().plug(plugin)
    batch = host.make_batch({'rgb': torch.zeros(2, 1, 16, 24), 'depth': torch.zeros(shape)})
    with pytest.raises(error, match="The input 'depth'"):
        plugin.on_inputs(host, batch)
    with pytest.raises(InputError, match=r"needs inputs of floating point; 'rgb' is torch\.uint8"):
        plugin.on_inputs(host, host.make_batch({'rgb': torch.zeros(2, 1, 16, 24, dtype=torch.uint8)}))


# ---- gradients and rates


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.05)])
def test_a_step_multiplies_the_clipped_gradients_of_the_branches_and_no_other(tiny_host, tiny_batch, clip):
    host, batch = tiny_host(), tiny_batch(absent=[(1, 'rgb')])
    grads = gradients(host, batch)
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in grads.values()]))
    if clip:
        assert norm > 2 * clip['max_norm']
        grads = {n: g * (clip['max_norm'] / (norm + 1e-6)) for n, g in grads.items()}
    plugin = MWAM()
    host.plug(plugin)
    before = weights_of(host)
    step(host, batch, build_optim_wrapper(host, dict(SGD, clip_grad=clip) if clip else SGD))
    k = dict(zip(host.modalities, plugin.logged['K'][1].float()))
    assert abs(k['rgb'] - k['depth']) > 0.01
    for name, after in weights_of(host).items():
        factor = next((k[m] for m in host.modalities if name.startswith(f'encoders.{m}.')), torch.tensor(1.0))
        expected = before[name] - 0.1 * (factor * grads[name])
        if clip:
            torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(after, before[name].add(factor * grads[name], alpha=-0.1)), name


def test_rates_equal_gradients_under_plain_sgd_and_are_put_back(tiny_host, tiny_batch):
    hosts = []
    for form in ('grad', 'lr'):
        host = tiny_host().plug(MWAM(apply=form))
        wrapper = build_optim_wrapper(host, dict(optimizer=dict(type='SGD', lr=0.1234567)))
        for seed in range(3):
            step(host, tiny_batch(seed=seed), wrapper)
        assert [g['lr'] for g in wrapper.optimizer.param_groups] == [0.1234567] * 3
        hosts.append(host)
    for a, b in zip(*(h.parameters() for h in hosts)):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_rates_are_put_back_when_the_step_fails(tiny_host, tiny_batch, monkeypatch):
    host = tiny_host().plug(MWAM(apply='lr'))
    wrapper = build_optim_wrapper(host, SGD)
    during = []

    def fail(group, *args):
        during.extend(g['lr'] for g in wrapper.optimizer.param_groups)
        raise RuntimeError('no step')

    monkeypatch.setattr(wrapper.optimizer, '_init_group', fail)
    with pytest.raises(RuntimeError, match='no step'):
        step(host, tiny_batch(), wrapper)
    assert during[0] != 0.1
    assert [g['lr'] for g in wrapper.optimizer.param_groups] == [0.1] * 3


def test_a_rate_that_is_a_tensor_is_scaled_and_put_back_in_place(tiny_host, tiny_batch):
    plugin = MWAM(apply='lr')
    host = tiny_host().plug(plugin)
    wrapper = build_optim_wrapper(host, dict(optimizer=dict(type='SGD', lr=torch.tensor(0.1), foreach=False)))
    rates = [g['lr'] for g in wrapper.optimizer.param_groups]
    grads, before = gradients(copy.deepcopy(host), tiny_batch()), weights_of(host)
    step(host, tiny_batch(), wrapper)
    assert all(g['lr'] is rate and rate == torch.tensor(0.1) for g, rate in zip(wrapper.optimizer.param_groups, rates))
    k = plugin.logged['K'][1]
    name = 'encoders.depth.1.weight'
    torch.testing.assert_close(host.encoders['depth'][1].weight, before[name] - 0.1 * k[1].float() * grads[name])


def test_rates_of_a_fused_optimiser_stay_where_they_were_computed(tiny_host, tiny_batch):
    """Any other one of torch's needs numbers, for which a GPU has to be waited for."""
    hosts, during = [], []
    for fused in (False, True):
        host = tiny_host().plug(MWAM(apply='lr'))
        wrapper = build_optim_wrapper(host, dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, fused=fused)))
        wrapper.optimizer.register_step_pre_hook(lambda optimizer, *_: during.append(optimizer.param_groups[0]['lr']))
        for seed in range(3):
            step(host, tiny_batch(seed=seed), wrapper)
        assert [g['lr'] for g in wrapper.optimizer.param_groups] == [0.1] * 3
        hosts.append(host)
    assert [isinstance(rate, torch.Tensor) for rate in during] == [False] * 3 + [True] * 3
    assert during[0] != 0.1
    for a, b in zip(*(h.parameters() for h in hosts)):
        torch.testing.assert_close(a, b)


def test_rates_need_groups_inside_one_branch(tiny_host, tiny_batch):
    plugin = MWAM(apply='lr')
    host = tiny_host().plug(plugin)
    host(**tiny_batch(), mode='loss')
    with pytest.raises(InputError, match=r'one group mixes .*rgb'):
        plugin.on_gradients(host, torch.optim.SGD(host.parameters(), lr=0.1))


def test_adaptive_optimisers_are_told_about_rates_once(tiny_host, tiny_batch):
    host = tiny_host().plug(MWAM())
    wrapper = build_optim_wrapper(host, dict(optimizer=dict(type='AdamW', lr=1e-3)))
    with pytest.warns(UserWarning, match=r"MWAM scales gradients, which AdamW .*apply='lr'"):
        step(host, tiny_batch(seed=1), wrapper)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        step(host, tiny_batch(seed=2), wrapper)


@pytest.mark.filterwarnings('ignore:StaticWeights scales gradients')
def test_under_adam_only_the_rate_form_slows_a_branch(tiny_host, tiny_batch):
    """Three steps of one sign: Adam divides the factor 0.5 out of gradients, the rate form keeps it."""
    moved = {}
    for form in ('plain', 'grad', 'lr'):
        host = tiny_host()
        start = host.encoders['rgb'][1].weight.detach().clone()
        if form != 'plain':
            host.plug(StaticWeights({'rgb': 0.5}, apply=form))
        wrapper = build_optim_wrapper(host, dict(optimizer=dict(type='Adam', lr=1e-4, eps=1e-12)))
        for _ in range(3):
            step(host, tiny_batch(), wrapper)
        moved[form] = (host.encoders['rgb'][1].weight.detach() - start).norm()
    assert moved['grad'] / moved['plain'] == pytest.approx(1, abs=0.01)
    assert moved['lr'] / moved['plain'] == pytest.approx(0.5, abs=0.01)


# ---- losses


def test_eq_7_weights_the_hosts_own_auxiliary_losses(tiny_host, tiny_batch):
    plain = tiny_host(aux_heads=True)
    host = copy.deepcopy(plain).plug(plugin := MWAM(mode='loss'))
    batch = tiny_batch(absent=[(0, 'rgb'), (2, 'depth')])
    expected = plain(**batch, mode='loss')
    losses = host(**batch, mode='loss')
    plugin.on_gradients(host, torch.optim.SGD(host.parameters(), lr=0.1))
    k = dict(zip(host.modalities, plugin.logged['K'][1].float()))
    assert losses.keys() == expected.keys()
    assert losses['loss_task'] == expected['loss_task']
    for m in host.modalities:
        assert losses[f'loss_aux_{m}'].dtype == torch.float32
        assert losses[f'loss_aux_{m}'] == k[m] * expected[f'loss_aux_{m}']
    total = expected['loss_task'] + sum(k[m] * expected[f'loss_aux_{m}'] for m in host.modalities)
    total.backward()
    sum(losses.values()).backward()
    for (name, a), b in zip(host.named_parameters(), plain.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7, msg=name)


def test_without_auxiliary_losses_each_share_of_the_head_gets_the_task_loss(tiny_host, tiny_batch):
    host = tiny_host().plug(plugin := MWAM(mode='loss'))
    batch = tiny_batch(absent=[(0, 'rgb'), (2, 'depth')])
    losses = host(**batch, mode='loss')
    plugin.on_gradients(host, torch.optim.SGD(host.parameters(), lr=0.1))
    k = plugin.logged['K'][1]
    full = host.make_batch(**batch)
    with torch.no_grad(), host.aside():
        logits = host.unimodal(host.run(full))
    for i, m in enumerate(host.modalities):
        rows = full.present[:, i]
        expected = nn.functional.cross_entropy(logits[m][rows], batch['target'][rows])
        torch.testing.assert_close(losses[f'loss_aux_{m}'], k[i].float() * expected)


def test_a_modality_that_no_sample_has_adds_a_zero_with_a_gradient_path(tiny_host, tiny_batch):
    host = tiny_host().plug(MWAM(mode='loss'))
    losses = host(**tiny_batch(absent=[(b, 'depth') for b in range(6)]), mode='loss')
    assert losses['loss_aux_depth'] == 0
    assert losses['loss_aux_depth'].requires_grad


def test_hybrid_weights_losses_and_gradients_with_the_same_factor(tiny_host, tiny_batch):
    batch = tiny_batch()
    by_loss = tiny_host(aux_heads=True).plug(MWAM(mode='loss'))
    grads, before = gradients(by_loss, batch), weights_of(by_loss)
    host = tiny_host(aux_heads=True).plug(plugin := MWAM(mode='hybrid'))
    step(host, batch, build_optim_wrapper(host, SGD))
    k = plugin.logged['K'][1].float()
    for name, after in weights_of(host).items():
        factor = next((k[i] for i, m in enumerate(host.modalities) if name.startswith(f'encoders.{m}.')), 1.0)
        torch.testing.assert_close(after, before[name] - 0.1 * factor * grads[name], rtol=1e-5, atol=1e-7)


# ---- windows


def test_two_micro_batches_make_the_step_of_the_double_batch(tiny_host, tiny_batch):
    whole = tiny_batch(size=8, absent=[(1, 'rgb'), (6, 'depth')])
    halves = [
        {k: {m: x[s] for m, x in v.items()} if k == 'inputs' else v[s] for k, v in whole.items()}
        for s in (slice(0, 4), slice(4, 8))
    ]
    single, double = tiny_host().plug(MWAM()), tiny_host().plug(MWAM())
    step(single, whole, build_optim_wrapper(single, SGD))
    wrapper = build_optim_wrapper(double, dict(SGD, accumulative_counts=2))
    wrapper.initialize_count_status(double, 0, 2)
    step(double, halves[0], wrapper)
    assert double.plugins['MWAM'].updates.tolist() == [0, 0]
    step(double, halves[1], wrapper)
    assert double.plugins['MWAM'].updates.tolist() == [1, 1]
    a, b = single.plugins['MWAM'], double.plugins['MWAM']
    torch.testing.assert_close(a.bank, b.bank, rtol=1e-12, atol=0)
    torch.testing.assert_close(a.logged['K'][1], b.logged['K'][1], rtol=1e-12, atol=0)
    for x, y in zip(single.parameters(), double.parameters()):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('mode', ['gradient', 'hybrid'])
def test_a_skipped_step_leaves_its_sums_to_the_next(tiny_host, tiny_batch, mode):
    host = tiny_host().plug(plugin := MWAM(mode=mode))
    first, second = tiny_batch(seed=1), tiny_batch(seed=2)
    host(**first, mode='loss')  # and the scaler found an overflow
    host(**second, mode='loss')
    plugin.on_gradients(host, torch.optim.SGD(host.parameters(), lr=0.1))
    for i, m in enumerate(host.modalities):
        both = torch.cat((first['inputs'][m], second['inputs'][m]))
        torch.testing.assert_close(plugin.bank[i], frequency_ratio(both, guard=True) / (12 * 24))


def test_losses_use_the_open_window_without_committing_it(tiny_host, tiny_batch):
    host = tiny_host(aux_heads=True).plug(plugin := MWAM(mode='loss'))
    plain = tiny_host(aux_heads=True)
    first, second = tiny_batch(seed=1), tiny_batch(seed=2)
    host(**first, mode='loss')
    losses, expected = host(**second, mode='loss'), plain(**second, mode='loss')
    assert not plugin.seen.any()
    frm = [frequency_ratio(torch.cat((first['inputs'][m], second['inputs'][m])), guard=True) for m in host.modalities]
    for k, m in zip(allocation_weights(torch.stack(frm) / 288), host.modalities):
        torch.testing.assert_close(losses[f'loss_aux_{m}'], k.float() * expected[f'loss_aux_{m}'])


def test_extra_passes_do_not_count(tiny_host, tiny_batch):
    host = tiny_host().plug(plugin := MWAM())
    batch = host.make_batch(**tiny_batch())
    host.run(batch)
    with host.aside():
        host.loss(batch)
    assert plugin._window is None


# ---- state


def test_a_resumed_run_continues_bit_for_bit(tiny_host, tiny_batch, tmp_path):
    def train(host, seeds):
        wrapper = build_optim_wrapper(host, SGD)
        for seed in seeds:
            step(host, tiny_batch(seed=seed, absent=[(seed, 'rgb')]), wrapper)
        return host

    straight = train(tiny_host().plug(MWAM()), range(4))
    torch.save(train(tiny_host().plug(MWAM()), range(2)).state_dict(), tmp_path / 'state.pth')
    resumed = tiny_host(seed=9).plug(MWAM())
    resumed.load_state_dict(torch.load(tmp_path / 'state.pth', weights_only=True))
    train(resumed, range(2, 4))
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, name
    assert torch.equal(straight.plugins['MWAM'].logged['K'][1], resumed.plugins['MWAM'].logged['K'][1])


def test_the_state_has_one_entry_for_each_modality(tiny_host):
    state = tiny_host(('a', 'b', 'c')).plug(MWAM()).plugins['MWAM'].state_dict()
    assert {k: (tuple(v.shape), v.dtype) for k, v in state.items() if k != '_extra_state'} == {
        'bank': ((3,), torch.float64),
        'seen': ((3,), torch.bool),
        'updates': ((3,), torch.int64),
        'means': ((3, 3), torch.float64),
    }
    assert state['_extra_state']['modalities'] == ['a', 'b', 'c']
    assert state['_extra_state']['arguments']['patch_size'] == 8


def test_state_follows_names_and_not_positions(tiny_host):
    saved = Fed()
    decide(saved, tiny_host(('a', 'b', 'c')).plug(saved), [2.0, math.nan, 9.0])
    state = copy.deepcopy(saved.state_dict())
    loaded = MWAM()
    tiny_host(('c', 'a', 'b')).plug(loaded)
    loaded.load_state_dict(state)
    assert loaded.bank.tolist() == [9, 2, 0]
    assert loaded.seen.tolist() == [True, True, False]
    assert loaded.updates.tolist() == [1, 1, 0]
    assert torch.equal(loaded.means, saved.means[:, [2, 0, 1]])
    other = MWAM()
    tiny_host(('a', 'b', 'd')).plug(other)
    with pytest.raises(InputError, match='saved for the modalities a, b, c, the host has a, b, d'):
        other.load_state_dict(state)


def test_a_bank_that_was_measured_otherwise_is_told(tiny_host):
    saved, loaded = MWAM(), MWAM(rule='low', gamma=1)
    tiny_host().plug(saved)
    tiny_host().plug(loaded)
    with pytest.warns(UserWarning, match="rule was 'ratio', is 'low'") as caught:
        loaded.load_state_dict(saved.state_dict())
    assert 'gamma' not in str(caught[0].message)


def test_means_are_over_the_steps_that_updated_a_modality(tiny_host):
    plugin = Fed()
    host = tiny_host().plug(plugin)
    ks = [decide(plugin, host, frm) for frm in ([2.0, 6.0], [4.0, math.nan], [1.0, 2.0])]
    torch.testing.assert_close(plugin.means[2], torch.tensor([7 / 3, 4.0], dtype=torch.float64))
    torch.testing.assert_close(plugin.means[0, 0], torch.stack(ks)[:, 0].mean())
    torch.testing.assert_close(plugin.means[0, 1], torch.stack(ks)[[0, 2], 1].mean())
    names = {'K', 'T', 'F', 'bank', 'K_mean', 'T_mean', 'F_mean'}
    assert {k: m for k, (m, _) in plugin.logged.items()} == dict.fromkeys(names, host.modalities)


def test_a_device_without_float64_gets_a_shorter_bank(tiny_host):
    plugin = Fed()
    host = tiny_host().plug(plugin)
    decide(plugin, host, [2.0, 6.0])

    def refuse_float64(x):
        if x.dtype == torch.float64:
            raise TypeError('no float64 here')
        return x

    plugin._apply(refuse_float64)
    assert plugin.bank.dtype == torch.float32
    assert decide(plugin, host, [4.0, 2.0]).tolist() == pytest.approx(allocation_weights([3.0, 4.0]).tolist())


# ---- when it acts, and where it fits


@pytest.mark.parametrize('mode', ['gradient', 'loss', 'hybrid'])
def test_in_eval_no_point_is_called_and_the_output_is_the_hosts(tiny_host, tiny_batch, mode, monkeypatch):
    plain, host = tiny_host().eval(), tiny_host().plug(MWAM(mode=mode)).eval()
    for point in ('on_inputs', 'on_features', 'on_losses', 'on_gradients'):
        monkeypatch.setattr(MWAM, point, lambda *args: pytest.fail('a plugin point was called'))
    batch = tiny_batch(absent=[(1, 'rgb')])
    assert torch.equal(host(**batch), plain(**batch))
    losses, expected = host(**batch, mode='loss'), plain(**batch, mode='loss')
    assert losses == expected
    host.on_gradients(torch.optim.SGD(host.parameters(), lr=0.1))


def test_a_parameter_in_two_branches_is_not_scaled(tiny_host, tiny_batch):
    class Shared(LateFusion):
        def branch(self, modality):
            return [*super().branch(modality), *self.head.parameters()]

    host, batch = tiny_host(), tiny_batch()
    grads = gradients(host, batch)
    host.__class__ = Shared
    host.plug(plugin := MWAM())
    sum(host(**batch, mode='loss').values()).backward()
    plugin.on_gradients(host, torch.optim.SGD(host.parameters(), lr=0.1))
    assert torch.equal(host.head.weight.grad, grads['head.weight'])
    assert not torch.equal(host.encoders['rgb'][1].weight.grad, grads['encoders.rgb.1.weight'])


def test_frozen_parameters_are_skipped(tiny_host, tiny_batch):
    host = tiny_host().plug(MWAM())
    host.encoders['rgb'].requires_grad_(False)
    step(host, tiny_batch(), build_optim_wrapper(host, SGD))
    assert host.encoders['rgb'][1].weight.grad is None


def test_a_branch_without_parameters_is_refused(tiny_host):
    host = tiny_host()
    host.encoders['depth'] = nn.Flatten()
    with pytest.raises(InputError, match=r'in the branch of depth .*Branches that have: rgb\.'):
        host.plug(MWAM())
    host.plug(MWAM(mode='loss'))  # which scales no branch


def test_a_host_with_one_modality_is_refused(tiny_host):
    with pytest.raises(InputError, match='needs at least 2 modalities'):
        tiny_host(('rgb',)).plug(MWAM())


@pytest.mark.parametrize('mode', ['loss', 'hybrid'])
def test_losses_need_unimodal_predictions(tiny_host, tiny_batch, mode, monkeypatch):
    with pytest.raises(InputError, match=r"needs 'unimodal', .* Hosts that can: .*LateFusion"):
        tiny_host(fusion='Gated').plug(MWAM(mode=mode))
    tiny_host(fusion='Gated').plug(MWAM())
    host = tiny_host().plug(MWAM(mode=mode))
    monkeypatch.setattr(host, 'unimodal', lambda outputs: None)
    with pytest.raises(InputError, match=f"mode='{mode}' needs unimodal predictions"):
        host(**tiny_batch(), mode='loss')


def test_two_plugins_that_scale_the_same_branches_are_told(tiny_host, tiny_batch):
    host, batch = tiny_host(), tiny_batch()
    grads = gradients(host, batch)
    with pytest.warns(UserWarning, match='MWAM and StaticWeights scale the same branches: their factors multiply'):
        host.plug(plugin := MWAM(), StaticWeights({'rgb': 0.5}))
    sum(host(**batch, mode='loss').values()).backward()
    host.on_gradients(torch.optim.SGD(host.parameters(), lr=0.1))
    expected = 0.5 * plugin.logged['K'][1][0].float() * grads['encoders.rgb.1.weight']
    torch.testing.assert_close(host.encoders['rgb'][1].weight.grad, expected)


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'patch_size': 1}, 'patch_size must be'),
        ({'block_size': 9}, 'block_size must be'),
        ({'sigma': -1}, 'sigma must be above 0, got -1'),
        ({'rule': 'lows'}, "Did you mean 'low'"),
        ({'momentum': 1}, r'momentum must be in \[0, 1\), got 1'),
        ({'momentum': -0.1}, 'momentum must be in'),
        ({'alpha': 0.9}, 'alpha must be above beta'),
        ({'lam': 0}, 'lam must be above 0'),
        ({'mode': 'gradients'}, "mode must be one of gradient, loss, hybrid, got 'gradients'. Did you mean 'gradient'"),
        ({'apply': 'rate'}, "apply must be one of grad, lr, got 'rate'"),
        ({'compat': 'codes'}, "Did you mean 'code'"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        MWAM(**arguments)


def test_it_is_built_by_name():
    plugin = PLUGINS.build(dict(type='MWAM', mode='hybrid', apply='lr'))
    assert (plugin.mode, plugin.form) == ('hybrid', 'lr')
    assert "apply='lr'" in repr(plugin)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
@pytest.mark.parametrize('mode', ['gradient', 'loss', 'hybrid'])
def test_a_step_on_cuda_does_not_synchronise(tiny_host, tiny_batch, mode):
    host = tiny_host(aux_heads=True).cuda().plug(plugin := MWAM(mode=mode))
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    batch = tiny_batch(absent=[(1, 'rgb'), (2, 'depth')])
    batch = {**batch, 'inputs': {m: x.cuda() for m, x in batch['inputs'].items()}, 'target': batch['target'].cuda()}
    batch = host.make_batch(**batch)
    outputs = host.run(batch)
    losses = host.losses(outputs, batch)
    torch.cuda.set_sync_debug_mode('error')
    try:
        plugin.on_inputs(host, batch)
        total = sum(plugin.on_losses(host, batch, outputs, losses).values())
        total.backward()
        plugin.on_gradients(host, optimizer)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert plugin.bank.isfinite().all()
