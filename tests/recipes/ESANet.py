"""Tiny residual encoders fused between their stages, a small decoder."""

import torch

from zoo.datasets import IGNORE

ORDERED = True  # the first modality is the trunk

NARROW = {'stem_width': 4, 'channels': (8, 8, 8, 16), 'drop_path_rate': 0.2}


def arguments(modalities, fusion, needs):
    return {
        'num_classes': 4,
        'encoder': {'model': 'test_resnet', **NARROW, 'out_indices': (1, 2, 3, 4)},
        'in_chans': {m: shape(m)[0] for m in modalities},
        'neck': None,
        'head': 'FCN8s',  # which leaves the finest map to the trunk alone
        'aux_heads': 'unimodal' in needs,
    }


def shape(modality):
    return (3 if modality == 'rgb' else 1, 32, 64)


def target(size, generator):
    masks = torch.randint(0, 4, (size, 32, 64), generator=generator)
    masks[:, :3] = IGNORE
    return masks
