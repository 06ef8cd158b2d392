"""MAIL beyond the contract: published sizes, tasks, heads, what the encoders go on from."""

import pytest
import torch
from mmengine.config import Config

from registry import InputError, NameNotFound
from zoo.engine.cost import host_cost
from zoo.engine.sweep import sweep
from zoo.hosts import MAIL

TASKS = {'cells': 5, 'skin': 7}
TINY = dict(type='ERLAEncoder', depths=(1, 1), widths=(16, 24), stem_width=16)
TAPS = (1, 2, 3, 4)


def build(num_classes=4, count=2, **arguments):
    torch.manual_seed(0)
    names = ('cells', 'skin', 'ir')[:count]
    return MAIL(names, num_classes, **{'encoder': TINY, **arguments})


def data(target=None, count=2, size=4):
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(size, 3, 40, 36, generator=generator) for m in ('cells', 'skin', 'ir')[:count]}
    target = torch.arange(size) % 4 if target is None else target
    return {'inputs': inputs, 'target': target}


def labels(cells=(0, 4, 2, 1), skin=(6, 0, 3, 3)):
    return {'cells': torch.tensor(cells), 'skin': torch.tensor(skin)}


def emcam(**arguments):
    return dict(type='EMCAM', dct='none', **arguments)  # the published counts have no transform


@pytest.mark.parametrize(
    ('arguments', 'parameters', 'gflops'),
    [
        ({}, 11_739_444, 1.171),
        ({'fusion': None}, 9_878_316, 1.015),
        ({'fusion': emcam(share_weights=True, use_emsca=False)}, 10_235_120, None),
        ({'fusion': emcam(share_weights=True, use_mfifa=False)}, 10_458_800, None),
        ({'fusion': emcam(share_weights=True)}, 10_813_684, None),
        ({'fusion': emcam(pool='global')}, 11_739_444, 1.143),
        ({'fusion': emcam(pool='same')}, 11_739_444, 1.263),
        ({'encoder': 'mail_rn50'}, 20_042_132, 2.051),
        ({'encoder': 'mail_m2'}, 5_940_556, 0.486),
        ({'encoder': dict(model='mobilenetv2_100', out_indices=TAPS)}, 4_249_188, 0.398),
        ({'encoder': dict(model='resnet18', out_indices=TAPS), 'fusion': emcam(share_weights=True)}, 23_300_692, None),
        ({'preset': 'paper', 'fusion': 'EMCAM'}, 18_351_104, None),
        ({'preset': 'official'}, 11_376_372, 1.246),
        ({'modalities': 1}, 5_869_732, None),
        ({'modalities': 3}, 17_609_156, None),
        ({'modalities': 4}, 23_478_868, None),
    ],
    ids=str,
)
def test_parameters_and_operations_are_those_of_the_specification(arguments, parameters, gflops):
    count = arguments.get('modalities', 2)
    defaults = {'num_classes': TASKS, 'encoder': 'mail_rn18', 'fusion': emcam()}
    model = {'type': 'MAIL', **defaults, **arguments, 'modalities': [f'm{i}' for i in range(count)]}
    loader = dict(dataset=dict(type='DigitScenes', size=128)) if gflops else None
    cost = host_cost(Config(dict(model=model, test_dataloader=loader, test_evaluator='Accuracy')))
    assert cost.parameters == parameters
    if gflops:
        assert 2 * cost.macs / 1e9 == pytest.approx(gflops, rel=2e-3)


@pytest.mark.parametrize(
    'arguments',
    [
        {'num_classes': TASKS},
        {'num_classes': TASKS, 'per_modality_heads': True, 'count': 3},
        {'feedback': False},
        {'encoder': dict(type='ERLAPyramid', model='test_vit')},  # no chain: heads read every map
        {'encoder': dict(type='ERLAPyramid', model='test_resnet'), 'count': 1},
    ],
    ids=str,
)
def test_every_parameter_trains_and_no_exchange_is_without_a_reader(arguments):
    host = build(**arguments)
    vit = 'test_vit' in str(arguments)
    batch = data(labels() if host.several else None, arguments.get('count', 2))
    if vit:
        batch['inputs'] = {m: x[..., :32, :32] for m, x in batch['inputs'].items()}
        batch['inputs'] = {m: torch.nn.functional.interpolate(x, (64, 96)) for m, x in batch['inputs'].items()}
    sum(host(**batch, mode='loss').values()).backward()
    assert not [n for n, p in host.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not [n for n, p in host.exchanges.named_parameters() if not p.grad.any()]


def test_encoders_go_on_from_refined_maps():
    host = build().eval()
    x = data()['inputs']
    maps = dict(x)
    mask = torch.ones(4, 2, dtype=torch.bool)
    for i, exchange in enumerate(host.exchanges):
        maps = exchange.forward_each({m: host.encoders[m].steps[i](y) for m, y in maps.items()}, mask)
    by_hand = host.heads['task'](torch.cat([y.mean((2, 3)) for y in maps.values()], 1))
    torch.testing.assert_close(host(x), by_hand)


def test_shares_of_the_heads_add_up_to_the_prediction():
    host = build(TASKS, 3).eval()
    outputs = host.run(host.make_batch(data(count=3)['inputs']))
    alone = host.unimodal(outputs)
    for task, prediction in outputs.prediction.items():
        torch.testing.assert_close(sum(z[task] for z in alone.values()), prediction)


def test_heads_of_modalities_are_averaged_over_those_that_are_present():
    host = build(per_modality_heads=True).eval()
    present = torch.tensor([[True, True], [True, False], [False, True], [True, True]])
    batch = host.make_batch(**data(), present=present)
    outputs = host.run(batch)
    cells, skin = host.unimodal(outputs).values()
    torch.testing.assert_close(outputs.prediction[0], (cells[0] + skin[0]) / 2)
    torch.testing.assert_close(outputs.prediction[1], cells[1])
    each = [torch.nn.functional.cross_entropy(z[rows], batch.target[rows]) for z, rows in zip((cells, skin), present.T)]
    torch.testing.assert_close(host.losses(outputs, batch)['loss_task'], sum(each) / 2)
    host = build(per_modality_heads=True, task_weights={'task': {'cells': 0.2, 'skin': 3.0}}).eval()
    torch.testing.assert_close(host.losses(outputs, batch)['loss_task'], 0.2 * each[0] + 3 * each[1])


# ---- tasks


def test_unlabelled_samples_count_in_no_loss_of_that_task():
    host = build(TASKS, task_weights={'cells': 2.0, 'skin': 0.5}).eval()
    batch = host.make_batch(**data(labels(cells=(0, -1, 2, -1))))
    outputs = host.run(batch)
    losses = host.losses(outputs, batch)
    z, y = outputs.prediction, batch.target
    cells = torch.nn.functional.cross_entropy(z['cells'][[0, 2]], y['cells'][[0, 2]])
    skin = torch.nn.functional.cross_entropy(z['skin'], y['skin'], reduction='none')
    torch.testing.assert_close(losses, {'loss_cells': 2 * cells, 'loss_skin': 0.5 * skin.mean()})
    torch.testing.assert_close(host.sample_losses(outputs, batch)[1], 0.5 * skin[1])
    first = torch.tensor([True, False, False, False])
    one = host.unimodal_loss(z, batch, first)
    torch.testing.assert_close(one, host.sample_losses(outputs, batch)[0])
    p = host.true_class_probability(z, batch)
    torch.testing.assert_close(p[1], z['skin'][1].softmax(0)[0])


def test_a_task_without_any_label_has_a_loss_of_zero_and_one_warning():
    host = build(TASKS)
    with pytest.warns(UserWarning, match='no label for the task skin'):
        losses = host(**data(labels(skin=(-1,) * 4)), mode='loss')
    assert losses['loss_skin'] == 0
    losses['loss_skin'].backward()
    assert not host.heads['skin'].weight.grad.any()


def test_one_task_has_the_loss_of_any_host():
    host = build()
    batch = host.make_batch(**data())
    outputs = host.run(batch)
    expected = torch.nn.functional.cross_entropy(outputs.prediction, batch.target)
    torch.testing.assert_close(host.losses(outputs, batch), {'loss_task': expected})


def test_a_sweep_scores_each_task_on_every_subset():
    metric = dict(type='MultiTask', metrics=dict(cells='MultiClass', skin='Accuracy'))
    result = sweep(build(TASKS), [data(labels()), data(labels(skin=(-1, -1, 0, 1)))], metric)
    assert [r['modalities'] for r in result.rows] == [('cells',), ('skin',), ('cells', 'skin')]
    for row in result.rows:
        assert row['samples'] == 8
        scores = row['metrics']
        assert row['score'] == pytest.approx((scores['cells_accuracy'] + scores['skin_accuracy']) / 2)
    result.table()
    with pytest.raises(InputError, match=r'Accuracy takes logits.*MultiTask scores several tasks'):
        sweep(build(TASKS), [data(labels())], 'Accuracy')


# ---- encoders


def test_dropout_acts_in_training_or_always():
    x = data()['inputs']
    plain, always = build().eval(), build(encoder=dict(TINY, mc_dropout=True)).eval()
    assert torch.equal(plain(x), plain(x))
    assert not torch.equal(always(x), always(x))
    plain.train()
    assert not torch.equal(plain(x), plain(x))


def test_presets_reach_the_encoders_and_blocks_but_what_is_given_counts():
    host = build(preset='official')
    exchange = host.exchanges[0]
    assert exchange.mfifa.gates['cells'] is exchange.mfifa.gates['skin']
    assert exchange.emsca.pool == 'global'
    assert host.encoders['skin'].layer2[0].emila1.attention.descriptor == 'official'
    assert {n.eps for n in host.modules() if isinstance(n, torch.nn.BatchNorm2d)} == {1e-3}
    host = build(preset='paper', per_modality_heads=False, fusion=dict(type='EMCAM', gate=True))
    assert host.exchanges[0].mfifa.gates
    assert host.exchanges[0].mfifa.transform.axis == 'spatial'
    assert not host.encoders['cells'].layer1[0].emila1.official


def test_all_rows_are_encoded_where_one_wants_it_and_dropped_ones_go_on_alone():
    host = build(encode_on='all')
    batch = host.make_batch(**data())
    dropped = batch.restrict(torch.tensor([[True, True], [True, False], [True, True], [True, True]]))
    maps = list(host.refined(dropped))
    assert not maps[-1]['skin'][1].any()
    norm = host.encoders['skin'].layer2[0].norm2
    assert norm.running_mean.any()


# ---- mistakes


def test_what_can_not_be_built_is_told():
    with pytest.raises(InputError, match=r'each its own features back, as EMCAM, EMSCA, MFIFA do, got Concat'):
        build(fusion='Concat')
    with pytest.raises(InputError, match='same widths'):
        build(encoder={'cells': TINY, 'skin': dict(TINY, widths=(16, 32))})
    with pytest.raises(InputError, match=r'feedback=True needs encoders.*TimmPyramid'):
        build(encoder='test_vit', feedback=True)
    with pytest.raises(NameNotFound, match=r"preset named 'papr'.*'paper'"):
        build(preset='papr')
    with pytest.raises(InputError, match='num_classes of skin'):
        build({'cells': 5, 'skin': 0})
    with pytest.raises(InputError, match='names no task'):
        build({})
    with pytest.raises(NameNotFound, match=r"task \(in task_weights\) named 'skim'"):
        build(TASKS, task_weights={'cells': 1, 'skim': 1})
    with pytest.raises(InputError, match='at least 0 for skin, got None'):
        build(TASKS, task_weights={'cells': 1})
    with pytest.raises(InputError, match=r'task_weights maps names to numbers, got \[1, 2\]'):
        build(TASKS, task_weights=[1, 2])
    for wrong in ('x', -1):
        with pytest.raises(
            InputError, match=f'task_weights of task needs a number of at least 0 for cells, got {wrong!r}'
        ):
            build(task_weights={'task': {'cells': wrong, 'skin': 2}}, per_modality_heads=True)
    with pytest.raises(InputError, match='needs per_modality_heads=True'):
        build(task_weights={'task': {'cells': 1, 'skin': 1}})
    with pytest.raises(InputError, match='task_weights of task names no value for skin'):
        build(task_weights={'task': {'cells': 1}}, per_modality_heads=True)
    with pytest.raises(InputError, match=r'as many depths as widths.*depths=\(2, 2\)'):
        build(encoder=dict(type='ERLAEncoder', depths=(2, 2), widths=(8,)))


def test_what_can_not_be_run_is_told():
    host = build(TASKS)
    with pytest.raises(InputError, match='dict with labels of cells, skin; it is Tensor'):
        host(**data(), mode='loss')
    with pytest.raises(InputError, match='it lacks skin'):
        host(**data({'cells': torch.zeros(4).long()}), mode='loss')
    with pytest.raises(InputError, match=r'labels of skin must be int64 \(B,\) = \(4,\), got torch.float32'):
        host(**data({**labels(), 'skin': torch.zeros(4)}), mode='loss')
    with pytest.raises(InputError, match=r'A label of cells is 5, out of range: expected 0\.\.4'):
        host(**data(labels(cells=(5, 0, 0, 0))), mode='loss')
    with pytest.raises(InputError, match='at least 8x8, got 4x36'):
        host({m: x[:, :, :4] for m, x in data()['inputs'].items()})
