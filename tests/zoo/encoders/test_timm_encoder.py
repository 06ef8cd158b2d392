"""timm models as encoders, by name, with and without weights."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from registry import ENCODERS, InputError, NameNotFound
from zoo.encoders import TimmEncoder

MODELS = {
    'test_resnet': 96,
    'test_vit': 64,
    'test_convnext': 64,
    'test_byobnet': 256,
    'test_efficientnet': 256,
    'mobilenetv3_small_050': 1024,  # its head widens the 288 pooled channels
}


@pytest.mark.parametrize(('model', 'width'), MODELS.items())
@pytest.mark.parametrize('in_chans', [1, 3, 5])
def test_a_model_gives_vectors_of_its_out_channels(model, width, in_chans):
    encoder = ENCODERS.build(dict(type='TimmEncoder', model=model, in_chans=in_chans))
    features = encoder(torch.randn(2, in_chans, 32, 48))
    assert features.shape == (2, width)
    assert encoder.out_channels == width
    features.sum().backward()
    assert not [n for n, p in encoder.named_parameters() if p.grad is None]


def test_a_vision_transformer_takes_images_of_any_size_that_its_patches_tile():
    encoder = TimmEncoder('vit_tiny_patch16_224', depth=1).eval()
    assert encoder.model.patch_embed.grid_size == (14, 14)
    for size in ((224, 224), (32, 48), (64, 16)):
        assert encoder(torch.randn(2, 3, *size)).shape == (2, 192)
    fixed = TimmEncoder('vit_tiny_patch16_224', depth=1, dynamic_img_size=False, img_size=64).eval()
    assert fixed(torch.randn(2, 3, 64, 64)).shape == (2, 192)
    with pytest.raises(AssertionError, match='height'):
        fixed(torch.randn(2, 3, 32, 48))


def test_arguments_reach_the_model():
    encoder = TimmEncoder('test_resnet', drop_path_rate=0.3)
    assert max(getattr(m, 'drop_prob', 0) for m in encoder.modules()) == pytest.approx(0.3)
    with pytest.raises(InputError, match=r"test_resnet can not be built: .*'depht'"):
        TimmEncoder('test_resnet', depht=3)


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(NameNotFound, match=r"No timm model named 'resnet81'\. Did you mean 'resnet\w+'"):
        TimmEncoder('resnet81')


@pytest.mark.parametrize('model', ['test_resnet.r160_in1k', 'test_resnet'])
def test_weights_that_can_not_be_fetched_are_told_in_one_line(model, monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(InputError, match=rf'weights of {model} could not be loaded .*pretrained=False, or') as caught:
        TimmEncoder(model, pretrained=True)
    assert '\n' not in str(caught.value)


@pytest.fixture(params=['safetensors', 'pth', 'wrapped.pth'])
def weights(request, tmp_path):
    """A classifier's weights on disk, and the classifier."""
    torch.manual_seed(1)
    model = timm.create_model('test_vit', num_classes=7)
    path = tmp_path / f'weights.{request.param}'
    if request.param == 'safetensors':
        save_file(model.state_dict(), path)
    else:
        torch.save(
            model.state_dict() if request.param == 'pth' else {'state_dict': model.state_dict(), 'epoch': 3}, path
        )
    return path, model.eval()


def test_a_file_is_loaded_without_its_classifier(weights):
    path, model = weights
    for given in (path, str(path)):
        encoder = TimmEncoder('test_vit', pretrained=given, img_size=160).eval()
        x = torch.randn(2, 3, 160, 160)
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
        assert torch.equal(encoder(x), expected)
        assert 'state_dict' not in encoder.model.pretrained_cfg
    assert not TimmEncoder('test_vit').model.pretrained_cfg.get('state_dict')


def test_the_stem_of_a_file_is_summed_to_other_channels(weights):
    path, model = weights
    encoder = TimmEncoder('test_vit', in_chans=1, pretrained=path)
    expected = model.patch_embed.proj.weight.sum(1, keepdim=True)
    torch.testing.assert_close(encoder.model.patch_embed.proj.weight, expected)


def test_a_file_without_a_classifier_is_loaded_too(tmp_path):
    source = TimmEncoder('test_resnet').model
    torch.save(source.state_dict(), tmp_path / 'trunk.pth')
    encoder = TimmEncoder('test_resnet', pretrained=tmp_path / 'trunk.pth')
    assert torch.equal(encoder.model.conv1[0].weight, source.conv1[0].weight)


class Evil:
    def __reduce__(self):
        return print, ('a checkpoint ran code',)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'no file'),
        (b'no weights', 'can not be read'),
        ({}, 'holds none'),
        (torch.ones(3), 'can not be read'),
        ({'state_dict': {'head.weight': torch.ones(7, 64)}}, 'holds none'),
        ({'other.weight': torch.ones(3)}, 'could not be loaded .*Missing key'),
        ({'state_dict': Evil()}, 'can not be read .*weights_only'),
    ],
    ids=['missing', 'garbage', 'empty', 'tensor', 'classifier only', 'another model', 'code'],
)
def test_a_file_that_does_not_fit_is_told_in_one_line(tmp_path, capsys, content, message):
    path = tmp_path / 'weights.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=f'weights of test_vit.*{message}') as caught:
        TimmEncoder('test_vit', pretrained=str(path))
    assert '\n' not in str(caught.value)
    assert 'ran code' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('model', 'arguments', 'widths', 'reductions'),
    [
        ('resnet18', {}, [64, 64, 128, 256, 512], [2, 4, 8, 16, 32]),
        ('resnet18', {'output_stride': 16}, [64, 64, 128, 256, 512], [2, 4, 8, 16, 16]),
        ('resnet18', {'out_indices': (1, 3)}, [64, 256], [4, 16]),
        ('test_convnext', {}, [24, 32, 48, 64], [4, 8, 16, 32]),
        ('pvt_v2_b0', {}, [32, 64, 160, 256], [4, 8, 16, 32]),
        ('swin_tiny_patch4_window7_224', {'depths': (1, 1, 1, 1)}, [96, 192, 384, 768], [4, 8, 16, 32]),
        ('mobilenetv2_050', {}, [8, 16, 16, 48, 160], [2, 4, 8, 16, 32]),
        ('mobilenetv3_small_050', {'out_indices': (1, 2, 4)}, [8, 16, 288], [4, 8, 32]),
        ('test_vit', {}, [64, 64, 64], [16, 16, 16]),
    ],
)
def test_a_pyramid_gives_maps_of_any_size_and_its_steps_give_the_same(model, arguments, widths, reductions):
    encoder = ENCODERS.build(dict(type='TimmPyramid', model=model, in_chans=1, **arguments)).eval()
    assert (encoder.out_channels, encoder.reductions) == (widths, reductions)
    x = torch.randn(2, 1, 64, 96)
    maps = encoder(x)
    assert [tuple(m.shape) for m in maps] == [(2, c, 64 // r, 96 // r) for c, r in zip(widths, reductions)]
    if model == 'test_vit':
        assert encoder.steps is None
        return
    for step, expected in zip(encoder.steps, maps, strict=True):
        x = step(x)
        assert torch.equal(x, expected)


def test_steps_follow_the_mode_of_the_encoder():
    encoder = ENCODERS.build(dict(type='TimmPyramid', model='test_resnet'))
    assert [s.training for s in encoder.eval().steps] == [False] * 5
    assert [s.training for s in encoder.train().steps] == [True] * 5


def test_a_pyramid_takes_weights_from_a_file(tmp_path):
    source = timm.create_model('test_resnet')
    save_file(source.state_dict(), tmp_path / 'weights.safetensors')
    pyramid = ENCODERS.build(
        dict(type='TimmPyramid', model='test_resnet', in_chans=1, pretrained=str(tmp_path / 'weights.safetensors'))
    )
    own = pyramid.model.state_dict()
    assert torch.equal(own['layer4.0.conv1.weight'], source.state_dict()['layer4.0.conv1.weight'])
    first = next(k for k in own if k.endswith('weight'))
    torch.testing.assert_close(own[first], source.state_dict()[first].sum(1, keepdim=True))
