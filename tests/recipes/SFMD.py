"""Branches and a trunk of few channels."""

import torch

FUSIONS = ('Concat', 'MeanVariance')  # it takes all
NARROW = {'encoder': {'type': 'ResNetSEStem', 'channels': (4, 8)}, 'trunk_channels': (8, 8)}


def arguments(modalities, fusion, needs):
    return {
        'num_classes': 4,
        'in_chans': {m: shape(m)[0] for m in modalities},
        'aux_heads': 'unimodal' in needs,
        **NARROW,
    }


def shape(modality):
    return (3 if modality == 'rgb' else 1, 24, 40)


def target(size, generator):
    return torch.randint(0, 4, (size,), generator=generator)
