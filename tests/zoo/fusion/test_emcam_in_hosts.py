"""EMCAM in the place of any fusion block, by a config and options alone."""

from pathlib import Path

import pytest
import torch

import plugins  # noqa: F401
from zoo.engine.config import load_config
from zoo.engine.evaluate import build_host
from zoo.fusion import EMCAM

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ('config', 'target'),
    [
        ('late_fusion/r18_digitscenes.py', torch.tensor([3, 1])),
        ('segmentation/fpn_r18_digitscenes.py', torch.zeros(2, 64, 64, dtype=torch.int64)),
        ('two_stream_yolo/yolov8n_digitscenes.py',
         {'boxes': [torch.tensor([[4.0, 4.0, 24.0, 24.0]])] * 2, 'labels': [torch.tensor([1])] * 2}),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    'fusion', ['EMCAM', dict(_delete_=True, type='EMCAM', reduce='concat', pool='global')], ids=str
)
def test_one_option_puts_it_into_any_host(config, target, fusion):
    if 'yolo' in config:
        pytest.importorskip('ultralytics')
    host = build_host(load_config(ROOT / 'configs' / config, options={'model.fusion': fusion}))
    assert any(isinstance(m, EMCAM) for m in host.modules())
    channels = host.in_chans
    inputs = {m: torch.rand(2, channels[m], 64, 64) for m in host.modalities}
    present = torch.ones(2, len(host.modalities), dtype=torch.bool)
    present[0, 1] = False
    losses = host(inputs, present, target, mode='loss')
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    trained = {n: p.grad for n, p in host.named_parameters() if p.requires_grad}
    assert not [n for n, grad in trained.items() if grad is None or not grad.isfinite().all()]
