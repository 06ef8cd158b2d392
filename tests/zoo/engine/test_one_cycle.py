"""OneCycle is torch's OneCycleLR, momentum included, whatever the parameter groups, plugins and interruptions."""

import copy
import warnings

import mmengine.optim  # noqa: F401  registers its schedulers
import pytest
import torch

import zoo
from plugins import StaticWeights
from registry import PARAM_SCHEDULERS, InputError
from zoo.engine import build_optim_wrapper, load_config, one_cycle
from zoo.engine.checkpoint import plain

NYUV2 = dict(type='OneCycle', pct_start=0.1, div_factor=25, final_div_factor=1e4, momentum=(0.85, 0.95), end=300)
SGD = dict(type='SGD', lr=0.01, momentum=0.9, nesterov=True)


def make(optimizer=SGD, scheduler=NYUV2, plugins=()):
    torch.manual_seed(0)
    host = zoo.create_host('late_fusion', modalities=['a', 'b'], num_classes=3, encoder='test_resnet')
    host.plug(*plugins)
    wrapper = build_optim_wrapper(host, {'optimizer': optimizer})
    return host, wrapper, PARAM_SCHEDULERS.build({**scheduler}, default_args=dict(optimizer=wrapper, epoch_length=4))


def epoch(wrapper, scheduler):
    """What the step of an epoch uses, read in it, before plugins act; then the scheduler's turn."""
    for group in wrapper.param_groups:
        for p in group['params']:
            p.grad = torch.zeros_like(p)
    wrapper.step()
    groups = wrapper.optimizer.param_groups
    read = [(g['lr'], g['betas'][0] if 'betas' in g else g['momentum']) for g in groups]
    scheduler.step()
    return read


def torchs(total, optimizer=torch.optim.SGD, **arguments):
    """(rate, momentum) at each step, of torch's own scheduler."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    kinds = dict(momentum=0.9, nesterov=True) if optimizer is torch.optim.SGD else {}
    optimizer = optimizer([parameter], lr=1.0, **kinds)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=total, **arguments)
    values = []
    for step in range(total):
        (group,) = optimizer.param_groups
        values.append((group['lr'], group['betas'][0] if 'betas' in group else group['momentum']))
        optimizer.step()
        if step + 1 < total:
            scheduler.step()
    return values


@pytest.mark.parametrize(
    'plugins', [(), (StaticWeights({'a': 1.7, 'b': 0.2}, apply='lr'),)], ids=['plain', 'a plugin scales rates']
)
def test_the_recipe_of_nyuv2_is_that_of_torch_in_all_300_epochs_and_groups(plugins):
    _, wrapper, scheduler = make(plugins=plugins)
    assert [g['branch'] for g in wrapper.optimizer.param_groups] == ['a', 'b', None]
    seen = [epoch(wrapper, scheduler) for _ in range(300)]
    expected = torchs(300, pct_start=0.1, div_factor=25, final_div_factor=1e4)
    assert seen == [[pair] * 3 for pair in expected]
    golden = {0: (4e-4, 0.95), 29: (0.01, 0.85), 150: (5.8109e-3, 0.891892), 299: (4e-8, 0.95)}
    for at, pair in golden.items():
        assert seen[at][0] == pytest.approx(pair, rel=1e-5)


def test_a_plugin_scales_the_rate_of_the_schedule_within_the_step():
    host, wrapper, scheduler = make(plugins=[StaticWeights({'a': 2.0, 'b': 0.5}, apply='lr')])
    used = []
    wrapper.optimizer.register_step_pre_hook(lambda o, *_: used.append([g['lr'] for g in o.param_groups]))
    for _ in range(3):
        epoch(wrapper, scheduler)
    for (a, b, rest), (rate, _) in zip(used, torchs(300, pct_start=0.1)):
        assert (a, b, rest) == (2 * rate, rate / 2, rate)
    assert host.plugins


@pytest.mark.parametrize('cut', [12, 29, 30, 150])
def test_it_goes_on_where_it_stopped(cut):
    _, wrapper, scheduler = make()
    whole = [epoch(wrapper, scheduler) for _ in range(300)]
    _, wrapper, scheduler = make()
    for _ in range(cut):
        epoch(wrapper, scheduler)
    saved = plain(copy.deepcopy({'optimizer': wrapper.state_dict(), 'scheduler': scheduler.state_dict()}))
    _, wrapper, scheduler = make()
    wrapper.load_state_dict(saved['optimizer'])
    scheduler.load_state_dict(saved['scheduler'])
    assert [epoch(wrapper, scheduler) for _ in range(cut, 300)] == whole[cut:]


@pytest.mark.parametrize('total', [2, 7, 40])
@pytest.mark.parametrize('pct_start', [0.0, 0.3, 0.55, 1.0])  # pct_start * total = 1 divides by zero in torch
def test_any_length_and_turning_point(total, pct_start):
    _, wrapper, scheduler = make(scheduler={**NYUV2, 'pct_start': pct_start, 'end': total})
    seen = [epoch(wrapper, scheduler)[0] for _ in range(total)]
    assert seen == torchs(total, pct_start=pct_start)


def test_a_rise_of_one_step_begins_at_the_peak():
    assert [one_cycle(s, 10, 0.1, 1.0, 0.01, 0.1) for s in (0, 9)] == pytest.approx([1.0, 0.01])


def test_the_first_beta_of_adam_is_its_momentum():
    _, wrapper, scheduler = make(dict(type='AdamW', lr=0.01, betas=(0.9, 0.99)), {**NYUV2, 'end': 20})
    seen = [epoch(wrapper, scheduler)[0] for _ in range(20)]
    assert seen == torchs(20, torch.optim.AdamW, pct_start=0.1)
    assert all(g['betas'][1] == 0.99 for g in wrapper.param_groups)


def test_the_momentum_can_be_left_alone():
    _, wrapper, scheduler = make(scheduler={**NYUV2, 'momentum': None, 'end': 20})
    seen = [epoch(wrapper, scheduler)[0] for _ in range(20)]
    assert [m for _, m in seen] == [0.9] * 20
    assert [r for r, _ in seen] == [r for r, _ in torchs(20, pct_start=0.1)]


def test_the_last_values_stay():
    _, wrapper, scheduler = make(scheduler={**NYUV2, 'total_steps': 12, 'end': 20})
    seen = [epoch(wrapper, scheduler)[0] for _ in range(20)]
    assert seen[:12] == torchs(12, pct_start=0.1)
    assert seen[12:] == seen[11:12] * 8


@pytest.mark.parametrize('length', [{'end': 5}, {'total_steps': 5, 'end': 9}])
def test_it_can_be_stepped_by_iteration(length):
    _, wrapper, scheduler = make(scheduler={**NYUV2, **length, 'convert_to_iter_based': True})
    assert not scheduler.by_epoch
    assert [epoch(wrapper, scheduler)[0] for _ in range(20)] == torchs(20, pct_start=0.1)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(pct_start=1.1), r'pct_start of OneCycle must be in \[0, 1\], got 1\.1'),
        (dict(total_steps=0), 'total_steps of OneCycle must be a whole number from 1, got 0'),
        (dict(total_steps=2.5), 'whole number from 1, got 2.5'),
        (dict(div_factor=0), 'must be positive, got 0 and 10000'),
        (dict(momentum=0.9), r'\(least, greatest\) in \[0, 1\), got 0\.9'),
        (dict(momentum=(0.95, 0.85)), r'\(least, greatest\) in \[0, 1\)'),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        make(scheduler={**NYUV2, **arguments})


def test_an_optimiser_without_momentum():
    with pytest.raises(InputError, match='no momentum for OneCycle to change: give it momentum=None'):
        make(dict(type='Adagrad', lr=0.01))


def test_the_shipped_schedule_is_the_one_tested_here():
    cfg = load_config('configs/_base_/schedules/sgd_onecycle_nyuv2.py')
    assert {**cfg.param_scheduler, 'end': cfg.train_cfg.max_epochs} == {**NYUV2}
    assert {k: cfg.optim_wrapper.optimizer[k] for k in SGD} == SGD
    assert cfg.optim_wrapper.optimizer.weight_decay == 1e-4


def test_nothing_warns_about_the_order_of_steps():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        _, wrapper, scheduler = make()
        epoch(wrapper, scheduler)
