import pytest
import torch

from registry import InputError, NameNotFound
from zoo.blocks import ChannelAttention


def test_the_published_descriptor_is_twice_the_maximum_and_the_official_one_adds_the_sum():
    x = torch.randn(3, 8, 7, 5)
    most, mean, least = x.amax((2, 3)), x.mean((2, 3)), x.amin((2, 3))
    literal = (most + mean + least) + (most - mean - least)
    torch.testing.assert_close(ChannelAttention(8).describe(x), literal)
    torch.testing.assert_close(ChannelAttention(8, descriptor='official').describe(x), 2 * most + 35 * mean)
    torch.testing.assert_close(ChannelAttention(8, descriptor='separate').describe(x), torch.stack([most, mean, least]))


@pytest.mark.parametrize('descriptor', ['paper', 'official', 'separate'])
def test_one_weight_a_channel_and_every_parameter_trains(descriptor):
    torch.manual_seed(0)
    attention = ChannelAttention(24, descriptor=descriptor)
    x = torch.randn(2, 24, 7, 5)
    y = attention(x)
    torch.testing.assert_close(y, x * attention.gate(x))
    assert attention.gate(x).shape == (2, 24, 1, 1)
    y.square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in attention.parameters())


def test_the_sum_over_a_large_map_does_not_overflow_in_half_precision():
    attention = ChannelAttention(4, descriptor='official')
    x = torch.full((1, 4, 64, 64), 100.0, dtype=torch.float16)  # the sum, 409,600, is beyond float16
    with torch.autocast('cpu', torch.bfloat16):
        assert attention.describe(x).isfinite().all()
        assert attention(x).isfinite().all()


def test_an_unknown_descriptor_is_told():
    with pytest.raises(NameNotFound, match=r"No descriptor named 'max'.*official, paper, separate"):
        ChannelAttention(8, descriptor='max')
    for reduction in (0, -2):
        with pytest.raises(InputError, match=f'are at least 1, got 8, {reduction}'):
            ChannelAttention(8, reduction)
