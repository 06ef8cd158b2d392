"""EncoderDecoder beyond the contract: published sizes, its losses, its parts, its input sizes."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from registry import InputError, NameNotFound
from zoo.datasets import IGNORE
from zoo.engine.cost import host_cost
from zoo.hosts import EncoderDecoder
from zoo.losses import CrossEntropyLoss

MODALITIES = ('rgb', 'depth')


def build(modalities=MODALITIES, **arguments):
    torch.manual_seed(0)
    defaults = {'num_classes': 4, 'encoder': 'test_resnet', 'in_chans': {m: 3 if m == 'rgb' else 1 for m in modalities}}
    return EncoderDecoder(modalities, **{**defaults, **arguments})


def data(modalities=MODALITIES, size=3, height=32, width=64):
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(0, 4, (size, height, width), generator=generator)
    target[:, :5] = IGNORE
    inputs = {m: torch.randn(size, 3 if m == 'rgb' else 1, height, width, generator=generator) for m in modalities}
    return {'inputs': inputs, 'target': target}


@pytest.mark.parametrize(
    ('modality', 'parameters', 'gmacs'), [('rgb', 12_339_320, 21.576), ('depth', 12_333_048, 21.094)]
)
def test_deeplabv3plus_of_one_modality_has_the_size_of_smp(modality, parameters, gmacs):
    model = dict(
        type='EncoderDecoder',
        modalities=[modality],
        num_classes=40,
        in_chans=3 if modality == 'rgb' else 1,
        encoder=dict(model='resnet18', output_stride=16),
        fusion='Concat',
        head='smp.DeepLabV3Plus',
    )
    dataset = dict(type='NYUv2', size=(480, 640))
    cost = host_cost(Config(dict(model=model, test_dataloader=dict(dataset=dataset), test_evaluator='MeanIoU')))
    assert cost.parameters == parameters
    assert round(cost.macs / 1e9, 3) == gmacs


def test_one_modality_is_smp_itself():
    import segmentation_models_pytorch as smp

    model = smp.Unet('resnet18', encoder_weights=None, classes=4).eval()
    host = build(['rgb'], encoder='resnet18', fusion='Concat', head='smp.Unet').eval()
    host.head.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith('encoder.')})
    host.encoders['rgb'].model.load_state_dict(model.encoder.state_dict())
    inputs = data(['rgb'])['inputs']
    torch.testing.assert_close(host(inputs), model(inputs['rgb']))


def test_only_the_levels_that_the_head_uses_are_fused():
    host = build(head='smp.FPN')
    assert host.levels == [1, 2, 3, 4]
    assert list(host.fusions) == ['1', '2', '3', '4']
    batch = host.make_batch(**data())
    assert host.run(batch).extras['fused'][0] is None


def test_each_level_can_have_its_own_fusion():
    host = build(head='smp.FPN', fusion=['Sum', 'Sum', 'Gated', dict(type='Concat', out_channels=8), 'Attention'])
    assert [type(f).__name__ for f in host.fusions.values()] == ['Sum', 'Gated', 'Concat', 'Attention']
    assert host(data()['inputs']).shape == (3, 4, 32, 64)


def test_encoders_can_differ_where_their_maps_have_one_size():
    host = build(encoder={'rgb': 'resnet18', 'depth': dict(model='test_resnet')}, fusion='Sum')
    assert host(data()['inputs']).shape == (3, 4, 32, 64)
    with pytest.raises(
        InputError, match=r"same reductions, got {'rgb': \[2, 4, 8, 16, 32\], 'depth': \[4, 8, 16, 32\]}"
    ):
        build(encoder={'rgb': 'test_resnet', 'depth': 'test_convnext'})


@pytest.mark.parametrize(
    'encoder', ['pvt_v2_b0', 'test_convnext', dict(model='swin_tiny_patch4_window7_224', depths=(1, 1, 1, 1))]
)
@pytest.mark.parametrize('head', ['smp.Segformer', 'mmseg.SegformerHead'])
def test_transformers_and_their_decoders(encoder, head):
    host = build(encoder=encoder, head=head).eval()
    assert host(data()['inputs']).shape == (3, 4, 32, 64)


def test_losses_ignore_what_they_are_told_to_and_side_with_torch():
    host = build(aux_heads=True).eval()
    batch = data()
    losses = host(**batch, mode='loss')
    assert list(losses) == ['loss_task', 'loss_aux_rgb', 'loss_aux_depth']
    logits = host(batch['inputs'])
    torch.testing.assert_close(losses['loss_task'], F.cross_entropy(logits, batch['target'], ignore_index=IGNORE))


@pytest.mark.parametrize('weight', [None, [1.0, 2.0, 0.5, 0.0]])
def test_the_loss_of_a_sample_is_that_of_a_batch_of_it(weight):
    host = build(loss=dict(type='CrossEntropyLoss', weight=weight)).eval()
    batch = host.make_batch(**data())
    batch.target[1, :20] = IGNORE
    outputs = host.run(batch)
    found = host.sample_losses(outputs, batch)
    for i, loss in enumerate(found):
        z, t = outputs.prediction[i : i + 1], batch.target[i : i + 1]
        expected = F.cross_entropy(z, t, weight and torch.tensor(weight), ignore_index=IGNORE)
        torch.testing.assert_close(loss, expected)
    rows = torch.tensor([True, False, True])
    two = F.cross_entropy(
        outputs.prediction[rows], batch.target[rows], weight and torch.tensor(weight), ignore_index=IGNORE
    )
    torch.testing.assert_close(host.unimodal_loss(outputs.prediction, batch, rows), two)


def test_a_set_loss_treats_each_sample_as_a_set():
    host = build(loss=dict(type='smp.DiceLoss', mode='multiclass')).eval()
    batch = host.make_batch(**data())
    outputs = host.run(batch)
    expected = [host.criterion(outputs.prediction[i : i + 1], batch.target[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(host.sample_losses(outputs, batch), torch.stack(expected))


def test_the_true_class_probability_is_a_mean_over_valid_pixels():
    host = build()
    batch = host.make_batch(**data())
    batch.target[2] = IGNORE
    z = torch.randn(3, 4, 32, 64)
    found = host.true_class_probability(z, batch)
    valid = batch.target != IGNORE
    p = z.softmax(1).gather(1, batch.target.where(valid, 0)[:, None])[:, 0]
    torch.testing.assert_close(found[:2], torch.stack([p[i][valid[i]].mean() for i in range(2)]))
    assert found[2].isnan()


def test_any_size_with_padding():
    host = build(pad_to=32).eval()
    x = data(height=50, width=70)['inputs']
    found = host(x)
    assert found.shape == (3, 4, 50, 70)
    padded = {m: F.pad(v, (0, 26, 0, 14)) for m, v in x.items()}
    torch.testing.assert_close(found, host(padded)[..., :50, :70])
    fits = data()['inputs']
    torch.testing.assert_close(host(fits), build().eval()(fits))


def test_sizes_that_do_not_fit_are_refused_in_words():
    with pytest.raises(InputError, match=r'multiples of 32, got 50x64 \(H x W\).*pad_to=32'):
        build()(data(height=50)['inputs'])
    with pytest.raises(InputError, match='pad_to must be a multiple of 32, the coarsest map, got 48'):
        build(pad_to=48)


def test_a_plain_dict_of_features_can_be_fused_too():
    host = build().eval()
    batch = host.make_batch(**data())
    outputs = host.run(batch)
    again = host.run_features(dict(outputs.features), batch.present)
    assert torch.equal(again.prediction, outputs.prediction)


@pytest.mark.parametrize(
    ('arguments', 'error', 'match'),
    [
        (
            dict(head=dict(type='mmseg.FCNHead', in_index=2)),
            InputError,
            r'does not use the map of 1/32.*out_indices=\(0, 1, 2\)',
        ),
        (dict(fusion=['Sum', 'Sum']), InputError, 'fusion lists 2 blocks, the encoders give 5 maps'),
        (dict(encoder='resnet1'), NameNotFound, 'resnet18'),
        (
            dict(encoder=dict(type='TimmEncoder', model='test_resnet')),
            InputError,
            'pyramid of maps.*got TimmEncoder',
        ),
        (dict(head='smp.Untet'), NameNotFound, 'Unet'),
        (dict(neck='PyramidContxt'), NameNotFound, 'neck'),
    ],
)
def test_mistakes(arguments, error, match):
    with pytest.raises(error, match=match):
        build(**arguments)


def test_subsets_are_refused_from_one_encoding(monkeypatch):
    host = build().eval()
    calls = []
    for m, encoder in host.encoders.items():
        monkeypatch.setattr(encoder, 'forward', lambda x, m=m, f=encoder.forward: calls.append(m) or f(x))
    batch = host.make_batch(**data())
    masks = torch.tensor([[True, False], [False, True], [True, True]])
    assert len([o for o in host.run_subsets(batch, masks) if o is not None]) == 3
    assert calls == ['rgb', 'depth']


@pytest.mark.parametrize(
    'loss',
    [
        'CrossEntropyLoss',
        'cross_entropy_loss',
        'zoo.CrossEntropyLoss',
        CrossEntropyLoss,
        dict(type=CrossEntropyLoss),
        dict(type='WeightedSum', losses=['zoo.CrossEntropyLoss', dict(type='smp.DiceLoss', mode='multiclass')]),
    ],
    ids=str,
)
def test_every_spelling_of_a_loss_ignores_what_has_no_label(loss):
    assert build(loss=loss)(**data(), mode='loss')['loss_task'].isfinite()


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (lambda t: t[:, :16], r'int64 of \(B, H, W\) = \(3, 32, 64\).*got torch.int64 \(3, 16, 64\)'),
        (lambda t: t.float(), 'got torch.float32'),
        (lambda t: list(t), 'got list'),
        (lambda t: None, 'got NoneType'),
    ],
)
def test_targets_that_are_no_masks_of_the_images_are_refused(change, match):
    batch = data()
    with pytest.raises(InputError, match=match):
        build()(batch['inputs'], target=change(batch['target']), mode='loss')


def test_inputs_of_other_sizes_or_channels_are_refused():
    x = data()['inputs']
    with pytest.raises(InputError, match=r'depth must be \(B, 1, 32, 64\).*got \(3, 1, 32, 32\)'):
        build()({**x, 'depth': x['depth'][..., :32]})
    with pytest.raises(InputError, match=r'depth must be \(B, 1, 32, 64\).*got \(3, 3, 32, 64\)'):
        build()({'rgb': x['rgb'], 'depth': x['rgb']})
    with pytest.raises(InputError, match='num_classes must be an integer of at least 1, got 0'):
        build(num_classes=0)
