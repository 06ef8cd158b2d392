"""OGM-GE: coefficients by hand, scores, noise, and its window of epochs."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn

from plugins.ogm_ge import OGMGE, _modulation, modulation_coefficients
from registry import PLUGINS, InputError
from zoo.engine import build_optim_wrapper
from zoo.host import MultimodalHost
from zoo.hosts import LateFusion

SGD = dict(optimizer=dict(type='SGD', lr=0.1))


def step(host, batch, wrapper):
    """One training step through the optimiser wrapper."""
    wrapper.update_params(host.parse_losses(host(**batch, mode='loss'))[0])


def modified(host, batch, plugin):
    """Gradients before and after the plugin acted, by name."""
    host.zero_grad()
    sum(host(**batch, mode='loss').values()).backward()
    before = {n: p.grad.clone() for n, p in host.named_parameters()}
    plugin.on_gradients(host, torch.optim.SGD(host.parameters(), lr=0.1))
    return before, {n: p.grad.clone() for n, p in host.named_parameters()}


def scores_by_hand(host, batch):
    """Mean probability of the true class of each modality, from the split of the linear head."""
    scores = []
    with torch.no_grad():
        start = 0
        for i, m in enumerate(host.modalities):
            rows = batch['present'][:, i]
            features = host.encoders[m](batch['inputs'][m][rows])
            columns = slice(start, start + features.shape[1])
            logits = features @ host.head.weight[:, columns].T + host.head.bias / len(host.modalities)
            target = batch['target'][rows]
            scores.append(logits.softmax(1)[torch.arange(len(target)), target].mean())
            start += features.shape[1]
    return torch.stack(scores)


# ---- Eq. 10


@pytest.mark.parametrize(
    ('scores', 'alpha', 'expected'),
    [
        ([20, 10], 0.1, [0.8026247, 1]),
        ([10, 20], 0.8, [1, 0.0783314]),
        ([6, 3, 1.5], 0.1, [0.7394796, 1, 1]),
        ([3, 2], 0.3, [1 - math.tanh(0.45), 1]),
        ([4, 2, 2], 0.3, [1 - math.tanh(0.6), 1, 1]),
        ([2, 2], 0.3, [1, 1]),
        ([0.1, 0.1, 0.1], 0.3, [1, 1, 1]),
        ([0, 0], 0.3, [1, 1]),
        ([0.4, 0], 0.3, [0, 1]),
        ([0.4, 0, 0], 0.3, [0, 1, 1]),
        ([0.4, 0], 0, [1, 1]),
        ([5, 1, 4, 2], 0, [1, 1, 1, 1]),
    ],
)
def test_golden_coefficients(scores, alpha, expected):
    k = modulation_coefficients(scores, alpha)
    assert k.dtype == torch.float64
    assert k.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('modalities', [2, 3, 4, 6])
def test_only_those_above_the_mean_slow_down_and_more_the_further_they_lead(modalities):
    generator = torch.Generator().manual_seed(modalities)
    for _ in range(20):
        scores = torch.rand(modalities, dtype=torch.float64, generator=generator)
        k = modulation_coefficients(scores, 0.4)
        assert torch.equal(k < 1, scores > scores.mean())
        assert (k == 1).any()
        assert ((k >= 0) & (k <= 1)).all()
        assert torch.equal(k[scores.argsort()], k.sort(descending=True).values)
        torch.testing.assert_close(modulation_coefficients(scores.flip(0), 0.4), k.flip(0))
        torch.testing.assert_close(modulation_coefficients(17 * scores, 0.4), k)


def test_the_jump_just_above_a_tie_is_the_papers():
    k = modulation_coefficients([1 + 1e-12, 1], 0.8)
    assert k[0].item() == pytest.approx(1 - math.tanh(0.8), rel=1e-6)


def test_absent_modalities_stay_out_of_the_means():
    scores = torch.tensor([0.6, math.nan, 0.2], dtype=torch.float64)
    k, rho = _modulation(scores, torch.tensor([True, False, True]), 0.1)
    assert k.tolist() == pytest.approx([1 - math.tanh(0.3), 1, 1])
    assert rho[[0, 2]].tolist() == pytest.approx([3, 1 / 3])
    assert _modulation(scores, torch.tensor([True, False, False]), 0.1)[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ('scores', 'alpha', 'match'),
    [
        ([1.0], 0.3, 'at least two modalities'),
        ([[1.0, 2.0]], 0.3, r'\(1, 2\)'),
        ([1.0, -0.1], 0.3, r'not negative, got \[1\.0, -0\.1\]'),
        ([1.0, math.inf], 0.3, 'must be finite'),
        ([1.0, 2.0], -0.3, r'alpha must be finite and not negative, got -0\.3'),
        ([1.0, 2.0], math.nan, 'alpha must be finite'),
    ],
)
def test_bad_scores_are_refused(scores, alpha, match):
    with pytest.raises(InputError, match=match):
        modulation_coefficients(scores, alpha)


# ---- a step


def test_a_step_scores_the_split_head_over_the_samples_present(tiny_host, tiny_batch):
    host = tiny_host(('a', 'b', 'c')).plug(plugin := OGMGE(noise=False))
    batch = tiny_batch(('a', 'b', 'c'), absent=[(0, 'a'), (1, 'b'), (1, 'c'), (4, 'a')])
    batch['inputs']['a'][[0, 4]] = math.nan
    host(**batch, mode='loss')
    expected = scores_by_hand(host, batch)
    plugin.on_gradients(host, torch.optim.SGD(host.parameters(), lr=0.1))
    logged = {k: v for k, (_, v) in plugin.logged.items()}
    torch.testing.assert_close(logged['score'], expected)
    torch.testing.assert_close(logged['k'].double(), modulation_coefficients(expected, 0.3), rtol=1e-5, atol=0)
    torch.testing.assert_close(logged['rho'], expected * 2 / (expected.sum() - expected))


def test_only_weights_of_leading_branches_are_scaled(tiny_host, tiny_batch):
    host = tiny_host(('a', 'b', 'c')).plug(plugin := OGMGE(noise=False))
    before, after = modified(host, tiny_batch(('a', 'b', 'c')), plugin)
    k = dict(zip(host.modalities, plugin.logged['k'][1]))
    assert {bool(factor == 1) for factor in k.values()} == {True, False}
    for name, grad in after.items():
        branch = next((m for m in k if name.startswith(f'encoders.{m}.') and grad.ndim >= 2), None)
        assert torch.equal(grad, before[name] * k[branch] if branch else before[name]), name


def test_biases_are_scaled_too_on_demand(tiny_host, tiny_batch):
    host = tiny_host().plug(plugin := OGMGE(noise=False, min_ndim=1))
    before, after = modified(host, tiny_batch(), plugin)
    for m, k in zip(host.modalities, plugin.logged['k'][1]):
        assert torch.equal(after[f'encoders.{m}.1.bias'], k * before[f'encoders.{m}.1.bias'])


def test_a_modality_that_no_sample_has_keeps_its_gradients(tiny_host, tiny_batch):
    host = tiny_host(('a', 'b', 'c')).plug(plugin := OGMGE(noise=False))
    modified(host, tiny_batch(('a', 'b', 'c'), absent=[(i, 'b') for i in range(6)]), plugin)
    scores, k = plugin.logged['score'][1], plugin.logged['k'][1]
    assert k[1] == 1
    expected = modulation_coefficients(scores[[0, 2]], 0.3)
    torch.testing.assert_close(k[[0, 2]].double(), expected, rtol=1e-5, atol=0)


def test_the_mean_over_a_window_is_the_score_of_the_double_batch(tiny_host, tiny_batch):
    whole = tiny_batch(size=8, absent=[(1, 'rgb'), (6, 'depth'), (7, 'depth')])
    halves = [
        {k: {m: x[s] for m, x in v.items()} if k == 'inputs' else v[s] for k, v in whole.items()}
        for s in (slice(0, 4), slice(4, 8))
    ]
    single, double = tiny_host().plug(OGMGE(noise=False)), tiny_host().plug(OGMGE(noise=False))
    step(single, whole, build_optim_wrapper(single, SGD))
    wrapper = build_optim_wrapper(double, dict(SGD, accumulative_counts=2))
    wrapper.initialize_count_status(double, 0, 2)
    for half in halves:
        step(double, half, wrapper)
    torch.testing.assert_close(single.plugins['OGMGE'].logged['k'][1], double.plugins['OGMGE'].logged['k'][1])
    for a, b in zip(single.parameters(), double.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_scoring_leaves_norm_layers_and_random_states_alone(tiny_host, tiny_batch):
    host = tiny_host(aux_heads=True)
    for m, head in host.aux.items():
        host.aux[m] = nn.Sequential(nn.BatchNorm1d(head.in_features), nn.Dropout(0.5), head)
    plain = copy.deepcopy(host)
    host.plug(OGMGE())
    for each in (plain, host):
        torch.manual_seed(5)
        each(**tiny_batch(), mode='loss')
        each.drawn = torch.rand(3)
    assert torch.equal(host.drawn, plain.drawn)
    for (name, a), b in zip(plain.state_dict().items(), host.state_dict().values()):
        assert torch.equal(a, b), name


# ---- the noise


def test_noise_has_the_spread_of_the_unscaled_gradient_on_every_branch(tiny_host, tiny_batch):
    host = tiny_host(channels=3).plug(plugin := OGMGE(alpha=0.8))
    before, after = modified(host, tiny_batch(channels=3), plugin)
    k = plugin.logged['k'][1]
    assert (k < 1).sum() == 1
    for m, factor in zip(host.modalities, k):
        name = f'encoders.{m}.1.weight'
        assert before[name].numel() > 1e5
        noise = after[name] - factor * before[name]
        assert noise.std().item() == pytest.approx(before[name].std().item(), rel=0.03)
        assert abs(noise.mean()) < 0.02 * noise.std()
        assert torch.equal(after[f'encoders.{m}.1.bias'], before[f'encoders.{m}.1.bias'])
    assert torch.equal(after['head.weight'], before['head.weight'])


def test_noise_is_a_function_of_seed_and_iteration(tiny_host, tiny_batch):
    def noisy(seed=0, run_seed=3, iteration=7, rank=0, disturb=0):
        host = tiny_host().plug(plugin := OGMGE(seed=seed))
        host.clock.seed, host.clock.iteration, host.clock.rank = run_seed, iteration, rank
        torch.manual_seed(disturb)
        return modified(host, tiny_batch(), plugin)[1]['encoders.rgb.1.weight']

    reference = noisy()
    assert torch.equal(noisy(disturb=99), reference)
    assert torch.equal(noisy(rank=1), reference)  # gradients are exchanged already: all ranks add the same
    for other in (noisy(seed=1), noisy(run_seed=4), noisy(iteration=8)):
        assert not torch.equal(other, reference)


def test_noise_leaves_the_global_random_state_alone(tiny_host, tiny_batch):
    host = tiny_host().plug(plugin := OGMGE())
    state = torch.get_rng_state()
    modified(host, tiny_batch(), plugin)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_of_one_element_and_broken_ones_get_no_noise(tiny_host, tiny_batch):
    host = tiny_host().plug(plugin := OGMGE(min_ndim=0))
    host.encoders['rgb'].single = nn.Parameter(torch.ones(1))
    host(**tiny_batch(), mode='loss')
    for p in host.parameters():
        p.grad = torch.ones_like(p)
    host.encoders['rgb'][1].weight.grad[0, 0] = math.inf
    host.encoders['rgb'][1].bias.grad.zero_()
    plugin.on_gradients(host, torch.optim.SGD(host.parameters(), lr=0.1))
    k = plugin.logged['k'][1][0]
    assert torch.equal(host.encoders['rgb'].single.grad, k.expand(1))
    weight = host.encoders['rgb'][1].weight.grad.flatten()
    assert weight[0] == math.inf
    assert torch.equal(weight[1:], k.expand(len(weight) - 1))
    assert host.encoders['rgb'][1].bias.grad.std().item() == pytest.approx(1e-8, rel=0.3)


# ---- when it acts, and where it fits


@pytest.mark.parametrize(('epoch', 'acts'), [(0, False), (1, False), (2, True), (3, True), (4, False)])
def test_it_acts_from_the_first_to_the_last_epoch_both_included(tiny_host, tiny_batch, epoch, acts, monkeypatch):
    host = tiny_host().plug(plugin := OGMGE(start_epoch=2, end_epoch=3))
    host.clock.epoch = epoch
    scored = []
    monkeypatch.setattr(LateFusion, 'unimodal', _noting(LateFusion.unimodal, scored))
    before, after = modified(host, tiny_batch(), plugin)
    assert bool(scored) == acts
    assert any(not torch.equal(before[n], after[n]) for n in before) == acts
    assert bool(plugin.logged) == acts


def _noting(function, calls):
    def noted(*args):
        calls.append(args)
        return function(*args)

    return noted


def test_without_strength_and_noise_training_is_the_plain_one_bit_for_bit(tiny_host, tiny_batch):
    plain, host = tiny_host(), tiny_host().plug(OGMGE(alpha=0, noise=False))
    for each in (plain, host):
        wrapper = build_optim_wrapper(each, SGD)
        for seed in range(3):
            step(each, tiny_batch(seed=seed), wrapper)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), host.parameters()))


def test_rates_equal_gradients_under_plain_sgd(tiny_host, tiny_batch):
    hosts = [tiny_host().plug(OGMGE(noise=False, min_ndim=0, apply=form)) for form in ('grad', 'lr')]
    for host in hosts:
        wrapper = build_optim_wrapper(host, SGD)
        for seed in range(3):
            step(host, tiny_batch(seed=seed), wrapper)
        assert [g['lr'] for g in wrapper.optimizer.param_groups] == [0.1] * 3
    for a, b in zip(*(h.parameters() for h in hosts)):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_resumed_run_repeats_noise_and_factors(tiny_host, tiny_batch):
    def train(host, iterations):
        wrapper = build_optim_wrapper(host, SGD)
        for i in iterations:
            host.clock.iteration = i
            step(host, tiny_batch(seed=i), wrapper)
        return host

    straight = train(tiny_host().plug(OGMGE()), range(4))
    first = train(tiny_host().plug(OGMGE()), range(2))
    resumed = tiny_host(seed=9).plug(OGMGE())
    resumed.load_state_dict(first.state_dict())
    train(resumed, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters()))


def test_in_eval_no_point_is_called(tiny_host, tiny_batch, monkeypatch):
    host, plain = tiny_host().plug(OGMGE()).eval(), tiny_host().eval()
    for point in ('on_inputs', 'on_features', 'on_losses', 'on_gradients'):
        monkeypatch.setattr(OGMGE, point, lambda *args: pytest.fail('a plugin point was called'))
    assert torch.equal(host(**tiny_batch()), plain(**tiny_batch()))
    host(**tiny_batch(), mode='loss')


def test_adam_is_told_about_rates_once(tiny_host, tiny_batch):
    host = tiny_host().plug(OGMGE())
    wrapper = build_optim_wrapper(host, dict(optimizer=dict(type='Adam', lr=1e-3)))
    with pytest.warns(UserWarning, match='OGMGE scales gradients, which Adam'):
        step(host, tiny_batch(), wrapper)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        step(host, tiny_batch(), wrapper)


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'alpha': -1}, 'alpha must be finite and not negative, got -1'),
        ({'start_epoch': 5, 'end_epoch': 4}, 'from 0 to end_epoch = 4, got 5'),
        ({'start_epoch': -1}, 'start_epoch must be from 0'),
        ({'min_ndim': -1}, 'min_ndim must not be negative'),
        ({'apply': 'lr'}, "apply='lr' needs noise=False"),
        ({'apply': 'rates'}, "apply must be one of grad, lr, got 'rates'"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        OGMGE(**arguments)


def test_hosts_that_can_not_score_a_modality_are_refused(tiny_host, tiny_batch, monkeypatch):
    with pytest.raises(InputError, match="needs 'unimodal'"):
        tiny_host(fusion='Gated').plug(OGMGE())
    with pytest.raises(InputError, match='needs at least 2 modalities'):
        tiny_host(('rgb',)).plug(OGMGE())
    with pytest.raises(InputError, match='no parameters of its own'):
        tiny_host().plug(OGMGE(min_ndim=4))
    host = tiny_host().plug(OGMGE())
    monkeypatch.setattr(host, 'unimodal', lambda outputs: None)
    with pytest.raises(InputError, match='needs unimodal predictions'):
        host(**tiny_batch(), mode='loss')
    monkeypatch.setattr(LateFusion, 'true_class_probability', MultimodalHost.true_class_probability)
    with pytest.raises(InputError, match='needs a task with classes'):
        tiny_host().plug(OGMGE())


def test_it_is_built_by_name_alone():
    assert PLUGINS.build('OGMGE').alpha == 0.3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_a_step_on_cuda_does_not_synchronise(tiny_host, tiny_batch):
    host = tiny_host(aux_heads=True).cuda().plug(plugin := OGMGE())
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    batch = tiny_batch(absent=[(1, 'rgb'), (2, 'depth')])
    batch = {**batch, 'inputs': {m: x.cuda() for m, x in batch['inputs'].items()}, 'target': batch['target'].cuda()}
    batch = host.make_batch(**batch)
    outputs = host.run(batch)
    losses = host.losses(outputs, batch)
    sum(losses.values()).backward()
    torch.cuda.set_sync_debug_mode('error')
    try:
        plugin.on_losses(host, batch, outputs, losses)
        plugin.on_gradients(host, optimizer)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert host.encoders['rgb'][1].weight.grad.isfinite().all()
