"""Tiny stages of ERLA blocks, an exchange behind each, and a small decoder."""

import torch

from zoo.datasets import IGNORE

ORDERED = True  # the order of the modalities makes partners
FUSIONS = ('EMCAM',)
PLUGINS = ('MWAM',)  # MAIL encodes as it does, ESANet has losses as it has


def arguments(modalities, fusion, needs):
    return {
        'num_classes': 4,
        'encoder': {'type': 'ERLAEncoder', 'depths': (1, 1), 'widths': (8, 12), 'stem_width': 8},
        'in_chans': {m: shape(m)[0] for m in modalities},
        'head': {'type': 'ERLADecoder', 'widths': (8,)},
        'pad_to': 8,
        'per_modality': 'unimodal' in needs,
    }


def shape(modality):
    return (3 if modality == 'rgb' else 1, 12, 20)


def target(size, generator):
    masks = torch.randint(0, 4, (size, 12, 20), generator=generator)
    masks[:, :3] = IGNORE
    return masks
