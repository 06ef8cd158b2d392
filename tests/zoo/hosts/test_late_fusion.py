"""LateFusion beyond the contract: its parts, its losses, its unimodal predictions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from registry import ENCODERS, HOSTS, InputError, NameNotFound
from zoo.encoders import TimmEncoder
from zoo.hosts import LateFusion

MODALITIES = ('rgb', 'depth', 'ir')


def build(modalities=MODALITIES, **arguments):
    torch.manual_seed(0)
    return LateFusion(modalities, **{'num_classes': 4, 'encoder': 'test_resnet', **arguments})


def data(modalities=MODALITIES, size=5, channels=3, absent=()):
    generator = torch.Generator().manual_seed(1)
    present = torch.ones(size, len(modalities), dtype=torch.bool)
    for row, m in absent:
        present[row, modalities.index(m)] = False
    channels = channels if isinstance(channels, dict) else dict.fromkeys(modalities, channels)
    return {
        'inputs': {m: torch.randn(size, channels[m], 32, 48, generator=generator) for m in modalities},
        'present': present,
        'target': torch.randint(0, 4, (size,), generator=generator),
    }


def test_a_prediction_is_the_head_on_the_fused_features_of_the_encoders():
    host = build(fusion='Concat').eval()
    batch = data()
    features = [host.encoders[m](batch['inputs'][m]) for m in MODALITIES]
    assert torch.equal(host(**batch), F.linear(torch.cat(features, 1), host.head.weight, host.head.bias))


@pytest.mark.parametrize(
    ('encoder', 'kinds'),
    [
        ('test_resnet', ['ResNet'] * 3),
        ('TinyUsers', ['TinyUsers'] * 3),
        ({'model': 'test_vit'}, ['VisionTransformer'] * 3),
        ({'type': 'TimmEncoder', 'model': 'test_resnet'}, ['ResNet'] * 3),
        (
            {'rgb': 'test_vit', 'depth': {'model': 'test_resnet'}, 'ir': 'TinyUsers'},
            ['VisionTransformer', 'ResNet', 'TinyUsers'],
        ),
    ],
)
def test_encoders_are_named_in_many_ways(encoder, kinds, monkeypatch):
    class TinyUsers(nn.Module):
        def __init__(self, in_chans):
            super().__init__()
            self.out_channels = 2 * in_chans

        def forward(self, x):
            return x.mean((2, 3)).repeat(1, 2)

    monkeypatch.setitem(ENCODERS.module_dict, 'TinyUsers', TinyUsers)
    channels = {'rgb': 3, 'depth': 1, 'ir': 2}
    host = build(encoder=encoder, in_chans=channels, fusion='Sum')
    found = [e.model if isinstance(e, TimmEncoder) else e for e in host.encoders.values()]
    assert [type(e).__name__ for e in found] == kinds
    assert host(**data(channels=channels)).shape == (5, 4)


def test_an_encoder_may_be_built_with_channels_of_its_own():
    host = build(['rgb'], encoder={'model': 'test_resnet', 'in_chans': 2})
    assert host({'rgb': torch.randn(2, 2, 32, 48)}).shape == (2, 4)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'in_chans': {'rgb': 3}}, InputError, 'in_chans names no value for depth, ir'),
        (
            {'in_chans': {'rgb': 3, 'depht': 1, 'ir': 1}},
            NameNotFound,
            r"modality \(in in_chans\).*Did you mean 'depth'",
        ),
        ({'encoder': {'rgb': 'test_vit'}}, InputError, 'encoder names no value for depth, ir'),
        ({'encoder': {'rbg': 'test_vit'}}, NameNotFound, r"modality \(in encoder\) named 'rbg'"),
        ({'encoder': 'resnet_18'}, NameNotFound, "No timm model named 'resnet_18'"),
        ({'fusion': 'Concatt'}, NameNotFound, "No fusion named 'Concatt'. Did you mean 'Concat'"),
        ({'fusion': {'type': 'Sum', 'channels': 3}}, InputError, 'channels of the fusion Sum can not be chosen'),
        ({'head': 'Linear'}, NameNotFound, "No head named 'Linear'. Did you mean 'LinearHead'"),
        ({'loss': 'CrossEntropy'}, NameNotFound, "Did you mean 'CrossEntropyLoss'"),
        ({'num_classes': 0}, InputError, 'num_classes must be an integer of at least 1, got 0'),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        build(**arguments)


def test_branches_are_the_encoders_and_an_unknown_one_is_refused():
    host = build(aux_heads=True)
    assert {id(p) for p in host.branch('ir')} == {id(p) for p in host.encoders['ir'].parameters()}
    assert {id(p) for p in host.training_only()} == {id(p) for p in host.aux.parameters()}
    with pytest.raises(NameNotFound, match=r"No modality named 'irr'. Did you mean 'ir'"):
        list(host.branch('irr'))


def test_the_task_loss_is_the_mean_of_the_sample_losses():
    host = build().eval()
    batch = host.make_batch(**data(absent=[(1, 'rgb')]))
    outputs = host.run(batch)
    expected = F.cross_entropy(outputs.prediction, batch.target, reduction='none')
    assert torch.equal(host.sample_losses(outputs, batch), expected)
    torch.testing.assert_close(host.losses(outputs, batch), {'loss_task': expected.mean()})
    assert host.criterion.reduction == 'mean'


def test_auxiliary_losses_are_means_over_the_samples_that_have_the_modality():
    host = build(aux_heads=True, fusion='Gated').eval()
    arguments = data(absent=[(1, 'rgb'), (2, 'rgb'), *((i, 'ir') for i in range(5))])
    batch = host.make_batch(**arguments)
    outputs = host.run(batch)
    losses = host.losses(outputs, batch)
    assert list(losses) == ['loss_task', 'loss_aux_rgb', 'loss_aux_depth', 'loss_aux_ir']
    for m, rows in (('rgb', [0, 3, 4]), ('depth', [0, 1, 2, 3, 4])):
        logits = host.aux[m](host.encoders[m](arguments['inputs'][m][rows]))
        torch.testing.assert_close(losses[f'loss_aux_{m}'], F.cross_entropy(logits, batch.target[rows]))
    assert losses['loss_aux_ir'] == 0
    host.zero_grad()
    losses['loss_aux_rgb'].backward()
    moved = {n.split('.')[1] for n, p in host.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {'rgb'}


@pytest.mark.parametrize('fusion', ['Concat', 'Sum'])
def test_unimodal_shares_sum_to_the_prediction(fusion):
    host = build(fusion=fusion).eval()
    outputs = host.run(host.make_batch(**data()))
    shares = host.unimodal(outputs)
    assert list(shares) == list(MODALITIES)
    torch.testing.assert_close(sum(shares.values()), outputs.prediction, rtol=1e-4, atol=1e-5)
    shares['rgb'].sum().backward()
    assert not any(p.grad is not None and p.grad.any() for m in ('depth', 'ir') for p in host.branch(m))


@pytest.mark.parametrize(
    ('arguments', 'offered'),
    [
        ({'fusion': 'Concat'}, True),
        ({'fusion': {'type': 'Concat', 'out_channels': 8}}, False),
        ({'fusion': 'Gated'}, False),
        ({'fusion': 'Gated', 'aux_heads': True}, True),
    ],
)
def test_unimodal_predictions_are_offered_where_they_are_defined(arguments, offered):
    host = build(**arguments)
    assert ('unimodal' in host.offers) is offered
    assert (host.unimodal(host.run(host.make_batch(**data()))) is not None) is offered
    assert LateFusion.offers == {'features', 'unimodal', 'sample_losses'}


def test_the_true_class_probability_is_the_softmax_at_the_target():
    host = build()
    batch = host.make_batch(**data(size=2)).replace(target=torch.tensor([2, 0]))
    logits = torch.tensor([[0.0, 0.0, 3.0, 0.0], [1.0, 0.0, 0.0, 0.0]]).log1p()  # softmax of log(1 + x)
    expected = torch.tensor([4 / 7, 2 / 5])
    torch.testing.assert_close(host.true_class_probability(logits, batch), expected)


def test_several_labels_at_once_train_with_a_binary_loss():
    host = build(loss='BCEWithLogitsLoss', aux_heads=True)
    arguments = {**data(absent=[(0, 'rgb')]), 'target': torch.randint(0, 2, (5, 4)).float()}
    batch = host.make_batch(**arguments)
    outputs = host.run(batch)
    losses = host.sample_losses(outputs, batch)
    expected = F.binary_cross_entropy_with_logits(outputs.prediction, batch.target, reduction='none').mean(1)
    torch.testing.assert_close(losses, expected)
    total = sum(host(**arguments, mode='loss').values())
    total.backward()
    assert total.isfinite()


def test_a_loss_takes_class_weights_from_a_config():
    host = build(loss={'type': 'CrossEntropyLoss', 'weight': [1, 2, 3, 4], 'label_smoothing': 0.1})
    assert host.criterion.weight.tolist() == [1, 2, 3, 4]
    assert host(**data(), mode='loss')['loss_task'].isfinite()


def test_a_blank_stands_for_a_modality_that_no_sample_has():
    host = build(in_chans={'rgb': 3, 'depth': 1, 'ir': 2}).eval()
    arguments = data(channels={'rgb': 3, 'depth': 1, 'ir': 2}, absent=[(i, 'ir') for i in range(5)])
    expected = host(**arguments)
    del arguments['inputs']['ir']
    assert torch.equal(host(**arguments), expected)
    blank = host.blank('ir', host.make_batch(**arguments))
    assert blank.shape == (5, 2, 32, 48)
    assert blank.untyped_storage().nbytes() == 4


def test_the_host_is_registered():
    assert HOSTS.find('late_fusion') is LateFusion
