"""The host contract, on hosts that are small enough to check by hand."""

import copy
import dataclasses
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from plugins import Plugin
from registry import InputError, NameNotFound
from zoo import Batch, Features, MultimodalHost, Outputs, create_host
from zoo.fusion import Sum
from zoo.host import preserved_random_state
from zoo.rows import running_statistics

SIZE = (10, 14)


class Encoder(nn.Module):
    """Maps at full and half size, with batch norm and dropout; None stands for a level that nobody taps."""

    def __init__(self, channels):
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, x):
        fine = self.fine(x)
        return [fine, None, self.coarse(fine)]


class Pyramid(MultimodalHost):
    """Segments from lists of maps; targets are label maps (B, H, W)."""

    offers = frozenset({'features'})

    def __init__(self, modalities=('rgb', 'depth'), channels=2, classes=3, **arguments):
        super().__init__(modalities, **arguments)
        self.channels = channels
        self.encoders = nn.ModuleDict({m: Encoder(channels) for m in self.modalities})
        self.fusions = nn.ModuleList([Sum(self.modalities, 4), Sum(self.modalities, 6)])
        self.head = nn.Conv2d(10, classes, 1)

    def encode(self, batch):
        return {m: self.encode_modality(e, batch, m) for m, e in self.encoders.items()}

    def fuse(self, features, mask):
        return [f({m: x[i] for m, x in features.items()}, mask) for f, i in zip(self.fusions, (0, 2))]

    def decode(self, fused, features):
        maps = [F.interpolate(f, features.size, mode='bilinear') for f in fused]
        return Outputs(self.head(torch.cat(maps, 1)), features, {})

    def losses(self, outputs, batch):
        return {'loss_task': F.cross_entropy(outputs.prediction, batch.target)}

    def branch(self, modality):
        return self.encoders[modality].parameters()

    def blank(self, modality, batch):
        other = next(iter(batch.inputs.values()))
        return other.new_zeros(()).expand(len(batch), self.channels, *other.shape[2:])


class Entangled(Pyramid):
    """Mixes the modalities inside its encoders, so that every subset needs a run of its own."""

    separable = False

    def run(self, batch):
        batch = self.own(batch)
        features = self.features(batch)
        total = sum(x[0] for x in features.values())
        features = Features.of({m: [x[0] * total.sigmoid(), *x[1:]] for m, x in features.items()}, features.size)
        return self.run_features(features, batch.mask)


class Recorder(Plugin):
    """Notes when it was called."""

    def __init__(self, name=None, looks=(), structural=False, factor=1.0, calls=None):
        super().__init__(name)
        self.looks, self.structural, self.factor = frozenset(looks), structural, factor
        self.calls = [] if calls is None else calls

    def on_inputs(self, host, batch):
        self.calls.append((self.name, 'on_inputs'))
        return batch

    def on_features(self, host, batch, features):
        self.calls.append((self.name, 'on_features'))
        for m, levels in features.items():  # in place, which is allowed
            features[m] = [None if x is None else x * self.factor for x in levels]
        return features

    def on_losses(self, host, batch, outputs, losses):
        self.calls.append((self.name, 'on_losses'))
        return losses

    def on_gradients(self, host, optimizer):
        self.calls.append((self.name, 'on_gradients'))


def sample(modalities=('rgb', 'depth'), size=4, absent=(), seed=0, channels=2):
    """The arguments of a forward; ``absent`` lists (row, modality)."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.ones(size, len(modalities), dtype=torch.bool)
    for row, m in absent:
        present[row, modalities.index(m)] = False
    return {
        'inputs': {m: torch.randn(size, channels, *SIZE, generator=generator) for m in modalities},
        'present': present,
        'target': torch.randint(0, 3, (size, *SIZE), generator=generator),
    }


def batch(modalities=('rgb', 'depth'), **arguments):
    data = sample(modalities, **arguments)
    return Batch(data['inputs'], data['present'], tuple(modalities), data['target'])


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for k in a:
        assert torch.equal(a[k], b[k]), k


def count_calls(host):
    calls = []
    for m, encoder in host.encoders.items():
        encoder.register_forward_hook(lambda *_, m=m: calls.append(m))
    return calls


# ---- Batch


def test_view_takes_columns_by_name_and_calls_unknown_ones_absent():
    whole = batch(('rgb', 'depth', 'ir'), absent=[(1, 'ir'), (2, 'rgb')])
    part = whole.view(('ir', 'audio', 'rgb'))
    assert list(part.inputs) == ['ir', 'rgb']
    expected = [[True, False, True], [False, False, True], [True, False, False], [True, False, True]]
    assert part.present.tolist() == expected
    assert part.available.tolist() == expected
    assert part.target is whole.target
    assert whole.view(('rgb', 'depth', 'ir')) is whole


@pytest.mark.parametrize('rows', [torch.tensor([2, 0]), torch.tensor([True, False, True, False])])
def test_select_picks_samples_from_every_kind_of_target(rows):
    whole = batch(absent=[(2, 'rgb')])
    index = rows.nonzero().squeeze(1).tolist() if rows.dtype == torch.bool else rows.tolist()
    boxes = [torch.full((i, 4), i) for i in range(4)]
    target = {'label': torch.arange(4), 'boxes': boxes, 'deep': {'mask': whole.target}}
    part = whole.replace(target=target, info=[{'id': i} for i in range(4)]).select(rows)
    assert part.info == [{'id': i} for i in index]
    assert part.target['label'].tolist() == index
    assert all(a is boxes[i] for a, i in zip(part.target['boxes'], index))
    assert torch.equal(part.target['deep']['mask'], whole.target[index])
    assert torch.equal(part.present, whole.present[index])
    assert torch.equal(part.available, whole.available[index])
    assert torch.equal(part.inputs['rgb'], whole.inputs['rgb'][index])
    assert whole.select(rows).info is None


def test_repeat_puts_copies_behind_each_other():
    whole = batch(size=3, absent=[(1, 'rgb')])
    target = {'label': torch.arange(3), 'boxes': ['a', 'b', 'c']}
    twice = whole.replace(target=target, info=[{'id': i} for i in range(3)]).repeat(2)
    assert len(twice) == 6
    assert twice.target['label'].tolist() == [0, 1, 2, 0, 1, 2]
    assert twice.target['boxes'] == ['a', 'b', 'c', 'a', 'b', 'c']
    assert [i['id'] for i in twice.info] == [0, 1, 2, 0, 1, 2]
    for half in (twice.select(torch.arange(3)), twice.select(torch.arange(3, 6))):
        assert torch.equal(half.present, whole.present)
        assert torch.equal(half.inputs['depth'], whole.inputs['depth'])


@pytest.mark.parametrize('mask', [[True, False], [[True, False], [True, True], [False, True], [True, False]]])
def test_restrict_only_takes_away_and_leaves_what_the_data_set_delivered(mask):
    whole = batch(absent=[(1, 'depth')])
    part = whole.restrict(torch.tensor(mask))
    assert torch.equal(part.present, whole.present & torch.tensor(mask))
    assert torch.equal(part.available, whole.present)
    assert part.inputs is whole.inputs


def test_a_mask_of_another_width_is_refused():
    for width in (1, 3):
        with pytest.raises(ValueError, match=f'mask has {width} columns, the batch has rgb, depth'):
            batch().restrict(torch.ones(width, dtype=torch.bool))


def test_a_batch_can_not_be_changed():
    whole = batch()
    with pytest.raises(dataclasses.FrozenInstanceError):
        whole.present = torch.zeros(4, 2, dtype=torch.bool)
    assert torch.equal(whole.mask, whole.present)
    assert whole.restrict(torch.tensor([True, False])).mask[:, 1].sum() == 0


# ---- encode_rows


def vector_encoder():
    """Batch norm on vectors, which refuses a single row; flattens, which fails on none."""
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * SIZE[0] * SIZE[1], 5), nn.BatchNorm1d(5))


ENCODERS = {'maps': lambda: Encoder(2), 'vectors': vector_encoder, 'dict': lambda: Named()}


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Encoder(2)

    def forward(self, x):
        fine, _, coarse = self.inner(x)
        return {'fine': fine, 'rest': (coarse, None)}


def leaves(tree):
    return [x for x in torch.utils._pytree.tree_leaves(tree) if isinstance(x, torch.Tensor)]


@pytest.fixture
def host():
    torch.manual_seed(0)
    return Pyramid()


@pytest.mark.parametrize('kind', ENCODERS)
@pytest.mark.parametrize('training', [True, False])
def test_selection_equals_the_encoder_on_the_rows_that_are_kept(host, kind, training):
    ours = ENCODERS[kind]().train(training)
    theirs = copy.deepcopy(ours)
    x = torch.randn(5, 2, *SIZE)
    rows = torch.tensor([True, False, True, True, False])
    torch.manual_seed(1)
    found = leaves(host.encode_rows(ours, x.masked_fill(~rows[:, None, None, None], torch.nan), rows))
    torch.manual_seed(1)
    expected = leaves(theirs(x[rows]))
    sum(y.square().sum() for y in found).backward()
    sum(y.square().sum() for y in expected).backward()
    for y, z in zip(found, expected, strict=True):
        assert torch.equal(y[rows], z)
        assert not y[~rows].any()
    assert_same(state(ours), state(theirs))
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        assert torch.equal(p.grad, q.grad), name


def test_a_complete_batch_is_not_copied(host):
    x = torch.randn(3, 2, *SIZE)
    assert host.encode_rows(nn.Identity(), x, torch.ones(3, dtype=torch.bool)) is x


@pytest.mark.parametrize('kind', ENCODERS)
def test_a_single_row_uses_running_statistics_and_leaves_them(host, kind):
    encoder = ENCODERS[kind]()
    encoder(torch.randn(6, 2, *SIZE))  # statistics that differ from the initial ones
    before = state(encoder)
    x, rows = torch.randn(3, 2, *SIZE), torch.tensor([False, True, False])
    encoder.apply(lambda m: m.eval() if isinstance(m, nn.Dropout) else None)
    found = leaves(host.encode_rows(encoder, x, rows))
    assert all(m.training for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._NormBase))
    assert_same(before, state(encoder))
    expected = leaves(encoder.eval()(x[rows]))
    for y, z in zip(found, expected, strict=True):
        assert torch.equal(y[1:2], z)
        assert not y[0].any()
        assert not y[2].any()


@pytest.mark.parametrize('kind', ENCODERS)
def test_no_row_gives_zeros_and_a_zero_gradient(host, kind):
    encoder = ENCODERS[kind]()
    before = state(encoder)
    x = torch.full((3, 2, *SIZE), torch.nan)
    found = leaves(host.encode_rows(encoder, x, torch.zeros(3, dtype=torch.bool)))
    assert all(len(y) == 3 and not y.any() for y in found)
    sum(y.sum() for y in found).backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None, name
        assert not p.grad.any(), name
    assert_same(before, state(encoder))


def test_norm_layers_train_again_after_an_error_and_synchronised_ones_never_stop():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.SyncBatchNorm(3), nn.BatchNorm1d(3).eval())
    with pytest.raises(ZeroDivisionError), running_statistics(module):
        1 / int([m.training for m in module] != [False, True, False])
    assert [m.training for m in module] == [True, True, False]


@pytest.mark.parametrize('present', [[1, 1], [0, 1], [1, 0], [0, 0, 1], [0, 0]])
def test_dense_equals_selection_in_eval_mode(present):
    rows = torch.tensor(present, dtype=torch.bool)
    encoder = Encoder(2)
    encoder(torch.randn(6, 2, *SIZE))
    encoder.eval()
    x = torch.randn(len(rows), 2, *SIZE).masked_fill(~rows[:, None, None, None], torch.nan)
    selected = Pyramid(encode_on='present').encode_rows(encoder, x, rows)
    dense = Pyramid(encode_on='dense').encode_rows(encoder, x, rows)
    for y, z in zip(leaves(selected), leaves(dense), strict=True):  # kernels depend on the batch size: not bitwise
        torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-6)
        assert not z[~rows].any()


def test_dense_training_sees_zeros_where_nothing_is():
    host, encoder = Pyramid(encode_on='dense'), Encoder(2).apply(lambda m: setattr(m, 'p', 0.0))
    other = copy.deepcopy(encoder)
    rows = torch.tensor([True, False, True])
    x = torch.randn(3, 2, *SIZE)
    x[1] = torch.nan
    found = host.encode_rows(encoder, x, rows)
    expected = other(x.nan_to_num() * rows[:, None, None, None])
    for y, z in zip(leaves(found), leaves(expected), strict=True):
        assert torch.equal(y[rows], z[rows])
        assert not y[~rows].any()
    assert_same(state(encoder), state(other))


def test_encode_on_all_shows_dropped_rows_to_the_encoder_but_not_to_the_fusion():
    whole = batch(absent=[(0, 'rgb')])
    dropped = whole.restrict(torch.tensor([[True, True], [False, True], [True, True], [True, True]]))
    dropped = dropped.replace(
        inputs={**dropped.inputs, 'rgb': dropped.inputs['rgb'].index_fill(0, torch.tensor([0]), torch.nan)}
    )
    torch.manual_seed(0)
    seeing, present = Pyramid(encode_on='all'), None
    features = seeing.features(dropped)['rgb'][0]
    assert not features[0].any()  # the data set did not deliver it
    assert features[1].any()
    torch.manual_seed(0)
    present = Pyramid()
    assert not present.features(dropped)['rgb'][0][1].any()
    mean = 'encoders.rgb.fine.1.running_mean'
    assert not torch.equal(seeing.state_dict()[mean], present.state_dict()[mean])
    changed = dropped.replace(
        inputs={**dropped.inputs, 'rgb': dropped.inputs['rgb'].index_fill(0, torch.tensor([1]), 9.0)}
    )
    a, b = seeing.eval().run(dropped).prediction, seeing.run(changed).prediction
    assert torch.equal(a, b)


# ---- aside


def test_aside_leaves_no_trace():
    recorder = Recorder()
    host = Pyramid().plug(recorder).train()
    before, random = state(host), torch.get_rng_state()
    with host.aside(), host.aside():
        first = host.run(batch()).prediction
        assert not recorder.calls
    assert_same(before, state(host))  # num_batches_tracked included
    assert torch.equal(torch.get_rng_state(), random)
    with host.aside():
        assert torch.equal(host.run(batch()).prediction, first)
    host.run(batch())
    assert recorder.calls == [('Recorder', 'on_features')]
    assert host.state_dict()['encoders.rgb.fine.1.num_batches_tracked'] == 1


def test_aside_is_over_after_an_error():
    host = Pyramid().train()
    with pytest.raises(ZeroDivisionError), host.aside():
        raise ZeroDivisionError
    host.run(batch())
    assert host.state_dict()['encoders.rgb.fine.1.num_batches_tracked'] == 1


def test_aside_can_let_running_statistics_follow():
    host, random = Pyramid().plug(Recorder()).train(), torch.get_rng_state()
    with host.aside(update_statistics=True):
        host.run(batch())
    assert host.state_dict()['encoders.rgb.fine.1.num_batches_tracked'] == 1
    assert torch.equal(torch.get_rng_state(), random)
    assert not host.plugins['Recorder'].calls


def test_aside_can_evaluate_and_gives_every_module_its_own_mode_back():
    host = Pyramid().plug(Recorder())
    for seed in range(3):
        host.train().run(batch(seed=seed))
    host.encoders['rgb'].fine.eval()  # somebody froze it
    modes = {name: m.training for name, m in host.named_modules()}
    before = state(host)
    with host.aside(training=False):
        found = host.run(batch()).prediction
    assert {name: m.training for name, m in host.named_modules()} == modes
    assert_same(before, state(host))
    assert torch.equal(found, copy.deepcopy(host).eval().run(batch()).prediction)
    assert len(host.plugins['Recorder'].calls) == 3  # those before


class ExtraPass(Plugin):
    """Runs the host again and adds nothing."""

    def on_losses(self, host, batch, outputs, losses):
        with host.aside():
            again = host.run(batch.restrict(torch.tensor([True, False])))
        return {**losses, 'loss_extra': 0 * again.prediction.sum()}


def train(host, steps=3):
    host.train()
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(7)
    for i in range(steps):
        losses = host(**sample(size=5, absent=[(i, 'depth'), (4, 'depth')], seed=i), mode='loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return state(host)


def test_an_extra_pass_of_weight_zero_leaves_training_bitwise_the_same():
    torch.manual_seed(0)
    plain = Pyramid()
    busy = copy.deepcopy(plain).plug(ExtraPass())
    assert_same(train(plain), train(busy))


# ---- run_subsets

MASKS = torch.tensor([[True, False, False], [False, True, False], [False, True, True], [True, True, True]])


def trained(cls, modalities=('rgb', 'depth', 'ir'), **arguments):
    torch.manual_seed(0)
    host = cls(modalities, **arguments).train()
    for seed in range(3):
        host.run(batch(modalities, seed=seed))
    return host.eval()


@pytest.mark.parametrize('cls', [Pyramid, Entangled])
@pytest.mark.parametrize('encode_on', ['present', 'all', 'dense'])
def test_run_subsets_equals_one_run_for_each_subset(cls, encode_on):
    host = trained(cls, encode_on=encode_on)
    whole = batch(host.modalities, size=5, absent=[(1, 'rgb'), (3, 'depth'), (4, 'rgb'), (4, 'depth')])
    calls = count_calls(host)
    found = list(host.run_subsets(whole, MASKS))
    once = cls is Pyramid
    assert sorted(calls) == sorted(host.modalities * (1 if once else len(MASKS)))
    for mask, outputs in zip(MASKS, found, strict=True):
        part = whole.restrict(mask)
        part = part.select(part.present.any(1))
        expected = host.run(part)
        torch.testing.assert_close(outputs.prediction, expected.prediction)
        assert outputs.features.size == SIZE
        assert len(outputs.features['ir'][0]) == len(part)


def test_run_subsets_takes_a_mask_for_each_sample_and_skips_what_is_left_with_nothing():
    host = trained(Pyramid)
    whole = batch(host.modalities, absent=[(0, 'rgb')])
    masks = torch.zeros(2, 4, 3, dtype=torch.bool)
    masks[1, :, 0] = True
    nothing, rgb = host.run_subsets(whole, masks)
    assert nothing is None
    assert len(rgb.prediction) == 3
    expected = host.run(whole.restrict(masks[1, 0]).select(torch.arange(1, 4)))
    torch.testing.assert_close(rgb.prediction, expected.prediction)


@pytest.mark.parametrize('factor', [1.0, 0.5])
def test_run_subsets_fuses_features_again_without_encoding(factor):
    router = Recorder(structural=True, factor=factor)
    host = trained(Pyramid).plug(router)
    whole = batch(host.modalities)
    outputs = host.run(whole)
    expected = [host.run(whole.restrict(mask)).prediction for mask in MASKS]
    calls = count_calls(host)
    router.calls.clear()
    found = list(host.run_subsets(whole, MASKS, outputs.features))
    assert not calls
    assert len(router.calls) == len(MASKS)  # once for each subset, on what was encoded
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.prediction, b)


def test_run_features_fuses_again_with_less_present(host):
    host.eval()
    whole = batch()
    outputs = host.run(whole)
    only = torch.tensor([[True, False]] * 4)
    assert torch.equal(host.run_features(outputs.features, only).prediction, host.run(whole.restrict(only)).prediction)


# ---- plugins


def test_plugins_that_only_look_come_first_and_else_the_order_of_the_config_holds():
    calls = []
    names = [('a', ()), ('b', ('on_inputs',)), ('c', ('on_losses',)), ('d', ('on_inputs', 'on_gradients'))]
    host = Pyramid().plug(*(Recorder(n, looks, calls=calls) for n, looks in names)).train()
    host(**sample(), mode='loss')
    host.on_gradients(None)
    order = {point: ''.join(n for n, p in calls if p == point) for _, point in calls}
    assert order == {'on_inputs': 'bdac', 'on_features': 'abcd', 'on_losses': 'cabd', 'on_gradients': 'dabc'}
    assert list(order) == ['on_inputs', 'on_features', 'on_losses', 'on_gradients']


def test_in_eval_mode_and_aside_only_structural_plugins_act_and_only_on_features():
    plain, structural = Recorder('plain'), Recorder('structural', structural=True)
    host = Pyramid().plug(plain, structural).eval()
    host(**sample(), mode='loss')
    host.on_gradients(None)
    assert not plain.calls
    assert structural.calls == [('structural', 'on_features')]
    host.train()
    with host.aside():
        host.run(batch())
    assert not plain.calls
    assert structural.calls == [('structural', 'on_features')] * 2


def test_two_plugins_of_one_name_are_refused():
    with pytest.raises(InputError, match="named 'Recorder' is attached already"):
        Pyramid().plug(Recorder(), Recorder())
    assert list(Pyramid().plug(Recorder(), Recorder('second')).plugins) == ['Recorder', 'second']


@pytest.mark.parametrize('value', ['MWAM', nn.Linear(1, 1)])
def test_only_plugins_can_be_plugged(value):
    with pytest.raises(InputError, match='plug takes plugins'):
        Pyramid().plug(value)


@pytest.mark.parametrize('name', ['two words', '1st', 'keys', 'train', 'values'])
def test_names_that_can_not_be_keys_are_refused_for_plugins_and_modalities(name):
    with pytest.raises(InputError, match=repr(name)):
        Recorder(name)
    with pytest.raises(InputError, match=repr(name)):
        Pyramid(['rgb', name])


@pytest.mark.parametrize('modalities', [[], ['rgb', 'rgb'], [3]])
def test_modalities_are_different_identifiers(modalities):
    with pytest.raises(InputError, match='identifier'):
        Pyramid(modalities)


def test_a_need_that_the_host_lacks_names_hosts_that_have_it():
    class Needy(Plugin):
        needs = frozenset({'unimodal'})

    with pytest.raises(InputError, match=r"needs 'unimodal', which this Pyramid .* offers features\).*LateFusion"):
        Pyramid().plug(Needy())
    late = create_host('late_fusion', modalities=['rgb', 'depth'], num_classes=2, encoder='test_resnet', fusion='Gated')
    with pytest.raises(InputError, match='it would with aux_heads=True'):
        late.plug(Needy())
    assert not late.plugins


def test_too_few_modalities_are_refused():
    with pytest.raises(InputError, match='Recorder needs at least 2 modalities, the host Pyramid has 1: rgb'):
        Pyramid(['rgb']).plug(Recorder())


class Owner(Plugin):
    owns_step = True

    def train_step(self, host, batch, optim_wrapper):
        self.seen = (batch, optim_wrapper)
        return {'done': torch.ones(())}


def test_one_plugin_may_own_the_step_and_two_are_refused():
    host = Pyramid().plug(Recorder(), Owner())
    assert host.train_step(sample(), 'wrapper') == {'done': torch.ones(())}
    seen, wrapper = host.plugins['Owner'].seen
    assert wrapper == 'wrapper'
    assert seen.inputs['rgb'].shape == (4, 2, *SIZE)
    with pytest.raises(InputError, match='Owner and second'):
        host.plug(Owner('second'))
    assert 'second' not in host.plugins


class Drawing(Plugin):
    def attach(self, host):
        super().attach(host)
        self.layer = nn.Linear(3, 3)


def test_attaching_a_plugin_leaves_the_random_state():
    host, random = Pyramid(), torch.get_rng_state()
    host.plug(Drawing())
    assert torch.equal(torch.get_rng_state(), random)
    assert 'plugins.Drawing.layer.weight' in host.state_dict()


def test_a_plugin_stores_neither_a_host_nor_over_a_method():
    plugin = Recorder()
    with pytest.raises(TypeError, match=r'must not store a host.*Plugin\.hold'):
        plugin.host = Pyramid()
    for name in ('apply', 'train', 'forward', 'on_losses', 'log', 'before_run'):
        with pytest.raises(AttributeError, match=f"'{name}' is a method"):
            setattr(plugin, name, 'lr')


def test_a_held_module_is_out_of_the_tree_frozen_and_in_eval_mode():
    plugin, teacher = Recorder(), Pyramid()
    plugin.hold(teacher=teacher)
    host = Pyramid().plug(plugin).train()
    assert plugin.teacher is teacher
    assert not any('teacher' in k for k in host.state_dict())
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in host.parameters()}
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    host.double()
    assert {p.dtype for p in teacher.parameters()} == {torch.float64}
    host.to('meta')
    assert {p.device.type for p in teacher.parameters()} == {'meta'}
    assert teacher.data_preprocessor.device.type == 'meta'


def test_a_held_module_can_be_replaced_but_not_hidden():
    plugin = Recorder()
    plugin.hold(teacher=nn.Linear(1, 1))
    second = nn.Linear(2, 2)
    plugin.hold(teacher=second)
    assert plugin.teacher is second
    with pytest.raises(AttributeError, match='name'):
        plugin.hold(name=second)
    with pytest.raises(AttributeError, match='teacher_of'):
        _ = plugin.teacher_of


def draws(plugin, host, **arguments):
    return torch.rand(4, generator=plugin.generator(host, **arguments)).tolist()


def test_random_draws_follow_seed_plugin_iteration_rank_and_purpose():
    host, plugin = Pyramid(), Recorder()
    first = draws(plugin, host)
    assert draws(plugin, host) == first
    assert draws(Recorder(), host) == first
    others = [draws(Recorder('other'), host), draws(plugin, host, purpose='masks'), draws(plugin, host, shared=True)]
    for key, value in (('seed', 1), ('iteration', 1), ('rank', 1)):
        host = Pyramid()
        setattr(host.clock, key, value)
        others.append(draws(plugin, host))
        if key == 'rank':
            assert draws(plugin, host, shared=True) == others[2]
    assert len({tuple(d) for d in [first, *others]}) == 7


def test_random_draws_leave_the_global_state():
    host, random = Pyramid(), torch.get_rng_state()
    draws(Recorder(), host)
    assert torch.equal(torch.get_rng_state(), random)


def test_logged_values_are_copies_with_names():
    plugin, k = Recorder(), torch.tensor([1.0, 2.0], requires_grad=True)
    plugin.log(('rgb', 'depth'), k=k, total=k.sum())
    with torch.no_grad():
        k.zero_()
    assert plugin.logged['k'][0] == ('rgb', 'depth')
    assert plugin.logged['k'][1].tolist() == [1.0, 2.0]
    assert plugin.logged['total'][0] == ()
    assert not plugin.logged['k'][1].requires_grad
    with pytest.raises(ValueError, match='must not contain "loss"'):
        plugin.log(loss_extra=k.sum())


# ---- make_batch and forward

GOOD = torch.randn(3, 2, *SIZE)
BAD = [
    (dict(inputs={}), 'at least one modality'),
    (dict(inputs=GOOD), 'mapping of at least one modality to its tensor'),
    (dict(inputs={'rgb': None}), "Input 'rgb' must be a tensor .* got None"),
    (dict(inputs={'rgb': torch.ones(3)}), r"Input 'rgb' must be a tensor \(B, C, ...\)"),
    (dict(inputs={'rgb': GOOD, 'depth': GOOD[:2]}), "Input 'depth' has 2 samples where the first modality has 3"),
    (dict(inputs={'rgb': GOOD}, present=[[True, False]] * 3), 'present must be bool of shape .* got list'),
    (dict(inputs={'rgb': GOOD}, present=torch.ones(3, 2)), r'present must be bool .* \(3, 2\) .* got torch.float32'),
    (dict(inputs={'rgb': GOOD}, present=torch.ones(2, 2).bool()), r'\(3, 2\) with columns rgb, depth'),
    (dict(inputs={'rgb': GOOD}, present=torch.ones(3, 2).bool()), "present claims 'depth' .* inputs has only rgb"),
    (dict(inputs={'rgb': GOOD}, present=torch.tensor([[1, 0], [0, 0], [1, 0]]).bool()), 'Sample 1 .* none of the mod'),
    (dict(inputs={'rgb': GOOD}, target=torch.zeros(2)), r'length B = 3, .* got torch.float32 of shape \(2,\)'),
    (dict(inputs={'rgb': GOOD}, target={'boxes': [1, 2]}), 'length B = 3, .* got list of length 2'),
    (dict(inputs={'rgb': GOOD}, target=torch.zeros(())), 'target must be a tensor'),
    (dict(inputs={'rgb': GOOD}, target=3), 'target must be a tensor .* got 3'),
    (dict(inputs={'rgb': GOOD}, info=[{}]), 'info must be a list of length B = 3, got 1'),
]


@pytest.mark.parametrize(('arguments', 'message'), BAD, ids=[m for _, m in BAD])
def test_bad_input_is_refused_in_one_line(host, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        host(**arguments)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('present', [None, torch.ones(3, 2, dtype=torch.bool)])
def test_an_input_of_an_unknown_name_is_refused(host, present):
    with pytest.raises(NameNotFound, match=r"No modality named 'detph'. Did you mean 'depth'"):
        host({'rgb': GOOD, 'detph': GOOD}, present)


def test_an_unknown_mode_is_refused(host):
    with pytest.raises(NameNotFound, match=r"No mode named 'train'. .*predict"):
        host({'rgb': GOOD}, mode='train')
    with pytest.raises(NameNotFound, match=r"encode_on.*'presnt'. Did you mean 'present'"):
        Pyramid(encode_on='presnt')


def test_the_modes_of_forward(host):
    host.eval()
    data = sample()
    prediction = host(**data)
    assert prediction.shape == (4, 3, *SIZE)
    outputs = host(**data, mode='predict')
    assert torch.equal(outputs.prediction, prediction)
    assert outputs.features.size == SIZE
    losses = host(**data, mode='loss')
    assert torch.equal(losses['loss_task'], F.cross_entropy(prediction, data['target']))


def test_a_modality_that_is_left_out_is_absent(host):
    host.eval()
    data = sample(absent=[(i, 'depth') for i in range(4)])
    expected = host(**data)
    assert torch.equal(host({'rgb': data['inputs']['rgb']}), expected)
    assert torch.equal(host({'rgb': data['inputs']['rgb']}, data['present']), expected)
    data['inputs']['depth'].fill_(torch.nan)
    assert torch.equal(host(**data), expected)


def test_columns_are_taken_by_name_from_data_that_has_more(host):
    host.eval()
    data = sample(('ir', 'depth', 'rgb'), absent=[(1, 'depth'), (2, 'rgb'), (3, 'ir')])
    expected = host({m: data['inputs'][m] for m in ('rgb', 'depth')}, data['present'][:, [2, 1]])
    assert torch.equal(host(**data, modalities=('ir', 'depth', 'rgb')), expected)


def test_the_size_is_that_of_the_first_modality_of_the_host():
    host = Pyramid(['rgb', 'depth'])
    small, large = torch.randn(2, 2, 5, 7), torch.randn(2, 2, 9, 11)
    for inputs in ({'rgb': large, 'depth': small}, {'depth': small, 'rgb': large}):
        assert host.features(host.make_batch(inputs)).size == (9, 11)


def test_features_say_whose_they_are():
    host = Pyramid(['rgb', 'depth'])
    present = torch.tensor([[True, True], [False, True]])
    batch = host.make_batch({m: torch.randn(2, 2, 5, 7) for m in host.modalities}, present)
    features = host.run(batch).features
    assert torch.equal(features.present, present)
    assert torch.equal(features.select(torch.tensor([False, True])).present, present[1:])


def test_the_preprocessor_is_built_from_its_arguments():
    host = Pyramid(data_preprocessor={'mean': {'rgb': 3.0}})
    assert host.data_preprocessor.scale('rgb') == 1
    with pytest.raises(InputError, match=r"data preprocessor .* no argument 'maen'. Did you mean 'mean'"):
        Pyramid(data_preprocessor={'maen': {'rgb': 3.0}})


def test_init_weights_changes_nothing(host):
    before = state(host)
    host.init_weights()
    assert_same(before, state(host))


# ---- as a whole


def test_a_host_with_plugins_can_be_copied_and_pickled():
    torch.manual_seed(0)
    plugin = Drawing()
    plugin.hold(teacher=nn.Linear(2, 2))
    host = Pyramid().plug(plugin)
    for twin in (copy.deepcopy(host), pickle.loads(pickle.dumps(host))):
        assert_same(state(host), state(twin))
        held = twin.plugins['Drawing'].teacher
        assert held is not plugin.teacher
        assert torch.equal(held.weight, plugin.teacher.weight)
        assert_same(train(copy.deepcopy(host)), train(twin))


def test_a_batch_and_its_features_can_be_pickled(host):
    outputs = host.eval().run(batch())
    twin = pickle.loads(pickle.dumps(outputs))
    assert twin.features.size == SIZE
    assert torch.equal(twin.prediction, outputs.prediction)
    whole = batch()
    assert torch.equal(pickle.loads(pickle.dumps(whole)).mask, whole.mask)


def test_preserved_random_state_covers_errors():
    random = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), preserved_random_state(torch.device('cpu')):
        torch.rand(3).tolist().append(1 / 0)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize('fusion', ['Concat', 'Gated', 'Attention'])
def test_the_whole_host_exports_and_compiles_without_a_break(fusion):
    host = create_host('late_fusion', modalities=['rgb', 'depth'], num_classes=3, encoder='test_resnet', fusion=fusion)
    host.eval()
    inputs = {m: torch.randn(3, 3, 32, 48) for m in host.modalities}
    present = torch.tensor([[True, True], [False, True], [True, False]])
    expected = host(inputs, present)
    torch._dynamo.reset()
    compiled = torch.compile(host, backend='eager', fullgraph=True)
    assert torch.equal(compiled(inputs, present), expected)
    exported = torch.export.export(host, (inputs, torch.ones_like(present))).module()
    inputs = {
        m: x.masked_fill(~here[:, None, None, None], torch.nan) for (m, x), here in zip(inputs.items(), present.T)
    }
    torch.testing.assert_close(exported(inputs, present), expected)


@pytest.mark.slow
def test_an_encoder_compiled_in_place_keeps_its_keys_and_its_numbers():
    torch.manual_seed(0)
    plain = create_host('late_fusion', modalities=['rgb', 'depth'], num_classes=3, encoder='test_resnet').train()
    compiled = copy.deepcopy(plain)
    compiled.encoders['rgb'].compile(dynamic=True, backend='aot_eager')  # the default takes minutes to generate code
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for size, absent in ((4, ()), (5, (0, 1)), (3, (0, 1)), (2, (0, 1))):  # complete, part, one row, none
        present = torch.ones(size, 2, dtype=torch.bool)
        present[list(absent), 0] = False
        inputs = {m: torch.randn(size, 3, 32, 48) for m in plain.modalities}
        for host in (plain, compiled):
            host.zero_grad()
            sum(host(inputs, present, torch.arange(size) % 3, mode='loss').values()).backward()
        for (name, p), q in zip(plain.named_parameters(), compiled.parameters()):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-5, msg=name)
    with compiled.aside():
        compiled(inputs, present)
