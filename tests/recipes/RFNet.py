"""Two narrow levels on volumes of a few voxels."""

import torch

from zoo.datasets import IGNORE


def arguments(modalities, fusion, needs):
    return {
        'num_classes': 3,
        'in_chans': {m: shape(m)[0] for m in modalities},
        'widths': (4, 8),
        'hidden': 8,
        'aux_heads': 'unimodal' in needs,
        'side_size': 'native',
    }


def shape(modality):
    return (2 if modality == 'depth' else 1, 4, 8, 10)


def target(size, generator):
    labels = torch.randint(0, 3, (size, 4, 8, 10), generator=generator)
    labels[:, :1] = IGNORE
    return labels
