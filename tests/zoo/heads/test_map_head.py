"""Heads on feature maps: those of smp and mmseg by name, and FCN-8s."""

import pytest
import torch
import torch.nn.functional as F

from registry import InputError, NameNotFound
from zoo.heads import FCN8s, build_map_head, used_levels

WIDTHS, REDUCTIONS = (8, 16, 24, 32, 40), (2, 4, 8, 16, 32)


def maps(widths=WIDTHS, reductions=REDUCTIONS, height=64, width=96):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, height // r, width // r, generator=generator) for c, r in zip(widths, reductions)]


@pytest.mark.parametrize(
    'decoder', ['Unet', 'UnetPlusPlus', 'MAnet', 'Linknet', 'FPN', 'UPerNet', 'Segformer', 'PSPNet']
)
@pytest.mark.parametrize('first', [0, 1], ids=['from 1/2', 'from 1/4'])
def test_decoders_of_smp_label_every_pixel(decoder, first):
    head = build_map_head(f'smp.{decoder}', WIDTHS[first:], REDUCTIONS[first:], 5).eval()
    scale = 4 if decoder == 'PSPNet' else 1  # smp's own default enlarges by 8
    assert head(maps()[first:]).shape == (2, 5, 64 // scale, 96 // scale)


@pytest.mark.parametrize('decoder', ['DeepLabV3', 'DeepLabV3Plus', 'PAN'])
def test_decoders_for_dilated_encoders(decoder):
    widths, reductions = WIDTHS, (2, 4, 8, 16, 16)
    head = build_map_head(f'smp.{decoder}', widths, reductions, 5).eval()
    assert head(maps(widths, reductions, 128, 256)).shape == (2, 5, 128, 256)


def test_a_decoder_of_smp_computes_what_smp_computes():
    import segmentation_models_pytorch as smp

    model = smp.Unet('resnet18', encoder_weights=None, classes=5, decoder_channels=(64, 48, 32, 24, 16)).eval()
    head = build_map_head(
        dict(type='smp.Unet', decoder_channels=(64, 48, 32, 24, 16)), model.encoder.out_channels[1:], REDUCTIONS, 5
    ).eval()
    own = {k: v for k, v in model.state_dict().items() if not k.startswith('encoder.')}
    head.load_state_dict(own)
    x = torch.randn(2, 3, 64, 96)
    assert torch.equal(head(model.encoder(x)[1:]), model(x))


@pytest.mark.parametrize(
    ('config', 'size'),
    [
        ('mmseg.FCNHead', (2, 3)),
        ('mmseg.UPerHead', (32, 48)),
        ('mmseg.SegformerHead', (32, 48)),
        (dict(type='mmseg.SegformerHead', in_index=[1, 2, 3, 4], channels=32), (16, 24)),
        (dict(type='mmseg.ASPPHead', dilations=(1, 6, 12), channels=32), (2, 3)),
        (dict(type='mmseg.DepthwiseSeparableASPPHead', c1_in_channels=8, c1_channels=12, dilations=(1, 6)), (32, 48)),
    ],
)
def test_decode_heads_of_mmseg(config, size):
    head = build_map_head(config, WIDTHS, REDUCTIONS, 5).eval()
    assert head(maps()).shape == (2, 5, *size)
    assert any('running_mean' in k for k in head.state_dict())  # batch normalisation unless told otherwise
    assert not [k for k in head.state_dict() if 'loss' in k]


@pytest.mark.parametrize(
    ('head', 'levels'),
    [
        ('smp.Unet', [0, 1, 2, 3, 4]),
        ('smp.FPN', [1, 2, 3, 4]),
        ('smp.PSPNet', [4]),
        ('mmseg.FCNHead', [4]),
        (dict(type='mmseg.FCNHead', in_index=2), [2]),
        ('FCN8s', [2, 3, 4]),
        (dict(type='FCN8s', levels=5), [0, 1, 2, 3, 4]),
    ],
)
def test_the_maps_that_a_head_uses_are_found(head, levels):
    built = build_map_head(head, WIDTHS, REDUCTIONS, 5)
    assert used_levels(built, WIDTHS, REDUCTIONS) == levels
    assert {p.device.type for p in built.parameters()} == {'cpu'}
    chosen = [x if i in levels else None for i, x in enumerate(maps())]
    torch.testing.assert_close(built.eval()(chosen), built(maps()))


def test_fcn8s_adds_the_scores_coarse_to_fine():
    head, x = FCN8s(WIDTHS, num_classes=3), maps()
    score = [F.conv2d(m, s.weight, s.bias) for s, m in zip(head.scores, x[2:])]
    up = {'mode': 'bilinear', 'scale_factor': 2, 'align_corners': False}
    torch.testing.assert_close(head(x), score[0] + F.interpolate(score[1] + F.interpolate(score[2], **up), **up))


@pytest.mark.parametrize(
    ('head', 'reductions', 'error', 'match'),
    [
        ('smp.Unnet', REDUCTIONS, NameNotFound, 'decoder of smp.*Unet'),
        ('mmseg.UPerHeda', REDUCTIONS, NameNotFound, 'UPerHead'),
        ('FCN', REDUCTIONS, NameNotFound, 'FCN8s'),
        (dict(type='smp.Unet', decoder_chanels=(1, 2)), REDUCTIONS, NameNotFound, 'decoder_chanels.*decoder_channels'),
        (dict(type='smp.Unet', classes=3), REDUCTIONS, InputError, 'classes of smp.Unet can not be chosen'),
        (dict(type='mmseg.FCNHead', chanels=3), REDUCTIONS, InputError, 'mmseg.FCNHead.*chanels'),
        (dict(type='mmseg.FCNHead', in_index=7), REDUCTIONS, InputError, 'in_index of mmseg.FCNHead.*5 maps, got 7'),
        (dict(type='mmseg.FCNHead', loss_decode={}), REDUCTIONS, InputError, 'give it to the host'),
        ('mmseg.OCRHead', REDUCTIONS, InputError, 'ocr_channels'),
        ('smp.DeepLabV3Plus', REDUCTIONS, InputError, 'output stride 8 or 16, got 32'),
        ('smp.Unet', (2, 4, 8, 12, 24), InputError, r'got \[2, 4, 8, 12, 24\]'),
        ('smp.Unet', (16, 16, 16, 16, 16), InputError, r'decodes maps of 1/2, 1/4'),
    ],
)
def test_mistakes_are_one_clear_line(head, reductions, error, match):
    with pytest.raises(error, match=match):
        build_map_head(head, WIDTHS, reductions, 5)


def test_maps_that_a_decoder_can_not_join_are_refused_when_asked_for_its_levels():
    head = build_map_head('smp.Linknet', WIDTHS, (2, 4, 8, 16, 16), 5)
    with pytest.raises(InputError, match='SmpHead can not decode maps of 1/'):
        used_levels(head, WIDTHS, (2, 4, 8, 16, 16))
