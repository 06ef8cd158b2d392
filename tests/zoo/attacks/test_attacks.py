"""What all attacks keep: their budget, the range, and a host without traces; and what each is by itself."""

from itertools import pairwise

import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from plugins import Plugin
from registry import ATTACKS, InputError, NameNotFound, PluginWarning
from zoo.attacks import APGD, BIM, FAB, FGSM, MIM, PGD, AutoAttack, Square
from zoo.attacks.fab import project_onto_plane
from zoo.hosts import LateFusion

EPS = 0.1
SHORT = {
    'APGD': {'steps': 8},
    'AutoAttack': {
        'options': {'apgd-ce': {'steps': 4}, 'apgd-t': {'steps': 3}, 'fab-t': {'steps': 3}, 'square': {'queries': 9}}
    },
    'FAB': {'steps': 5},
    'Square': {'queries': 30},
}
every_attack = pytest.mark.parametrize('name', sorted(ATTACKS.module_dict))


def build(name, **arguments):
    return ATTACKS.build({'type': name, 'eps': EPS, **SHORT.get(name, {}), **arguments})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def hits(host, batch):
    with host.aside(training=False), torch.no_grad():
        return int((host.run(batch).prediction.argmax(1) == batch.target).sum())


def losses(host, batch):
    with host.aside(training=False), torch.no_grad():
        return host.sample_losses(host.run(batch), batch)


def raw(host, batch, m):
    rows = batch.present[:, host.modalities.index(m)]
    return host.data_preprocessor.restore(m, batch.inputs[m][rows])


def state(host):
    flags = [(m.training, type(m)) for m in host.modules()], [p.requires_grad for p in host.parameters()]
    return flags, {k: v.clone() for k, v in host.state_dict().items()}


# ---- what all keep


@every_attack
def test_every_attack_keeps_its_budget_and_leaves_no_trace(name, host, batch):
    next(host.parameters()).requires_grad_(False)
    host.encoders['rgb'].eval()
    for p in host.head.parameters():
        p.grad = torch.ones_like(p)
    flags, values = state(host)
    random = torch.get_rng_state()
    found = build(name, eps={'rgb': EPS, 'depth': 0.05})(host, batch, seeded())
    assert torch.equal(torch.get_rng_state(), random)
    assert state(host)[0] == flags
    assert all(torch.equal(v, values[k]) for k, v in host.state_dict().items())
    assert all((p.grad == 1).all() for p in host.head.parameters())
    assert all(p.grad is None for p in host.encoders.parameters())
    assert host.acting('on_inputs') == []
    for m, eps in (('rgb', EPS), ('depth', 0.05)):
        x, y = raw(host, batch, m), raw(host, found, m)
        assert y.dtype == x.dtype
        assert (y - x).abs().max() <= eps + 1e-6
        assert y.min() >= -1e-6
        assert y.max() <= 1 + 1e-6
    for row, m in ((1, 'rgb'), (2, 'depth')):
        assert found.inputs[m][row].isnan().all()  # as it was
    assert torch.equal(found.present, batch.present)
    assert hits(host, found) < hits(host, batch)
    again = build(name, eps={'rgb': EPS, 'depth': 0.05})(host, batch, seeded())
    assert all(torch.equal(x.nan_to_num(), again.inputs[m].nan_to_num()) for m, x in found.inputs.items())


@every_attack
def test_without_a_budget_nothing_changes_and_with_a_chosen_modality_only_that(name, host, batch):
    for arguments in ({'eps': 0}, {'eps': {'rgb': 0.0}}):
        found = build(name, **arguments)(host, batch)
        assert all(torch.equal(x.nan_to_num(), batch.inputs[m].nan_to_num()) for m, x in found.inputs.items())
    found = build(name, modalities=['depth'])(host, batch)
    assert torch.equal(found.inputs['rgb'].nan_to_num(), batch.inputs['rgb'].nan_to_num())
    assert not torch.equal(found.inputs['depth'].nan_to_num(), batch.inputs['depth'].nan_to_num())


@pytest.mark.parametrize(
    'attack', [PGD(steps=0), BIM(steps=0), MIM(steps=0), APGD(steps=0), FAB(steps=0), Square(queries=0)]
)
def test_without_steps_nothing_changes(attack, host, batch):
    found = attack(host, batch)
    assert all(torch.equal(x.nan_to_num(), batch.inputs[m].nan_to_num()) for m, x in found.inputs.items())


@pytest.mark.parametrize('attack', [FGSM(0.3), MIM(0.3, 3), Square(0.3, 4)])
def test_no_rounding_leads_out_of_the_range(attack, make_batch):
    host = linear_host()
    host.data_preprocessor.normalised = ()
    clean = torch.rand(64, 1, 3, 4, generator=seeded(3))
    found = attack(host, host.make_batch({'rgb': clean}, target=torch.arange(64) % 2)).inputs['rgb']
    assert (found.min(), found.max()) == (0, 1)


def test_what_an_attack_finds_is_brought_back_into_the_ball(host, batch):
    class Careless(PGD):
        def perturb(self, problem):
            return problem.zeros() + 3

    found = Careless(EPS)(host, batch, seeded())
    assert (raw(host, found, 'rgb') - raw(host, batch, 'rgb')).abs().max() <= EPS + 1e-6


def test_without_a_generator_the_global_state_moves_on(host, batch):
    attack = PGD(EPS, steps=1)
    first, second = attack(host, batch), attack(host, batch)
    assert not torch.equal(first.inputs['depth'][0], second.inputs['depth'][0])


def test_samples_do_not_see_each_other(host, make_batch):
    together = make_batch(host, absent=[(3, 'depth')])
    rows = torch.tensor([3, 7])
    alone = together.select(rows)
    for attack in (BIM(EPS), MIM(EPS)):
        found, expected = attack(host, alone), attack(host, together).select(rows)
        torch.testing.assert_close(found.inputs, expected.inputs, rtol=1e-4, atol=1e-5, equal_nan=True)


# ---- by hand


class FlatLinear(nn.Sequential):
    def __init__(self, size, classes):
        super().__init__(nn.Flatten(), nn.Linear(size, classes))
        self.out_channels = classes


def linear_host(deviation=0.25):
    """Two classes, whose logits are a linear function of the inputs."""
    host = LateFusion(
        ('rgb',), 2, 'test_resnet', 1, data_preprocessor={'mean': {'rgb': 0.5}, 'std': {'rgb': deviation}}
    )
    host.encoders['rgb'], host.head = FlatLinear(12, 2), nn.Identity()
    return host.train()


@pytest.mark.parametrize(
    'attack',
    [FGSM(EPS), BIM(EPS, 1, alpha=EPS), MIM(EPS, 1, alpha=EPS), PGD(EPS, 1, alpha=EPS, random_start=False)],
)
def test_one_long_step_on_a_linear_host_is_the_sign_of_its_weights(attack):
    host = linear_host()
    clean = torch.rand(4, 1, 3, 4)
    target = torch.tensor([0, 1, 0, 1])
    batch = host.make_batch(**host.data_preprocessor({'inputs': {'rgb': clean}, 'target': target}))
    weights = host.encoders['rgb'][1].weight
    slope = (weights[1] - weights[0]).view(1, 1, 3, 4) * (1 - 2 * target).view(4, 1, 1, 1)
    expected = (clean + EPS * slope.sign()).clamp(0, 1)
    torch.testing.assert_close(raw(host, attack(host, batch), 'rgb'), expected)


def test_the_momentum_of_mim_is_normalised_for_each_sample_and_modality(host, make_batch):
    batch = make_batch(host, 4)
    x = {m: v.clone() for m, v in batch.inputs.items()}
    momentum = {m: torch.zeros_like(v) for m, v in x.items()}
    unit = {m: host.data_preprocessor.scale(m).view(1, -1, 1, 1) for m in x}
    with host.aside(training=False):
        for _ in range(3):
            for v in x.values():
                v.requires_grad_(True)
            moved = batch.replace(inputs=x)
            loss = host.sample_losses(host.run(moved), moved).sum()
            slopes = dict(zip(x, torch.autograd.grad(loss, list(x.values()))))
            for m in x:
                slope = slopes[m] / unit[m]
                momentum[m] = 0.5 * momentum[m] + slope / slope.abs().mean((1, 2, 3), keepdim=True)
                step = x[m].detach() * unit[m] + EPS / 4 * momentum[m].sign()
                low, high = batch.inputs[m] * unit[m] - EPS, batch.inputs[m] * unit[m] + EPS
                mean = 0.5 if m == 'depth' else torch.tensor([0.4, 0.5]).view(1, -1, 1, 1)
                x[m] = (step.clamp(low, high) + mean).clamp(0, 1).sub(mean) / unit[m]
    found = MIM(EPS, 3, decay=0.5)(host, batch)
    torch.testing.assert_close(found.inputs, {m: v.detach() for m, v in x.items()}, rtol=1e-4, atol=1e-5)


def test_the_projection_is_that_of_a_linear_program():
    generator = seeded()
    points = torch.rand(6, 7, generator=generator)
    normal = torch.randn(6, 7, generator=generator)
    normal[2, :4] = 0
    offset = (normal * torch.rand(6, 7, generator=generator)).sum(1)
    offset[5] += 0.1
    low, high = torch.zeros(6, 7), torch.ones(6, 7)
    low[4, 2:5], high[4, 2:5] = points[4, 2:5], points[4, 2:5]  # may not move
    step = project_onto_plane(points, normal, offset, low, high)
    assert (points + step >= low - 1e-6).all()
    assert (points + step <= high + 1e-6).all()
    for i in range(6):
        # least r so that the point plus a step within r lies on the plane
        equal = [[*normal[i].tolist(), 0]]
        bounds = [(a, b) for a, b in zip((low[i] - points[i]).tolist(), (high[i] - points[i]).tolist())]
        within = torch.cat([torch.cat([torch.eye(7), -torch.eye(7)]), -torch.ones(14, 1)], 1).numpy()
        need = float(offset[i] - normal[i] @ points[i])
        exact = linprog([0] * 7 + [1], within, [0] * 14, equal, [need], [*bounds, (0, None)])
        assert exact.success
        torch.testing.assert_close(float(step[i].abs().max()), exact.fun, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(float(normal[i] @ step[i]), need, rtol=1e-4, atol=1e-5)


def test_a_plane_beyond_the_box_draws_to_its_nearest_corner():
    step = project_onto_plane(
        torch.tensor([[0.2, 0.6]]),
        torch.tensor([[1.0, -2.0]]),
        torch.tensor([9.0]),
        torch.zeros(1, 2),
        torch.ones(1, 2),
    )
    torch.testing.assert_close(step, torch.tensor([[0.8, -0.6]]))


def test_fab_finds_the_boundary_of_a_linear_host():
    host = linear_host()
    clean = 0.3 + 0.4 * torch.rand(8, 1, 3, 4)
    inputs = host.data_preprocessor({'inputs': {'rgb': clean}})['inputs']
    with torch.no_grad():
        logits = host.eval()(inputs)
    batch = host.make_batch(inputs, target=logits.argmax(1))
    weights = host.encoders['rgb'][1].weight.detach()
    distance = (logits[:, 0] - logits[:, 1]).abs() / (weights[0] - weights[1]).abs().sum() * 0.25
    eps = float(distance.max()) * 1.2
    found = raw(host, FAB(eps)(host, batch), 'rgb')
    inside = ((clean + eps <= 1) & (clean >= eps)).flatten(1).all(1)
    moved = (found - clean).abs().flatten(1).amax(1)
    assert inside.any()
    torch.testing.assert_close(moved[inside], distance[inside], rtol=0.06, atol=1e-4)  # overshot by 1.05 at most
    assert hits(host, host.make_batch({'rgb': (found - 0.5) / 0.25}, target=batch.target)) == 0


# ---- how strong they are


def test_accuracy_falls_with_the_budget_and_with_the_steps(host, batch):
    by_eps = [hits(host, PGD(eps, steps=20)(host, batch, seeded())) for eps in (0, 0.02, 0.05, 0.1, 0.2, 0.5)]
    assert all(b <= a + 1 for a, b in pairwise(by_eps))
    assert by_eps[0] == hits(host, batch)
    assert by_eps[-1] <= 40 / 5  # chance at most
    ten, fifty = (hits(host, PGD(0.05, steps=k)(host, batch, seeded())) for k in (10, 50))
    assert fifty <= ten + 1


@pytest.mark.parametrize('attack', [FGSM(0.05), PGD(0.05), MIM(0.05), APGD(0.05, steps=20), Square(0.05, 200)])
def test_losses_rise(attack, host, batch):
    before, after = losses(host, batch), losses(host, attack(host, batch, seeded()))
    assert after.mean() > before.mean()
    assert (after >= before - 1e-4).float().mean() > 0.9


def test_the_ensemble_is_at_least_as_strong_as_pgd_and_as_its_members(host, batch):
    attack = AutoAttack(0.05, options={'square': {'queries': 100}, 'fab-t': {'steps': 20}})
    left = hits(host, attack(host, batch, seeded()))
    assert left <= hits(host, PGD(0.05)(host, batch, seeded()))
    assert left <= hits(host, APGD(0.05)(host, batch, seeded()))
    assert 0 < left < hits(host, batch)


def test_square_asks_for_predictions_only_and_not_too_often(host, batch, monkeypatch):
    asked = []
    run = LateFusion.run

    def counted(self, batch):
        assert not torch.is_grad_enabled()
        asked.append(len(batch))
        return run(self, batch)

    monkeypatch.setattr(LateFusion, 'run', counted)
    Square(EPS, queries=25)(host, batch, seeded())
    assert len(asked) <= 25
    assert asked[-1] < asked[0]  # broken samples are not asked again


# ---- hosts that draw at random


class Coin(Plugin):
    """Adds noise to the features in every pass, and counts."""

    structural = True
    min_modalities = 1
    passes = 0

    def on_features(self, host, batch, features):
        self.passes += 1
        return {m: x + torch.randn_like(x) for m, x in features.items()}


def test_gradients_are_averaged_over_the_draws_of_a_random_host(host, batch):
    host.plug(coin := Coin())
    random = torch.get_rng_state()
    first = BIM(EPS, 3, eot=4)(host, batch, seeded())
    assert coin.passes == 3 * 4
    assert torch.equal(torch.get_rng_state(), random)
    again, other = (BIM(EPS, 3, eot=4)(host, batch, seeded(s)) for s in (0, 1))
    assert torch.equal(first.inputs['depth'][0], again.inputs['depth'][0])
    assert not all(torch.equal(first.inputs[m].nan_to_num(), other.inputs[m].nan_to_num()) for m in first.inputs)


def test_the_version_for_random_hosts_averages_over_twenty_draws():
    attack = AutoAttack(version='rand')
    assert attack.eot == 20
    assert [a.eot for a in attack.attacks.values()] == [20, 20]
    assert attack.name == 'autoattack-rand'
    assert AutoAttack(version='rand', eot=1).name == 'apgd-ce+apgd-dlr'


# ---- few classes


@pytest.mark.parametrize(
    ('classes', 'name'), [(2, 'apgd-ce+fab-t+square'), (3, 'apgd-ce+fab-t+square'), (4, 'autoattack-standard')]
)
def test_the_name_of_the_ensemble_says_what_ran(classes, name, make_host, make_batch):
    host = make_host(classes)
    attack = AutoAttack(0.01)
    for member, short in (('apgd-ce', 'steps'), ('apgd-t', 'steps'), ('fab-t', 'steps'), ('square', 'queries')):
        setattr(attack.attacks[member], short, 1)
    attack(host, make_batch(host, 4, target=torch.tensor([0, 1, 0, 1])))
    assert attack.name == name
    assert AutoAttack(options={'square': {'queries': 9}}).name == 'apgd-ce+apgd-t+fab-t+square(queries=9)'
    assert AutoAttack(members=['apgd-ce', 'square']).name == 'apgd-ce+square'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'options': {'square': {'querys': 9}}}, "no argument 'querys'. Did you mean 'queries'"),
        ({'options': {'apgd-ce': {'eps': 0.5}}}, 'eps is no option of the member apgd-ce'),
        ({'options': {'apgd-t': {'loss': 'dlr'}}}, 'loss is no option of the member apgd-t'),
        ({'members': 'fab'}, "named 'fab'. Did you mean 'fab-t'"),
        ({'eot': 0}, 'eot must be'),
    ],
)
def test_a_wrong_ensemble_is_told(arguments, message):
    with pytest.raises((InputError, NameNotFound)) as error:
        ATTACKS.build({'type': 'AutoAttack', **arguments})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ('attack', 'classes', 'message'),
    [
        (APGD(loss='dlr'), 2, 'DLR needs at least 3 classes, this LateFusion has 2'),
        (APGD(loss='targeted'), 3, 'The targeted DLR needs at least 4 classes, this LateFusion has 3'),
    ],
)
def test_a_loss_that_needs_more_classes_says_so(attack, classes, message, make_host, make_batch):
    host = make_host(classes)
    with pytest.raises(InputError, match=message):
        attack(host, make_batch(host, 4, target=torch.tensor([0, 1, 0, 1])))


# ---- mistakes

WRONG_ARGUMENTS = {
    'eps': ({'eps': -0.1}, 'eps must be a finite number of at least 0, got -0.1'),
    'eps of one': ({'eps': {'rgb': 'x'}}, "got 'x'"),
    'bounds': ({'bounds': (1, 0)}, 'bounds must be'),
    'modalities': ({'modalities': []}, 'names nothing to attack'),
    'eot': ({'eot': 0}, 'eot must be a whole number of at least 1, got 0'),
    'steps': ({'steps': -1}, 'steps must be a whole number of at least 0, got -1'),
    'alpha': ({'alpha': 0}, 'alpha must be a number above 0, got 0'),
    'alpha twice': ({'alpha': 0.1, 'protocol': 'paper'}, 'leave one out'),
    'loss': ({'loss': 'cee'}, "named 'cee'. Did you mean 'ce'"),
    'protocol': ({'protocol': 'papr'}, "Did you mean 'paper'"),
    'argument': ({'step': 3}, "no argument 'step'. Did you mean 'steps'"),
}


@pytest.mark.parametrize('case', WRONG_ARGUMENTS)
def test_a_wrong_argument_is_named(case):
    arguments, message = WRONG_ARGUMENTS[case]
    with pytest.raises((InputError, NameNotFound)) as error:
        ATTACKS.build({'type': 'PGD', **arguments})
    assert message in str(error.value)


def test_a_step_larger_than_the_ball_is_warned_about():
    with pytest.warns(PluginWarning, match=r'alpha, 0.03922, is larger than eps, 0.01569'):
        PGD(4 / 255, protocol='paper')
    with pytest.warns(PluginWarning, match=r'alpha of depth, 0.1, is larger than eps, 0.01569'):
        PGD(4 / 255, alpha={'depth': 0.1})


WRONG_INPUTS = {
    'nan': ({'depth': torch.full((20, 1, 6, 10), torch.nan)}, {}, 'depth holds NaN or infinite values'),
    'range': ({'depth': torch.full((20, 1, 6, 10), 200.0)}, {}, 'depth runs from 200 to 200 .* range 0..1'),
    'label': ({'target': torch.full((20,), 7)}, {}, 'Labels run from 7 to 7, the host has the classes 0..4'),
    'modality': ({}, {'modalities': ['dept']}, "named 'dept'. Did you mean 'depth'"),
    'modality of alpha': ({}, {'alpha': {'dept': 0.001}}, r"in alpha\) named 'dept'"),
    'modality of eps': ({}, {'eps': {'dept': 0.1}}, r"in eps\) named 'dept'"),
}


@pytest.mark.parametrize('case', WRONG_INPUTS)
def test_wrong_inputs_are_named(case, host, make_batch):
    changes, arguments, message = WRONG_INPUTS[case]
    with pytest.raises((InputError, NameNotFound), match=message):
        PGD(**arguments)(host, make_batch(host, **changes))


def test_words_and_samples_without_any_modality_are_refused(host, make_batch):
    batch = make_batch(host, 4)
    words = batch.replace(inputs={**batch.inputs, 'depth': torch.zeros(4, 1, 6, 10, dtype=torch.int64)})
    with pytest.raises(InputError, match=r'depth holds torch.int64 values, .* without depth'):
        PGD()(host, words)
    with pytest.raises(InputError, match='Sample 2 of the batch has none of the modalities'):
        PGD()(host, batch.replace(present=batch.present & torch.tensor([[True], [True], [False], [True]])))
    with pytest.raises(InputError, match='needs its target'):
        PGD()(host, batch.replace(target=None))


@pytest.mark.parametrize('attack', [FGSM(1.0), PGD(1.0, 2), Square(1.0, 4), FAB(1.0, 2)])
def test_pixels_without_a_measurement_stay_and_their_value_is_no_reason_to_leave_the_range(attack):
    host = linear_host()
    host.data_preprocessor.invalid = {'rgb': 0}
    clean = torch.rand(4, 1, 3, 4, generator=seeded())
    clean[:2, 0, 0] = 0
    batch = host.make_batch(**host.data_preprocessor({'inputs': {'rgb': clean}, 'target': torch.tensor([0, 1, 0, 1])}))
    found = attack(host, batch, seeded())
    changed = found.inputs['rgb'] != batch.inputs['rgb']
    assert not changed[clean == 0].any()
    assert changed[clean != 0].any()
    values = raw(host, found, 'rgb').round(decimals=5)
    assert 0 <= values.min() <= values.max() <= 1
    if isinstance(attack, FGSM):
        assert set(values[clean != 0].tolist()) == {0.0, 1.0}
