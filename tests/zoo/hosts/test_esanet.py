"""ESANet beyond the contract: published sizes, its road, what absent modalities do, its losses."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from registry import InputError
from zoo.datasets import IGNORE
from zoo.engine.cost import host_cost
from zoo.hosts import ESANet, ESANetMD
from zoo.rows import Rows

MODALITIES = ('rgb', 'depth')
RGBD = {'rgb': 3, 'depth': 1}
WIDE, NARROW = dict(type='ESANetDecoder'), dict(type='ESANetDecoder', widths=(128, 128, 128), blocks=1)


def build(modalities=MODALITIES, cls=ESANet, **arguments):
    torch.manual_seed(0)
    defaults = {
        'num_classes': 4,
        'encoder': dict(model='test_resnet'),
        'in_chans': {m: 3 if m == 'rgb' else 1 for m in modalities},
        'neck': dict(type='PyramidContext', width=32),
        'head': dict(type='ESANetDecoder', widths=(32, 24, 16), blocks=1),
    }
    return cls(modalities, **{**defaults, **arguments})


def data(modalities=MODALITIES, size=3, height=64, width=96):
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(0, 4, (size, height, width), generator=generator)
    target[:, :5] = IGNORE
    inputs = {m: torch.randn(size, 3 if m == 'rgb' else 1, height, width, generator=generator) for m in modalities}
    return {'inputs': inputs, 'target': target}


def cost(encoder, classes=40, kind='ppm', head=WIDE, modalities=MODALITIES, cls='ESANet'):
    neck = None if kind is None else dict(type='PyramidContext', kind=kind, width=512 if head is WIDE else 128)
    if neck and kind.startswith('a'):
        neck['train_size'] = (480, 640)
    model = dict(
        type=cls,
        modalities=list(modalities),
        num_classes=classes,
        in_chans={m: RGBD[m] for m in modalities},
        encoder=encoder,
        neck=neck,
        head=head,
    )
    data = dict(dataset=dict(type='NYUv2', size=(480, 640)))
    return host_cost(Config(dict(model=model, test_dataloader=data, test_evaluator='MeanIoU')))


R18, R34 = dict(type='ResNetNBt1D', depth=18), dict(type='ResNetNBt1D', depth=34)


@pytest.mark.parametrize(
    ('arguments', 'parameters', 'gmacs'),
    [
        (dict(encoder='resnet18'), 39_734_592, 35.452),
        (dict(encoder='resnet18', kind='appm-1-2-4-8'), 39_734_592, 35.454),
        (dict(encoder=R18), 33_458_496, 30.026),
        (dict(encoder='resnet34'), 59_950_912, 58.101),
        (dict(encoder=R34), 46_955_840, 45.125),
        (dict(encoder=R34, cls='ESANetMD'), 46_955_840, 45.125),
        (dict(encoder=R34, kind='appm-1-2-4-8'), 46_955_840, 45.127),
        (dict(encoder='resnet50'), 71_733_544, 65.231),
        (dict(encoder='resnet50', kind='appm-1-2-4-8'), 71_733_544, 65.266),
        (dict(encoder=R34, classes=37), 46_949_624, 45.048),
        (dict(encoder=R34, kind=None), 46_167_360, 44.964),
        (dict(encoder=R34, classes=19, kind='appm-1-2-4-8'), 46_912_328, 44.590),
        (dict(encoder='resnet18', head=NARROW), 23_975_232, 25.184),
        (dict(encoder=R34, head=NARROW), 31_196_480, 34.857),
        (dict(encoder='resnet50', head=NARROW), 54_467_112, 54.099),
        (dict(encoder=R34, modalities=['rgb']), 32_129_856, None),
        (dict(encoder=R34, modalities=['depth']), 32_123_584, None),
    ],
    ids=str,
)
def test_the_published_network_has_its_published_size(arguments, parameters, gmacs):
    found = cost(**arguments)
    assert found.parameters == parameters
    if gmacs:
        assert round(found.macs / 1e9, 3) == gmacs


def test_branches_have_their_published_size():
    found = cost(R34)
    assert found.branches == {'rgb': 14_787_136 + 45_120, 'depth': 14_780_864 + 45_120}
    assert found.training_only == 35_960


def reference(host, rgb, depth):
    """The road of the paper, written out for two complete modalities."""
    r, d, maps = rgb, depth, []
    for fuse, step_r, step_d in zip(host.fusions, host.encoders['rgb'].steps, host.encoders['depth'].steps):
        r, d = step_r(r), step_d(d)
        r = sum(x * fuse.excitations[m](x) for m, x in (('rgb', r), ('depth', d)))
        maps.append(r)
    return host.head(host.neck(maps))


def test_the_trunk_goes_on_from_the_fused_map_and_depth_from_its_own():
    host = build().eval()
    x = data()['inputs']
    torch.testing.assert_close(host(x), reference(host, x['rgb'], x['depth']))


def test_shapes_of_all_outputs():
    host, batch = build(), data(height=96, width=128)
    outputs = host.run(host.make_batch(**batch))
    shapes = [tuple(z.shape) for z in (outputs.prediction, *outputs.extras['side'])]
    assert shapes == [(3, 4, 96, 128), (3, 4, 12, 16), (3, 4, 6, 8), (3, 4, 3, 4)]
    assert host.eval().run(host.make_batch(**batch)).extras['side'] == []


def test_md_with_all_present_is_esanet_to_the_bit():
    x = data()
    plain, md = build().eval(), build(cls=ESANetMD).eval()
    present = torch.ones(3, 2, dtype=torch.bool)
    assert torch.equal(plain(x['inputs']), md(x['inputs'], present))
    for encode_on in ('all', 'dense'):
        torch.testing.assert_close(build(encode_on=encode_on).eval()(x['inputs']), plain(x['inputs']))


@pytest.mark.parametrize('absent', MODALITIES)
@pytest.mark.parametrize('encode_on', ['present', 'all', 'dense'])
def test_an_absent_modality_is_gated_before_all_five_fusions(absent, encode_on):
    host = build(encode_on=encode_on).eval()
    x = data()['inputs']
    other = next(m for m in MODALITIES if m != absent)
    present = torch.tensor([[m != absent for m in MODALITIES]] * 3)
    state, maps = x[other], []
    steps = host.encoders[other].steps
    for fuse, step in zip(host.fusions, steps):
        state = step(state)
        fused = state * fuse.excitations[other](state)
        maps.append(fused)
        state = fused if other == host.trunk else state
    expected = host.head(host.neck(maps))
    torch.testing.assert_close(host(x, present), expected)
    garbage = {**x, absent: torch.full_like(x[absent], torch.nan)}
    if encode_on != 'all':  # there the rows were dropped by a plugin, and hold what the data set delivered
        assert torch.equal(host(garbage, present), host(x, present))
    left_out = {other: x[other]}
    torch.testing.assert_close(host(left_out), expected)


def test_a_row_without_rgb_spares_the_trunk(monkeypatch):
    host = build().eval()
    seen = []
    take = Rows.take
    monkeypatch.setattr(Rows, 'take', lambda self, x: seen.append(len(y := take(self, x))) or y)
    present = torch.tensor([[True, True], [False, True], [True, False]])
    host(data()['inputs'], present)
    assert set(seen) == {2}  # of three rows
    monkeypatch.undo()
    calls = []
    monkeypatch.setattr(host.encoders['rgb'].model.layer4, 'forward', lambda x: calls.append(x))
    with torch.no_grad():
        host(data()['inputs'], torch.tensor([[False, True]] * 3))
    assert not calls


@pytest.mark.parametrize(('encode_on', 'counts'), [('present', False), ('all', True)])
def test_what_a_dropped_row_holds_counts_in_batch_statistics_only_where_all_are_encoded(encode_on, counts):
    statistics = []
    for shift in (0, 100):
        host, x = build(encode_on=encode_on), data()
        x['inputs']['depth'][0] += shift
        host.run(host.make_batch(**x).restrict(torch.tensor([[True, False], [True, True], [True, True]])))
        statistics.append(host.encoders['depth'].model.bn1.running_mean)
    assert torch.equal(*statistics) != counts


def test_the_loss_is_the_plain_sum_over_four_scales_of_weighted_cross_entropy():
    weight = [1.0, 2.0, 0.5, 0.25]
    host, batch = build(loss=dict(type='CrossEntropyLoss', weight=weight)), data(height=64, width=128)
    torch.manual_seed(1)
    losses = host(**batch, mode='loss')
    host = build(loss=dict(type='CrossEntropyLoss', weight=weight))
    torch.manual_seed(1)
    outputs = host.run(host.make_batch(**batch))
    assert list(losses) == ['loss_task', 'loss_side_8', 'loss_side_16', 'loss_side_32']
    for step, z, loss in zip((1, 8, 16, 32), (outputs.prediction, *outputs.extras['side']), losses.values()):
        target = batch['target'][:, ::step, ::step]
        expected = F.cross_entropy(z, target, torch.tensor(weight), ignore_index=IGNORE)
        torch.testing.assert_close(loss, expected)


def test_a_scale_without_valid_pixel_costs_nothing():
    host, batch = build(), data()
    batch['target'][:] = IGNORE
    batch['target'][:, 1, 1] = 0  # the grids of 1/8, 1/16 and 1/32 do not see it
    losses = host(**batch, mode='loss')
    assert losses['loss_task'] > 0
    assert [losses[f'loss_side_{n}'].item() for n in (8, 16, 32)] == [0, 0, 0]
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in host.parameters())


def test_auxiliary_heads_see_each_modality_alone():
    host = build(aux_heads=True)
    batch = host.make_batch(**data())
    first = host.unimodal(host.run(batch))
    other = batch.replace(inputs={**batch.inputs, 'depth': torch.randn(3, 1, 64, 96)})
    before = {k: v.clone() for k, v in host.state_dict().items()}
    outputs = host.run(other)
    after = {k: v.clone() for k, v in host.state_dict().items()}
    assert any(not torch.equal(v, before[k]) for k, v in after.items())
    found = host.unimodal(outputs)
    assert all(torch.equal(v, after[k]) for k, v in host.state_dict().items())  # the second pass leaves no trace
    torch.testing.assert_close(found['rgb'], first['rgb'])  # though the trunk has seen another depth
    assert not torch.allclose(found['depth'], first['depth'])
    assert host.unimodal(outputs)['rgb'] is not None
    losses = host(**data(), mode='loss')
    assert {'loss_aux_rgb', 'loss_aux_depth'} <= losses.keys()


@pytest.mark.parametrize('encoder', ['test_resnet', dict(type='ResNetNBt1D', depth=18)])
def test_what_is_compiled_is_called_as_a_whole(encoder, monkeypatch):
    host, called = build(encoder=encoder).eval(), []
    parts = list(host.compilable())
    for part in parts:
        monkeypatch.setattr(part, 'forward', lambda x, p=part, f=part.forward: called.append(id(p)) or f(x))
    host(data()['inputs'])
    assert sorted(called) == sorted(id(p) for p in parts)
    covered = {id(p) for part in parts for p in part.parameters()}
    assert covered == {id(p) for p in host.encoders.parameters()}


def test_three_modalities_reduce_to_two_when_one_adds_nothing():
    names = ('rgb', 'depth', 'ir')
    three, two = build(names).eval(), build().eval()
    own = {k: v for k, v in three.state_dict().items() if '.ir.' not in k}
    two.load_state_dict(own)
    x = data(names)['inputs']
    present = torch.tensor([[True, True, False]] * 3)
    torch.testing.assert_close(three(x, present), two({m: x[m] for m in MODALITIES}))


@pytest.mark.parametrize('encoder', ['test_convnext', dict(model='swin_tiny_patch4_window7_224', depths=(1, 1, 1, 1))])
def test_other_chains_of_stages_work(encoder):
    host = build(encoder=encoder)
    losses = host(**data(), mode='loss')
    assert all(v.isfinite() for v in losses.values())
    assert host.eval()(data()['inputs']).shape == (3, 4, 64, 96)


def test_encoders_of_different_widths_are_brought_to_the_trunks():
    host = build(encoder={'rgb': 'test_resnet', 'depth': 'resnet18'})
    assert [f.out_channels for f in host.fusions] == host.encoders['rgb'].out_channels
    assert host.eval()(data()['inputs']).shape == (3, 4, 64, 96)


def test_any_size_with_padding():
    host = build(pad_to=32).eval()
    assert host(data(height=50, width=70)['inputs']).shape == (3, 4, 50, 70)


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (dict(encoder='test_vit'), r'test_vit\) can not be taken stage by stage.*EncoderDecoder'),
        (dict(encoder=dict(type='TimmEncoder', model='test_resnet')), 'pyramid of maps'),
        (dict(encoder={'rgb': 'test_resnet', 'depth': 'test_convnext'}), 'same reductions'),
        (dict(modalities=()), 'one or more'),
    ],
)
def test_mistakes(arguments, match):
    with pytest.raises(InputError, match=match):
        build(**arguments)


def test_sizes_that_do_not_fit_are_refused_in_words():
    with pytest.raises(InputError, match=r'ESANet takes images whose sides are multiples of 32, got 50x96'):
        build()(data(height=50)['inputs'])


@pytest.mark.parametrize('absent', [*MODALITIES, 'both in turn'])
@pytest.mark.parametrize('encode_on', ['present', 'dense'])
def test_no_parameter_is_without_gradient_whatever_a_batch_lacks(absent, encode_on):
    host = build(encode_on=encode_on)  # its decoder does not use the finest map: only the trunk goes on from it
    present = torch.tensor([[m != absent for m in MODALITIES]] * 2)
    if absent == 'both in turn':
        present = torch.tensor([[True, False], [False, True]])
    losses = host(**data(size=2), present=present, mode='loss')
    sum(losses.values()).backward()
    assert not [n for n, p in host.named_parameters() if p.grad is None]
    if absent in MODALITIES:
        assert not any(p.grad.any() for p in host.branch(absent))


def test_losses_without_gradients_and_without_a_modality():
    host, x = build(aux_heads=True), data()
    present = torch.tensor([[True, False]] * 3)
    with torch.no_grad():
        assert {'loss_aux_rgb', 'loss_aux_depth'} <= host(**x, present=present, mode='loss').keys()
        assert 'loss_task' in host.eval()(**x, present=present, mode='loss')


def test_side_outputs_are_trained_on_labels_padded_like_the_inputs():
    host, x = build(pad_to=32), data(height=90, width=96)
    x['target'][:] = (torch.arange(90) >= 80)[:, None]
    host.criterion = Spy()
    losses = host(**x, mode='loss')
    assert list(losses) == ['loss_task', 'loss_side_8', 'loss_side_16', 'loss_side_32']
    whole = F.pad(x['target'], (0, 0, 0, 6), value=IGNORE)
    for found, step in zip(host.criterion.targets[1:], (8, 16, 32)):
        assert torch.equal(found, whole[:, ::step, ::step])


class Spy(torch.nn.Module):
    """A loss that keeps its targets."""

    def __init__(self):
        super().__init__()
        self.targets = []

    def forward(self, prediction, target):
        self.targets.append(target)
        return prediction.sum()


def test_in_eval_dropped_rows_are_not_encoded_even_where_training_encodes_all():
    host = build(encode_on='all').eval()
    calls = []
    forward = host.encoders['depth'].model.layer4.forward
    host.encoders['depth'].model.layer4.forward = lambda x: calls.append(len(x)) or forward(x)
    batch = host.make_batch(**data())
    masks = torch.tensor([[True, False], [False, True], [True, True]])
    with torch.no_grad():
        assert len([o for o in host.run_subsets(batch, masks) if o is not None]) == 3
    assert calls == [3, 3]
