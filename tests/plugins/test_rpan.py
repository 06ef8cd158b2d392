"""Random filters and attention noise: how much is random, what stays, and when it is drawn."""

import copy
from fractions import Fraction

import pytest
import torch
from torch import nn

from plugins import RPAN, AdversarialTraining
from plugins.attention_noise import AttentionNoise
from plugins.random_filters import RandomFilters, random_count
from plugins.rpan import BranchNorm
from registry import InputError, NameNotFound, PluginWarning
from zoo.blocks import MSGDC, Site
from zoo.engine import build_optim_wrapper
from zoo.engine.checkpoint import load_weights
from zoo.engine.ema import WarmupEMA
from zoo.hosts import MAIL, LateFusion

QUIET = {'noise_std': 0.0, 'noise_mode': 'add'}
WEAK = {'type': 'PGD', 'eps': 0.1, 'steps': 1, 'bounds': None}


def mail(seed=0):
    torch.manual_seed(seed)
    encoder = {'type': 'ERLAEncoder', 'depths': (1, 1), 'widths': (8, 16), 'stem_width': 8}
    return MAIL(('rgb', 'depth'), 4, encoder, {'rgb': 3, 'depth': 1})


def late(seed=0):
    torch.manual_seed(seed)
    return LateFusion(('rgb', 'depth'), 4, 'test_resnet', {'rgb': 3, 'depth': 1})


def data(size=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    inputs = {m: torch.randn(size, c, 32, 48, generator=generator) for m, c in (('rgb', 3), ('depth', 1))}
    return {'inputs': inputs, 'target': torch.arange(size) % 4}


def predict(host):
    with torch.no_grad():
        return host.eval()(data()['inputs'])


def step(host, optimizer=None):
    optimizer = optimizer or build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 0.1}})
    return host.train().train_step(data(), optimizer)


def rounded(share):
    return int(Fraction(share) + Fraction(1, 2))


@pytest.mark.parametrize('ratio', [0.25, 0.75, 1.0])
def test_a_share_of_the_filters_of_every_group_is_random(ratio):
    plain, host = mail(), mail()
    before = sum(p.numel() for p in plain.parameters())
    plugin = RPAN(ratio, **QUIET)
    host.plug(plugin)
    converted = {k: m for k, m in host.named_modules() if isinstance(m, RandomFilters)}
    assert len(converted) == sum(3 for m in plain.modules() if isinstance(m, MSGDC))
    removed = 0
    for name, filters in converted.items():
        conv = plain.get_submodule(name)
        groups = 1 if conv.groups == conv.in_channels == conv.out_channels else conv.groups
        count = groups * rounded(Fraction(ratio) * (conv.out_channels // groups))
        assert len(filters.before) == random_count(conv, ratio) == count
        removed += count * conv.weight[0].numel()
    added = sum(m.channels for m in plain.modules() if isinstance(m, Site))
    added += sum(p.numel() for m in host.modules() if isinstance(m, BranchNorm) for p in m.parameters())
    assert sum(p.numel() for p in host.parameters()) == before - removed + added
    assert predict(host).shape == predict(plain).shape


def test_the_random_filters_sit_in_every_group_and_behind_the_learnt_ones():
    conv = nn.Conv2d(8, 16, 1, groups=4)
    filters = RandomFilters(conv, random_count(conv, 0.5), lambda f: torch.full_like(f.before, 7.0))
    x = torch.rand(2, 8, 3, 5)
    with torch.no_grad():
        found, expected = filters(x), conv(x)
    for group in range(4):
        learnt, random = found[:, 4 * group : 4 * group + 2], found[:, 4 * group + 2 : 4 * group + 4]
        torch.testing.assert_close(learnt, expected[:, 4 * group : 4 * group + 2])
        total = 7 * x[:, 2 * group : 2 * group + 2].sum(1, keepdim=True)
        torch.testing.assert_close(random, total + conv.bias[4 * group + 2 : 4 * group + 4, None, None])


@pytest.mark.parametrize('side', [1, 3, 5])
def test_random_filters_have_the_deviation_of_one_over_their_side(side):
    host = late()
    host.encoders['extra'] = conv = nn.Conv2d(64, 256, side, padding=side // 2)
    plugin = RPAN(0.5, targets=['encoders.extra'])
    plugin.convert(host)
    drawn = plugin.kernels
    assert drawn.numel() == conv.weight.numel() // 2
    assert drawn.std() == pytest.approx(1 / side, rel=0.05)
    assert drawn.mean() == pytest.approx(0, abs=0.02)


def test_learnt_filters_are_scaled_to_the_random_ones_where_that_is_wanted():
    conv = nn.Conv2d(8, 8, 3, bias=False)
    filters = RandomFilters(conv, 4, lambda f: torch.zeros_like(f.before), match_scale=True)
    x = torch.rand(1, 8, 6, 7)
    weight = conv.weight[:4] / conv.weight[:4].flatten(1).std(1).view(4, 1, 1, 1) / 3
    torch.testing.assert_close(filters(x)[:, :4], nn.functional.conv2d(x, weight))


def test_random_filters_are_buffers_that_no_step_changes():
    host = mail().plug(plugin := RPAN(resample='forward'))
    before = plugin.kernels.clone()
    assert not {id(plugin.kernels)} & {id(p) for p in host.parameters()}
    assert 'plugins.RPAN.kernels' in dict(host.named_buffers())
    old = [f.before.clone() for f in plugin.filters]
    learnt = [f.weight.detach().clone() for f in plugin.filters]
    step(host)
    assert torch.equal(plugin.kernels, before)
    assert all(torch.equal(a, f.before) for a, f in zip(old, plugin.filters))
    assert not any(torch.equal(a, f.weight) for a, f in zip(learnt, plugin.filters))


@pytest.mark.parametrize('make', [mail, late])
def test_without_ratio_and_noise_nothing_changes(make):
    plain, host = make(), make().plug(RPAN(0.0, **QUIET))
    torch.testing.assert_close(predict(host), predict(plain), rtol=0, atol=0)
    assert not any(isinstance(m, (RandomFilters, BranchNorm)) for m in host.modules())


@pytest.mark.parametrize('make', [mail, late])
def test_what_was_converted_can_be_reverted_and_keeps_its_keys(make):
    plain, host = make(), make()
    plugin = RPAN()
    host.plug(plugin)
    keys = {k for k in host.state_dict() if not k.startswith('plugins.')}
    assert keys == set(plain.state_dict())
    own = {k: v for k, v in host.state_dict().items() if not k.startswith('plugins.')}
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in own.items())
    plugin.revert(host)
    assert host.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in host.state_dict().items())
    assert [type(m) for m in host.modules()] == [type(m) for m in plain.modules()]
    assert {k: p.shape for k, p in host.named_parameters()} == {k: p.shape for k, p in plain.named_parameters()}
    torch.testing.assert_close(predict(host), predict(plain), rtol=0, atol=0)
    host.plug(RPAN())  # and again


def test_a_checkpoint_of_the_plain_host_fits_the_converted_one_and_the_other_way_round():
    plain, host = mail(3), mail().plug(RPAN())
    with pytest.warns(PluginWarning, match='was trained without RPAN'):
        load_weights(host, {'state_dict': plain.state_dict()}, 'clean.pth')
    first = host.plugins['RPAN'].filters[0]
    assert any(torch.equal(first.restored().weight, m.weight) for m in plain.modules() if isinstance(m, nn.Conv2d))
    other = mail()
    load_weights(other, {'state_dict': host.state_dict()}, 'robust.pth')
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in other.state_dict().items())


def test_a_state_dict_brings_the_whole_network_back():
    host, other = mail().plug(RPAN()), mail(1).plug(RPAN())
    for _ in range(2):
        step(host)
    host.clock.iteration = 1
    step(host)
    other.load_state_dict(copy.deepcopy(host.state_dict()))
    found = []
    for h in (host, other):
        torch.manual_seed(5)
        found.append(predict(h))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    with pytest.raises(InputError, match='has other places'):
        other.plugins['RPAN'].set_extra_state({})


def test_a_copy_of_the_host_draws_for_itself():
    host = late().plug(plugin := RPAN())
    twin = copy.deepcopy(host)
    before = predict(host)
    twin.plugins['RPAN'].resample(twin, 'attack')
    torch.testing.assert_close(predict(host), before, rtol=0, atol=0)
    assert not torch.equal(predict(twin), before)
    assert twin.plugins['RPAN'].filters[0] is not plugin.filters[0]


def test_a_moving_average_of_the_weights_keeps_a_draw_whole():
    host = mail().plug(RPAN())
    average = WarmupEMA(host, momentum=0.5, gamma=1e-9)
    old = average.module.plugins['RPAN'].filters[0].weight.detach().clone()
    for i in range(3):
        host.clock.iteration = i
        step(host)
    average.update_parameters(host)
    copied = average.module.plugins['RPAN']
    assert torch.equal(copied.kernels, host.plugins['RPAN'].kernels)
    torch.testing.assert_close(copied.filters[0].weight, (old + host.plugins['RPAN'].filters[0].weight) / 2)


# ---- when filters and noise are drawn


def test_in_phases_filters_stay_until_they_are_drawn_anew():
    host = late().plug(plugin := RPAN())
    first = predict(host)
    torch.testing.assert_close(predict(host), first, rtol=0, atol=0)
    plugin.resample(host, 'attack')
    second = predict(host)
    assert not torch.equal(second, first)
    plugin.resample(host, 'inference')
    assert not torch.equal(predict(host), second)
    plugin.resample(host, 'attack')
    torch.testing.assert_close(predict(host), second, rtol=0, atol=0)  # of the same iteration


def test_in_forward_mode_each_call_has_its_own():
    host = late().plug(RPAN(resample='forward'))
    assert not torch.equal(predict(host), predict(host))


@pytest.mark.parametrize('resample', ['phase', 'forward'])
def test_a_fresh_draw_is_one_network_and_leaves_no_trace(resample):
    host = mail().plug(plugin := RPAN(0.5, resample=resample, **QUIET))
    kept = plugin.kernels.clone()
    found = []
    for _ in range(2):
        with plugin.fresh_draw():
            found.append(predict(host))
            torch.testing.assert_close(predict(host), found[-1], rtol=0, atol=0)
    assert not torch.equal(*found)
    assert torch.equal(plugin.kernels, kept)
    assert torch.equal(predict(host), predict(host)) == (resample == 'phase')


@pytest.mark.parametrize('resample', ['phase', 'forward'])
def test_a_frozen_network_is_one_draw(resample):
    host = mail().plug(plugin := RPAN(resample=resample))
    assert not torch.equal(predict(host), predict(host))  # noise
    kept = plugin.kernels.clone()
    with plugin.frozen(3):
        first = predict(host)
        torch.testing.assert_close(predict(host), first, rtol=0, atol=0)
        with torch.no_grad():
            one = host({m: x[2:3] for m, x in data()['inputs'].items()})
        torch.testing.assert_close(one, first[2:3], rtol=1e-4, atol=1e-5)
    with plugin.frozen(4):
        assert not torch.equal(predict(host), first)
    assert torch.equal(plugin.kernels, kept)


@pytest.mark.parametrize(('attacked', 'phases'), [(True, ['attack', 'inference']), (False, ['inference'])])
@pytest.mark.parametrize('first', [True, False])
def test_filters_are_drawn_twice_in_a_batch_of_adversarial_training_and_else_once(attacked, phases, first, monkeypatch):
    called = []
    draw = RPAN.resample

    def counted(self, host, phase):
        called.append(phase)
        draw(self, host, phase)

    monkeypatch.setattr(RPAN, 'resample', counted)
    plugins = [RPAN(), *([AdversarialTraining(WEAK)] if attacked else [])]
    host = late().plug(*(plugins if first else reversed(plugins)))
    step(host)
    assert called == phases


def test_the_noise_has_the_moments_of_its_formula():
    site = AttentionNoise(64, 0.6, 'mul', False, lambda noise, shape, x: torch.randn(shape))
    noise = site.noise(torch.zeros(4000, 64)).detach()
    assert noise.mean() == pytest.approx(0.36, abs=0.01)
    assert noise.var() == pytest.approx(0.36 + 2 * 0.36**2, rel=0.03)
    assert noise.min() >= -0.25
    assert (noise < 0).float().mean() == pytest.approx(0.45, abs=0.01)
    x = torch.rand(2, 64, 3, 5)
    assert site.noise(x).shape == (2, 64, 1, 1)
    site.spatial = True
    assert site.noise(x).shape == x.shape


@pytest.mark.parametrize(
    ('mode', 'expected'),
    [('mul', lambda x, n: x * n), ('add', lambda x, n: x + n), ('mul_residual', lambda x, n: x + x * n)],
)
def test_noise_acts_as_its_mode_says(mode, expected):
    site = AttentionNoise(3, 0.5, mode, False, lambda noise, shape, x: torch.ones(shape))
    with torch.no_grad():
        site.delta.copy_(torch.tensor([0.0, 1.0, 2.0]))
    noise = site.delta * 0.5 * 1.5
    x = torch.randn(2, 3, 4, 5).bfloat16()
    torch.testing.assert_close(site(x), expected(x.float(), noise.view(3, 1, 1)).bfloat16())


def test_multiplied_noise_of_no_strength_opens_every_gate_half():
    host = mail().plug(RPAN(noise_mode='mul'))
    for module in host.plugins['RPAN'].inserted.values():
        if isinstance(module, AttentionNoise):
            nn.init.zeros_(module.delta)
    gate = next(m for m in host.modules() if hasattr(m, 'gate') and hasattr(m, 'describe'))
    assert (gate.gate(torch.randn(2, gate.site.channels, 3, 4)) == 0.5).all()


# ---- training


def test_learnt_filters_and_noise_have_a_decay_of_their_own():
    host = mail().plug(plugin := RPAN(weight_decay=0.01))
    wrapper = build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 0.1, 'weight_decay': 0.3}})
    own = {f.weight for f in plugin.filters} | {m.delta for m in host.modules() if isinstance(m, AttentionNoise)}
    groups = wrapper.optimizer.param_groups
    assert {p for g in groups if g['weight_decay'] == 0.01 for p in g['params']} == own
    assert {p for g in groups if g['weight_decay'] == 0.3 for p in g['params']} == set(host.parameters()) - own
    assert {g['branch'] for g in groups} == {'rgb', 'depth', None}
    host = mail().plug(RPAN(weight_decay=None))
    wrapper = build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 0.1, 'weight_decay': 0.3}})
    assert {g['weight_decay'] for g in wrapper.optimizer.param_groups} == {0.3}


def test_draws_are_the_same_on_every_rank():
    hosts = [late().plug(RPAN()) for _ in range(2)]
    hosts[1].clock.rank = 1
    for host in hosts:
        host.plugins['RPAN'].resample(host, 'attack')
    assert torch.equal(hosts[0].plugins['RPAN'].kernels, hosts[1].plugins['RPAN'].kernels)


def test_it_trains_in_autocast_with_adversarial_training():
    host = mail().plug(RPAN(), AdversarialTraining(WEAK))
    optimizer = build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 0.01}, 'dtype': 'bfloat16'})
    losses = step(host, optimizer)
    assert all(v.isfinite() for v in losses.values())
    assert host.plugins['RPAN'].logged['delta'][1] == 1
    assert 'one draw' in host.plugins['RPAN'].settings['noise']


def test_rows_without_a_modality_do_not_count_in_the_norms_of_branches():
    found = []
    for absent in (0, 5):
        fusion = mail().plug(RPAN(0.5, **QUIET)).train().exchanges[0]
        generator = torch.Generator().manual_seed(0)
        x = {m: torch.randn(3, 8, 6, 8, generator=generator) for m in fusion.modalities}
        x = {m: torch.cat([y, torch.full((absent, 8, 6, 8), torch.nan)]) for m, y in x.items()}
        refined = fusion.forward_each(x, (torch.arange(3 + absent) < 3)[:, None].repeat(1, 2))
        norms = [m for m in fusion.modules() if isinstance(m, BranchNorm)]
        assert len(norms) == 6
        found.append([*(y[:3] for y in refined.values()), *(b for n in norms for b in n.buffers())])
    for alone, among in zip(*found):
        torch.testing.assert_close(among, alone)


def test_a_batch_of_one_whose_last_maps_have_one_place_trains():
    host = mail().plug(RPAN()).train()
    inputs = {m: x[:1, :, :8, :8] for m, x in data()['inputs'].items()}
    norm = next(m for m in host.exchanges[-1].modules() if isinstance(m, BranchNorm))
    kept = norm.running_mean.clone()
    loss = host(inputs, target=torch.tensor([1]), mode='loss')['loss_task']
    loss.backward()
    assert loss.isfinite()
    assert torch.equal(norm.running_mean, kept)


# ---- mistakes


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'ratio': 1.5}, 'ratio must be in [0, 1], got 1.5'),
        ({'noise_std': -1}, 'noise_std must be a finite number of at least 0, got -1'),
        ({'weight_decay': -1}, 'weight_decay must be'),
        ({'noise_mode': 'multiply'}, "named 'multiply'"),
        ({'resample': 'phases'}, "Did you mean 'phase'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises((InputError, NameNotFound)) as error:
        RPAN(**arguments)
    assert message in str(error.value)


def test_a_share_that_makes_no_filter_random_is_warned_about():
    with pytest.warns(PluginWarning, match='a ratio of 0.01 makes no filter random'):
        mail().plug(RPAN(0.01))


def test_a_host_without_targets_and_one_that_is_converted_are_refused():
    with pytest.raises(InputError, match=r'RPAN found no convolution .* LateFusion: none named nothing\.\*'):
        late().plug(RPAN(targets=['nothing.*']))
    host = late().plug(RPAN())
    with pytest.raises(InputError, match='has random filters or noise of again already'):
        host.plug(RPAN(name='again'))
