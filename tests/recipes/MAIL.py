"""Tiny stages of ERLA blocks and an exchange behind each."""

import torch

ORDERED = True  # the order of the modalities makes partners, and is that of the head's weights
FUSIONS = ('EMCAM',)  # which has the others as its parts; any other block is refused


def arguments(modalities, fusion, needs):
    return {
        'num_classes': 4,
        'encoder': {'type': 'ERLAEncoder', 'depths': (1, 1), 'widths': (8, 12), 'stem_width': 8},
        'in_chans': {m: shape(m)[0] for m in modalities},
    }


def shape(modality):
    return (3 if modality == 'rgb' else 1, 16, 24)


def target(size, generator):
    return torch.randint(0, 4, (size,), generator=generator)
