"""The encoder of ESANet: sizes, parameter counts, a block against torch's own modules, pretrained files."""

import pytest
import torch
from torch import nn

from registry import ENCODERS, InputError
from zoo.encoders import ResNetNBt1D
from zoo.encoders.resnet_nbt1d import NonBottleneck1D


def numbers(module):
    return sum(p.numel() for p in module.parameters())


def counted(depth, in_chans):
    """The parameters by hand: four convolutions with biases and two norms for each block."""
    total, before = 49 * in_chans * 64 + 2 * 64, 64
    for width, blocks in zip((64, 128, 256, 512), {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth]):
        total += 3 * before * width + (blocks * 4 - 1) * 3 * width * width + blocks * (4 * width + 4 * width)
        total += 0 if before == width else before * width + 2 * width
        before = width
    return total


@pytest.mark.parametrize(('in_chans', 'published'), [(3, 14_787_136), (1, 14_780_864)])
def test_the_published_parameters_are_there_to_the_unit(in_chans, published):
    assert numbers(ResNetNBt1D(34, in_chans)) == published == counted(34, in_chans)


@pytest.mark.parametrize('in_chans', [1, 3, 5])
def test_the_smaller_one_is_counted_by_hand(in_chans):
    assert numbers(ResNetNBt1D(18, in_chans)) == counted(18, in_chans)


@pytest.mark.parametrize('depth', [18, 34])
def test_maps_have_the_widths_and_sizes_that_the_attributes_tell(depth):
    encoder = ENCODERS.build(dict(type='ResNetNBt1D', depth=depth), in_chans=2)
    maps = encoder(torch.randn(2, 2, 64, 96))
    assert encoder.out_channels == [64, 64, 128, 256, 512]
    assert encoder.reductions == [2, 4, 8, 16, 32]
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // r, 96 // r) for c, r in zip(encoder.out_channels, encoder.reductions)
    ]
    sum(m.mean() for m in maps).backward()
    assert not [n for n, p in encoder.named_parameters() if p.grad is None]


@pytest.mark.parametrize('training', [True, False])
def test_the_steps_are_the_encoder_and_have_its_mode(training):
    encoder = ResNetNBt1D(18).train(training)
    x = torch.randn(2, 3, 32, 64)
    assert [s.training for s in encoder.steps] == [training] * 5
    assert {id(p) for s in encoder.steps for p in s.parameters()} == {id(p) for p in encoder.parameters()}
    expected = encoder(x)
    for step, m in zip(encoder.steps, expected):
        x = step(x)
        assert torch.equal(x, m)


class Written(nn.Module):
    """The block as the paper draws it, of torch's modules and without in-place operations."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        b = self.block
        y = torch.relu(b.bn1(b.conv1x3_1(torch.relu(b.conv3x1_1(x)))))
        y = b.bn2(b.conv1x3_2(torch.relu(b.conv3x1_2(y))))
        return torch.relu(y + (x if b.downsample is None else b.downsample(x)))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(('before', 'width', 'stride'), [(6, 6, 1), (6, 8, 1), (6, 8, 2), (6, 6, 2)])
def test_a_block_and_its_gradients_are_those_of_the_paper(before, width, stride, training):
    block = NonBottleneck1D(before, width, stride).double().train(training)
    x = torch.randn(3, before, 10, 14, dtype=torch.double, requires_grad=True)
    given = x.clone()
    tensors = [x, *block.parameters()]
    found = block(x)
    assert found.shape == (3, width, 10 // stride, 14 // stride)
    weights = torch.randn_like(found)
    gradients = torch.autograd.grad((found * weights).sum(), tensors)
    expected = Written(block)(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weights).sum(), tensors))
    assert torch.equal(x, given)


def test_norms_inside_a_block_have_the_larger_epsilon():
    block = NonBottleneck1D(4, 8, 2)
    assert (block.bn1.eps, block.bn2.eps, block.downsample[1].eps) == (1e-3, 1e-3, 1e-5)


def test_he_initialisation_is_that_of_fan_out():
    torch.manual_seed(1)
    encoder = ResNetNBt1D(18, he_init=True)
    conv = encoder.layer4[1].conv3x1_1
    assert conv.weight.std().item() == pytest.approx((2 / (512 * 3)) ** 0.5, rel=0.02)
    assert encoder.conv1.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.02)
    assert not any(m.bias.any() for m in encoder.modules() if isinstance(m, nn.Conv2d) and m.bias is not None)


# ---- weights on disk


@pytest.fixture(params=['plain', 'classifier', 'wrapped'])
def weights(request, tmp_path):
    """A file of weights for three channels, and the encoder they come from."""
    source = ResNetNBt1D(18)
    state = source.state_dict()
    if request.param == 'classifier':
        state = {**state, 'fc.weight': torch.ones(7, 512), 'fc.bias': torch.ones(7)}
    if request.param == 'wrapped':
        named = {f'encoder.{k}': v for k, v in state.items()}
        state = {'state_dict': {**named, 'fc.weight': torch.ones(7, 512)}, 'epoch': 3}
    torch.save(state, tmp_path / 'weights.pth')
    return tmp_path / 'weights.pth', source


def test_a_file_is_loaded_and_he_initialisation_leaves_it(weights):
    path, source = weights
    for given in (path, str(path)):
        encoder = ResNetNBt1D(18, pretrained=given, he_init=True)
        assert all(torch.equal(v, source.state_dict()[k]) for k, v in encoder.state_dict().items())


def test_the_stem_of_a_file_is_summed_to_other_channels(weights):
    path, source = weights
    stem = source.conv1.weight
    encoder = ResNetNBt1D(18, in_chans=1, pretrained=path)
    torch.testing.assert_close(encoder.conv1.weight, stem.sum(1, keepdim=True))
    grey = torch.randn(1, 1, 32, 64)
    two = ResNetNBt1D(18, in_chans=2, pretrained=path)
    for other in (two.eval(), source.eval()):  # the same picture in all channels gives the same maps
        found = other(grey.expand(-1, other.conv1.in_channels, -1, -1))[-1]
        torch.testing.assert_close(found, encoder.eval()(grey)[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'no file'),
        (b'no weights', 'can not be read'),
        (torch.ones(3), 'can not be read'),
        ({'fc.weight': torch.ones(7, 512)}, 'does not fit .*Missing key'),
        ({'conv1.weight': torch.ones(3)}, 'does not fit .*Missing key'),
    ],
    ids=['missing', 'garbage', 'tensor', 'classifier only', 'another model'],
)
def test_a_file_that_will_not_do_is_named(content, message, tmp_path):
    path = tmp_path / 'bad.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(
        InputError, match=rf'weights of ResNetNBt1D\(depth=34\): .*bad\.pth. {message}|{message}'
    ) as caught:
        ResNetNBt1D(pretrained=path)
    assert 'bad.pth' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_weights_of_another_depth_are_refused(weights):
    with pytest.raises(InputError, match=r'ResNetNBt1D\(depth=34\).*does not fit'):
        ResNetNBt1D(34, pretrained=weights[0])


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match='depth of ResNetNBt1D must be 18 or 34, got 50'):
        ResNetNBt1D(50)
    with pytest.raises(InputError, match='give pretrained=FILE'):
        ResNetNBt1D(pretrained=True)
