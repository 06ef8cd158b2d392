"""One tiny residual network for each modality."""

import torch

NARROW = {'stem_width': 4, 'channels': (8, 8, 8, 16), 'drop_path_rate': 0.2}


def arguments(modalities, fusion, needs):
    return {
        'num_classes': 4,
        'encoder': {'model': 'test_resnet', **NARROW},
        'in_chans': {m: shape(m)[0] for m in modalities},
        'aux_heads': 'unimodal' in needs and fusion not in ('Concat', 'Sum'),
    }


def shape(modality):
    return (3 if modality == 'rgb' else 1, 32, 48)


def target(size, generator):
    return torch.randint(0, 4, (size,), generator=generator)
