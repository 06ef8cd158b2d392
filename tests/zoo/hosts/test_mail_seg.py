"""MAIL-Seg beyond the contract: its size, its decoder, inputs of any size."""

import pytest
import torch
from mmengine.config import Config

from registry import InputError, NameNotFound
from zoo.engine.cost import host_cost
from zoo.hosts import MAILSeg

TINY = dict(type='ERLAEncoder', depths=(1, 1), widths=(16, 24), stem_width=16)


def build(**arguments):
    torch.manual_seed(0)
    head = dict(type='ERLADecoder', widths=(16, 8, 8))
    return MAILSeg(('rgb', 'ir'), 3, **{'encoder': TINY, 'head': head, 'pad_to': 8, **arguments})


def data(height=28, width=44):
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(2, 3, height, width, generator=generator) for m in ('rgb', 'ir')}
    return {'inputs': inputs, 'target': torch.randint(0, 3, (2, height, width), generator=generator)}


@pytest.mark.parametrize(
    ('widths', 'parameters', 'gflops'),
    [((192, 96, 64, 64, 64), 12_471_459, 7.884), ((256, 128, 64, 64, 64), 12_811_539, 8.136)],
)
def test_parameters_and_operations_are_those_of_the_specification(widths, parameters, gflops):
    model = dict(
        type='MAILSeg',
        modalities=['rgb', 'ir'],
        num_classes=1,
        fusion=dict(type='EMCAM', dct='none'),
        head=dict(type='ERLADecoder', widths=widths),
    )
    loader = dict(dataset=dict(type='DigitScenes', size=224))
    cost = host_cost(Config(dict(model=model, test_dataloader=loader, test_evaluator='MeanIoU')))
    assert cost.parameters == parameters
    assert 2 * cost.macs / 1e9 == pytest.approx(gflops, rel=2e-3)


@pytest.mark.parametrize(
    'arguments',
    [{}, {'fuse': 'concat'}, {'per_modality': True}, {'head': 'FCN8s'}, {'encoder': 'test_resnet', 'pad_to': 32}],
    ids=str,
)
def test_images_of_any_size_come_back_at_theirs_and_every_parameter_trains(arguments):
    host = build(**arguments)
    batch = data()
    assert host(batch['inputs']).shape == (2, 3, 28, 44)
    losses = host(**batch, mode='loss')
    sum(losses.values()).backward()
    assert not [n for n, p in host.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_the_bottleneck_is_the_sum_of_what_the_last_exchange_gives():
    host = build().eval()
    batch = host.make_batch(data(32, 48)['inputs'])
    *_, last = host.refined(batch)
    torch.testing.assert_close(host(batch.inputs), host.head([None, sum(last.values())]))


def test_decoders_of_modalities_are_averaged_over_those_that_are_present():
    host = build(per_modality=True).eval()
    batch = host.make_batch(**data(), present=torch.tensor([[True, True], [True, False]]))
    outputs = host.run(batch)
    rgb, ir = host.unimodal(outputs).values()
    torch.testing.assert_close(outputs.prediction[0], (rgb[0] + ir[0]) / 2)
    torch.testing.assert_close(outputs.prediction[1], rgb[1])
    loss = torch.nn.functional.cross_entropy
    expected = (loss(rgb, batch.target) + loss(ir[:1], batch.target[:1])) / 2
    torch.testing.assert_close(host.losses(outputs, batch)['loss_task'], expected)


def test_what_can_not_be_built_is_told():
    with pytest.raises(NameNotFound, match='way to fuse'):
        build(fuse='mean')
    with pytest.raises(InputError, match='can be taken stage by stage'):
        build(encoder='test_vit')
    with pytest.raises(InputError, match=r'doubles a map of 1/8 once'):
        build(head=dict(type='ERLADecoder', widths=(8,) * 4))
