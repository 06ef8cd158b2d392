"""The branch of SF-MD: its published size, part by part, and what it computes."""

import pytest
import torch
import torch.nn.functional as F

from registry import ENCODERS, InputError
from zoo.encoders import ResNetSEStem


def numbers(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ('part', 'published'), [('stem', 1_728 + 128), ('layer1', 147_968), ('layer2', 525_568), ('excitation', 2_184)]
)
def test_each_part_has_the_published_number_of_parameters(part, published):
    assert numbers(getattr(ResNetSEStem(), part)) == published


@pytest.mark.parametrize(('in_chans', 'expected'), [(3, 677_576), (1, 677_576 - 2 * 9 * 64)])
def test_the_whole_has_too(in_chans, expected):
    assert numbers(ENCODERS.build('ResNetSEStem', default_args={'in_chans': in_chans})) == expected


@pytest.mark.parametrize('size', [(112, 112), (48, 80), (37, 21)])
def test_the_map_is_an_eighth_of_the_image(size):
    encoder = ResNetSEStem(2, channels=(4, 6)).eval()
    x = torch.randn(2, 2, *size)
    expected = (encoder.out_channels, *(-(-s // encoder.reduction) for s in size))
    assert encoder(x).shape[1:] == expected


def test_channels_are_weighed_by_their_mean():
    torch.manual_seed(0)
    encoder = ResNetSEStem(channels=(4, 8), reduction=2).eval()
    x = torch.randn(2, 3, 32, 48)
    maps = encoder.layer2(encoder.layer1(encoder.stem(x)))
    hidden = F.linear(maps.mean((2, 3)), encoder.excitation.squeeze.weight, encoder.excitation.squeeze.bias).relu()
    weights = F.linear(hidden, encoder.excitation.excite.weight, encoder.excitation.excite.bias).sigmoid()
    torch.testing.assert_close(encoder(x), maps * weights[..., None, None])


@pytest.mark.parametrize('channels', [(8,), (0, 8), (8, 8, 8)])
def test_other_widths_than_two_are_refused(channels):
    with pytest.raises(InputError, match='two widths'):
        ResNetSEStem(channels=channels)
