"""Intervention: what is compared, what has a gradient, and that the batch of the task stays as it is."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from plugins import Intervention, ModalityDropout, Plugin
from plugins.intervention import drop, gate_regulariser, hide, joint_gates, run_together
from registry import PLUGINS, InputError, NameNotFound
from zoo import Features, MultimodalHost, Outputs, fusion
from zoo.hosts import SFMD, EncoderDecoder, LateFusion

NARROW = {'model': 'test_resnet', 'stem_width': 4, 'channels': (8, 8, 8, 16)}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(*modalities, **arguments):
    torch.manual_seed(0)
    return LateFusion(list(modalities or ('rgb', 'ir')), num_classes=5, encoder=NARROW, **arguments)


def data(host, size=6):
    inputs = {m: draw(size, 3, 32, 48, seed=i) for i, m in enumerate(host.modalities)}
    return {'inputs': inputs, 'target': torch.arange(size) % 5}


def still(host):
    """Training mode without anything random or of the batch, so that a pass can be repeated."""
    host.train()
    for m in host.modules():
        if isinstance(m, nn.modules.batchnorm._NormBase):
            m.training = False
    return host


class Adder(MultimodalHost):
    """Adds its images up: a host without classes, with gates."""

    task = 'fusion'
    offers = frozenset({'features'})

    def __init__(self, modalities=('a', 'b')):
        super().__init__(modalities)
        self.scale = nn.ParameterDict({m: nn.Parameter(torch.tensor(1.0)) for m in self.modalities})
        self.in_chans = dict.fromkeys(self.modalities, 1)

    def encode(self, batch):
        return {
            m: self.encode_rows(nn.Identity(), batch.inputs[m], r)
            for m, r in zip(self.modalities, batch.present.unbind(1))
        }

    def fuse(self, features, mask):
        columns = zip(self.modalities, mask.view(*mask.shape, 1, 1, 1).unbind(1))
        return sum(torch.where(here, self.scale[m] * features[m], 0) for m, here in columns)

    def decode(self, fused, features):
        return Outputs(fused, features, {'gates': [F.avg_pool2d(fused, 2).sigmoid()]})

    def losses(self, outputs, batch):
        return {'loss_task': outputs.prediction.square().mean()}

    def branch(self, modality):
        return [self.scale[modality]]


class Normed(nn.Module):
    """The least of an encoder that has running statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.widen = nn.Conv2d(3, 16, 1)

    def forward(self, x):
        return self.widen(self.norm(x)).mean((2, 3))


def test_the_losses_are_those_of_the_variants():
    host = still(build()).plug(plugin := Intervention(alpha=2.0, beta=3.0, block=8))
    still(host)
    batch = host.make_batch(**data(host))
    losses = host(**data(host), mode='loss')
    y, target = host.run(batch), batch.target
    kl = []
    for kind in ('complementary', 'random'):
        z = host.run(plugin.masked(host, batch, kind)).prediction
        kl.append(F.kl_div(z.log_softmax(1), y.prediction.softmax(1), reduction='batchmean'))
    torch.testing.assert_close(losses['loss_intervention'], 2 * sum(kl) / 2)
    each = F.cross_entropy(y.prediction, target, reduction='none')
    expected = 0.0
    for m, other in (('rgb', 'ir'), ('ir', 'rgb')):
        without = F.cross_entropy(host.run(drop(batch, m)).prediction, target, reduction='none')
        own = F.cross_entropy(host.run(drop(batch, other)).prediction, target, reduction='none')
        knows = (1 - own / math.log(5)).clamp(0, 1)
        expected = expected + (each - without + 0.1 * knows).relu().mean() / 2
    torch.testing.assert_close(losses['loss_necessity'], 3 * expected)


def test_pull_adds_up_how_far_predictions_are_without_each_modality():
    host = still(build()).plug(Intervention(beta=1.0, block=8, necessity='pull'))
    still(host)
    batch = host.make_batch(**data(host))
    y = host.run(batch).prediction
    expected = sum(
        F.kl_div(host.run(drop(batch, m)).prediction.log_softmax(1), y.softmax(1), reduction='batchmean')
        for m in host.modalities
    )
    torch.testing.assert_close(host(**data(host), mode='loss')['loss_necessity'], expected)


def test_a_modality_may_be_called_like_a_variant():
    found = []
    for name in ('rgb', 'random'):
        host = still(build(name, 'ir')).plug(Intervention(block=8))
        found.append(still(host)(**data(host), mode='loss'))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_a_host_with_gates_weighs_places_by_those_of_the_masked_pass_and_regularises_them():
    host = Adder().plug(plugin := Intervention(alpha=1.0, block=4, necessity='pull', detach_clean=False)).train()
    inputs = {m: draw(3, 1, 16, 24, seed=i) for i, m in enumerate(host.modalities)}
    batch = host.make_batch(inputs)
    losses = host(inputs, mode='loss')
    y, expected = host.run(batch).prediction, 0.0
    for kind in ('complementary', 'random'):
        found = host.run(plugin.masked(host, batch, kind))
        gates = F.interpolate(found.extras['gates'][0], (16, 24), mode='bilinear', align_corners=False)
        expected = expected + ((found.prediction - y).abs() * gates).mean() / 2 + gate_regulariser(gates) / 2
    torch.testing.assert_close(losses['loss_intervention'], expected)
    pulled = sum((host.run(drop(batch, m)).prediction - y).abs().mean() for m in host.modalities)
    torch.testing.assert_close(losses['loss_necessity'], 0.05 * pulled)


CFI = {'type': 'CFI', 'pool': 2}
PYRAMID = {'encoder': NARROW, 'head': {'type': 'smp.FPN', 'decoder_pyramid_channels': 16, 'decoder_dropout': 0.0}}


@pytest.mark.parametrize('passes', ['sequential', 'batched'])
@pytest.mark.parametrize('kind', ['vectors', 'maps', 'maps before vectors'])
def test_the_gates_of_fusion_blocks_count_in_any_host(kind, passes):
    torch.manual_seed(0)
    if kind == 'vectors':
        host = build(fusion=CFI)
    elif kind == 'maps':
        host = EncoderDecoder(['rgb', 'ir'], num_classes=5, fusion=CFI, pad_to=32, **PYRAMID)
    else:
        host = SFMD(
            ['rgb', 'ir'], 5, encoder={'type': 'ResNetSEStem', 'channels': (4, 8)}, trunk_channels=(8, 8), fusion=CFI
        )
    host = still(host).plug(plugin := Intervention(alpha=1.0, beta=0.0, block=8, passes=passes))
    still(host)
    inputs = data(host)['inputs']
    if kind == 'maps':
        target = torch.arange(6 * 32 * 48).view(6, 32, 48) % 5
    else:
        target = torch.arange(6) % 5
    batch = host.make_batch(inputs, target=target)
    seen = []
    for block in host.modules():
        if isinstance(block, fusion.CFI):
            block.gates.register_forward_hook(lambda _, args, gate: seen.append(gate))
    y, expected = host.run(batch), 0.0
    for masks in ('complementary', 'random'):
        seen.clear()
        z = host.run(plugin.masked(host, batch, masks))
        if kind == 'maps':
            gates = [F.interpolate(g, (32, 48), mode='bilinear', align_corners=False) for g in seen]
        else:
            gates = [g.flatten(1).mean(1, keepdim=True) for g in seen]
        gates = sum(gates) / len(gates)
        distance = F.kl_div(z.prediction.log_softmax(1), y.prediction.softmax(1), reduction='none').sum(1)
        expected = expected + ((distance * gates[:, 0]).mean() + gate_regulariser(gates)) / 2
    losses = host(inputs, target=target, mode='loss')
    torch.testing.assert_close(losses['loss_intervention'], expected)
    losses['loss_intervention'].backward()
    assert all(p.grad.any() for b in host.modules() if isinstance(b, fusion.CFI) for p in b.gate.parameters())


@pytest.mark.parametrize(
    ('gate', 'eta', 'sign', 'value'), [(0.3, 0.3, -1, -0.610864), (0.5, 0.3, -1, -0.493147), (0.3, 0.3, 1, 0.610864)]
)
def test_the_regulariser_of_constant_gates(gate, eta, sign, value):
    assert float(gate_regulariser(torch.full((2, 1, 4, 6), gate), eta, sign)) == pytest.approx(value, abs=1e-6)
    closed = gate_regulariser(torch.zeros(1, 1, 2, 2, dtype=torch.float16).requires_grad_())
    assert closed.isfinite()


def test_without_masks_nothing_moves():
    host = still(build()).plug(Intervention(ratio=0.0, necessity='none'))
    still(host)
    assert host(**data(host), mode='loss')['loss_intervention'] == 0


@pytest.mark.parametrize('passes', ['sequential', 'batched'])
def test_without_weight_training_is_what_it_is_without(passes):
    results = []
    for plugin in (None, Intervention(alpha=0.0, beta=0.0, block=8, passes=passes)):
        host = build().train()
        host = host.plug(plugin) if plugin else host
        torch.manual_seed(1)
        losses = host(**data(host), mode='loss')
        sum(losses.values()).backward()
        grads = {k: p.grad for k, p in host.named_parameters()}
        results.append((losses['loss_task'], grads, dict(host.named_buffers()), torch.rand(1)))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_variants_may_update_running_statistics_as_published():
    counts = []
    for statistics in ('freeze_running', 'update'):
        host = build().plug(Intervention(block=8, statistics=statistics)).train()
        host(**data(host), mode='loss')
        norm = next(m for m in host.modules() if isinstance(m, nn.BatchNorm2d))
        counts.append(int(norm.num_batches_tracked))
    # clean, complementary, random, and without ir; without rgb its encoder sees nothing
    assert counts == [1, 4]


def test_statistics_that_a_later_pass_updates_do_not_spoil_a_gradient():
    found = []
    present = torch.ones(6, 2, dtype=torch.bool)
    present[0, 1] = False  # without rgb this one is left, and its encoder takes running statistics
    for compiled in (False, True):
        torch.manual_seed(0)
        host = build(in_chans=3)
        host.encoders = nn.ModuleDict({m: Normed() for m in host.modalities})
        host.plug(Intervention(block=8, necessity='pull', statistics='update')).train()
        for encoder in host.encoders.values() if compiled else ():
            encoder.compile(backend='aot_eager', dynamic=True)
        sum(host(**data(host), present=present, mode='loss').values()).backward()
        norm = host.encoders['rgb'].norm
        found.append((norm.weight.grad, norm.running_mean.clone(), norm.num_batches_tracked.clone()))
    assert found[0][2] == 4  # the clean pass, both masked ones and that without ir
    torch.testing.assert_close(*found)


def test_one_pass_for_all_variants_gives_what_one_after_the_other_does():
    results = []
    for passes in ('sequential', 'batched'):
        host = still(build('rgb', 'ir', 'depth')).plug(Intervention(block=8, passes=passes, alone=True))
        still(host)
        batch = data(host)
        present = torch.ones(6, 3, dtype=torch.bool)
        present[0, 1:] = present[1, 0] = False
        results.append(host(**batch, present=present, mode='loss'))
        host.separable = False
        results.append(host(**batch, present=present, mode='loss'))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_variants_run_together_where_no_layer_mixes_samples():
    batched = Intervention()
    assert not batched._batches(build().train())
    assert batched._batches(build().eval())
    assert batched._batches(nn.ModuleList([nn.InstanceNorm2d(2), nn.GroupNorm(1, 2)]).train())


@pytest.mark.parametrize('separable', [True, False])
def test_margin_has_no_gradient_through_what_is_worse_and_encoders_that_are_apart_run_three_times(separable):
    host = still(build()).plug(Intervention(block=8, passes='sequential'))
    still(host)
    host.separable = separable
    seen, calls = [], []
    decode = host.decode

    def watched(fused, features):
        outputs = decode(fused, features)
        seen.append(outputs.prediction.requires_grad)
        return outputs

    host.decode = watched
    host.encoders['rgb'].register_forward_hook(lambda *_: calls.append(1))
    host(**data(host), mode='loss')
    assert seen == [True] * 3 + [False] * 2
    assert len(calls) == (3 if separable else 5)


def test_a_sample_of_one_modality_keeps_it_and_needs_nothing():
    host = still(build()).plug(Intervention(block=8))
    still(host)
    batch = data(host)
    present = torch.tensor([[True, False]] * 3 + [[True, True]] * 3)
    batch['inputs']['ir'][:3] = torch.nan
    losses = host(**batch, present=present, mode='loss')
    assert all(v.isfinite() for v in losses.values())
    alone = host(**batch, present=torch.tensor([[True, False]] * 6), mode='loss')
    assert alone['loss_necessity'] == 0


def test_no_plugin_acts_in_the_pass_of_a_variant():
    class Counter(Plugin):
        calls = 0

        def on_inputs(self, host, batch):
            Counter.calls += 1
            return batch

        def on_features(self, host, batch, features):
            Counter.calls += 1
            return features

    host = build().plug(Counter(), ModalityDropout(), Intervention(block=8)).train()
    host(**data(host), mode='loss')
    assert Counter.calls == 2


def test_nothing_happens_in_eval_mode():
    host = build().plug(Intervention())
    assert set(host.eval()(**data(host), mode='loss')) == {'loss_task'}


def test_draws_follow_the_iteration():
    host = still(build()).plug(plugin := Intervention(block=8))
    batch = host.make_batch(**data(host))
    first, again = (plugin.masked(host, batch, 'complementary').inputs['rgb'] for _ in range(2))
    assert torch.equal(first, again)
    host.clock.iteration = 1
    assert not torch.equal(plugin.masked(host, batch, 'complementary').inputs['rgb'], first)


def test_hidden_places_hold_the_mean_or_what_zero_is_in_the_data():
    host = build(data_preprocessor={'mean': {'rgb': [10.0, 20.0, 30.0]}, 'std': {'rgb': 2.0}})
    x, kept = draw(2, 3, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    assert not hide(host, 'rgb', x, kept).any()
    found = hide(host, 'rgb', x, kept, 'zero')
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([-5.0, -10.0, -15.0]))


def test_some_modalities_at_a_time():
    host = build('rgb', 'ir', 'depth').plug(plugin := Intervention(dropped=1, block=8)).train()
    taken = set()
    for i in range(12):
        host.clock.iteration = i
        (m,) = plugin._taken(host)
        taken.add(m)
    assert taken == set(host.modalities)
    assert host(**data(host), mode='loss')['loss_necessity'].isfinite()


def test_segmentation_counts_places_with_a_label():
    torch.manual_seed(0)
    host = EncoderDecoder(['rgb', 'ir'], num_classes=4, encoder={**NARROW, 'out_indices': (2, 3, 4)}, head='FCN8s')
    still(host).plug(plugin := Intervention(alpha=1.0, block=8, necessity='none'))
    still(host)
    target = torch.arange(2).view(2, 1, 1).repeat(1, 32, 64)
    target[:, :9] = 255
    inputs = {m: draw(2, 3, 32, 64, seed=i) for i, m in enumerate(host.modalities)}
    batch = host.make_batch(inputs, target=target)
    y, expected = host.run(batch).prediction, 0.0
    for kind in ('complementary', 'random'):
        z = host.run(plugin.masked(host, batch, kind)).prediction
        each = F.kl_div(z.log_softmax(1), y.softmax(1), reduction='none').sum(1)
        expected = expected + each[target != 255].mean() / 2
    torch.testing.assert_close(host(inputs, target=target, mode='loss')['loss_intervention'], expected)


def test_running_together_takes_nests_apart():
    class Pair(Adder):
        def decode(self, fused, features):
            return Outputs({'x': fused, 'y': [fused.mean((2, 3))]}, features, {})

    host = Pair()
    batch = host.make_batch({m: draw(2, 1, 8, 8, seed=i) for i, m in enumerate(host.modalities)})
    variants = {'whole': batch, 'less': drop(batch, 'a')}
    together = run_together(host, variants)
    for name, variant in variants.items():
        torch.testing.assert_close(together[name].prediction, host.run(variant).prediction)


@pytest.mark.parametrize('places', [(), (5,), (4, 6)])
def test_gates_of_other_places_count_by_their_mean(places):
    gate = draw(2, 1, 3, 3, 3).sigmoid()
    found = joint_gates(Outputs(torch.zeros(2, 7, *places), Features(), {'gates': [gate]}))
    torch.testing.assert_close(found, gate.mean((1, 2, 3, 4)).view(2, 1, *[1] * len(places)))


def test_gates_of_a_host_without_any_are_none():
    assert joint_gates(Outputs(torch.zeros(1, 2), Features(), {})) is None


@pytest.mark.parametrize(
    ('arguments', 'error', 'words'),
    [
        ({'alpha': -1}, InputError, 'alpha must be a finite number of at least 0, got -1'),
        ({'eta': 1}, InputError, r'eta must be in \(0, 1\), got 1'),
        ({'entropy_sign': 0}, InputError, 'entropy_sign must be -1 or 1'),
        ({'dropped': 0}, InputError, 'dropped must be an integer of at least 1'),
        ({'count': (2, 1)}, InputError, 'fewest <= most'),
        ({'necessity': 'push'}, NameNotFound, 'margin, none, pull'),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, error, words):
    with pytest.raises(error, match=words):
        PLUGINS.build({'type': 'Intervention', **arguments})


def test_one_modality_is_too_few():
    with pytest.raises(InputError, match='needs at least 2 modalities'):
        build('rgb').plug(Intervention())
