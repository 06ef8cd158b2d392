"""A YOLO of few channels; boxes of which one sample has none."""

import torch

REQUIRES = 'ultralytics'
FUSIONS = ('ConcatConv', 'Mean', 'SEAdd')
TINY = {
    'scales': {'t': [0.33, 0.125, 256]},
    'scale': 't',
    'backbone': [
        [-1, 1, 'Conv', [64, 3, 2]],
        [-1, 1, 'Conv', [64, 3, 2]],
        [-1, 1, 'Conv', [64, 3, 2]],
        [-1, 1, 'C2f', [128, True]],
        [-1, 1, 'Conv', [128, 3, 2]],
        [-1, 1, 'SPPF', [128, 5]],
    ],
    'head': [
        [-1, 1, 'nn.Upsample', [None, 2, 'nearest']],
        [[-1, 3], 1, 'Concat', [1]],
        [-1, 1, 'C2f', [128]],
        [[8, 5], 1, 'Detect', ['nc']],
    ],
}


def arguments(modalities, fusion, needs):
    return {
        'num_classes': 3,
        'model': TINY,
        'in_chans': {m: shape(m)[0] for m in modalities},
        'aux_heads': 'unimodal' in needs,
    }


def shape(modality):
    return (3 if modality == 'rgb' else 1, 32, 64)


def target(size, generator):
    counts = [0 if i == 2 else i % 3 + 1 for i in range(size)]
    boxes = []
    for n in counts:
        low = torch.rand(n, 2, generator=generator) * torch.tensor([40.0, 16.0])
        boxes.append(torch.cat((low, low + 8 + 8 * torch.rand(n, 2, generator=generator)), 1))
    return {'boxes': boxes, 'labels': [torch.randint(3, (n,), generator=generator) for n in counts]}
