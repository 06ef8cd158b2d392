"""YOLO backbones as encoders of other hosts."""

from importlib.util import find_spec

import pytest
import torch

import zoo
from registry import ENCODERS

pytestmark = pytest.mark.skipif(find_spec('ultralytics') is None, reason='needs ultralytics')


@pytest.mark.parametrize(
    ('model', 'channels', 'reductions'),
    [('yolov8n', [64, 128, 256], [8, 16, 32]), ('yolov8n-p2', [32, 64, 128, 256], [4, 8, 16, 32])],
)
def test_a_pyramid(model, channels, reductions):
    encoder = ENCODERS.build({'type': 'YOLOBackbone', 'model': model}, default_args={'in_chans': 2})
    assert encoder.training
    assert (encoder.out_channels, encoder.reductions) == (channels, reductions)
    maps = encoder(torch.rand(2, 2, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(2, c, 64 // r, 96 // r) for c, r in zip(channels, reductions)]


def test_it_serves_a_segmentation_host():
    host = zoo.create_host(
        'encoder_decoder',
        modalities=['rgb', 'ir'],
        num_classes=4,
        in_chans={'rgb': 3, 'ir': 1},
        encoder='YOLOBackbone',
        head='FCN8s',
    )
    logits = host({'rgb': torch.rand(2, 3, 64, 96), 'ir': torch.rand(2, 1, 64, 96)})
    assert logits.shape == (2, 4, 64, 96)
    assert logits.requires_grad
