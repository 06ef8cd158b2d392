"""Layers that several parts share."""

import torch
from torch import nn

from zoo.layers import conv_norm_act, he_init_


def test_a_convolution_keeps_the_size_and_ends_in_relu():
    for kernel in (1, 3):
        layer = conv_norm_act(3, 5, kernel)
        found = layer(torch.randn(2, 3, 6, 7))
        assert found.shape == (2, 5, 6, 7)
        assert found.min() == 0
        assert layer[0].bias is None


def test_he_initialisation_spares_depthwise_and_named_layers():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(64, 128, 3), nn.Conv2d(128, 128, 3, groups=128), nn.Linear(256, 512), nn.Conv2d(128, 7, 1)
    )
    before = [m.weight.clone() for m in net]
    he_init_(net, skip=(net[3],))
    for i, spared in enumerate((False, True, False, True)):
        assert torch.equal(net[i].weight, before[i]) == spared
        assert bool(net[i].bias.any()) == spared
    for m, fan_out in ((net[0], 128 * 9), (net[2], 512)):
        assert abs(m.weight.std().item() * (fan_out / 2) ** 0.5 - 1) < 0.02
