"""A teacher of the host's own kind, whose weights are the same in every run, or one of its modalities."""

import copy

import torch


def teacher(host):
    twin = copy.deepcopy(host)
    generator = torch.Generator().manual_seed(9)
    for p in twin.parameters():
        p.data.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return twin


BLIND = True
HOSTS = ('LateFusion', 'EncoderDecoder')
VARIANTS = [{'teacher': teacher, 'weight': 0.1}]  # the test's rate is high
