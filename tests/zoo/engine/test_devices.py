"""Which device a process takes."""

import pytest
import torch

from registry import InputError
from zoo.engine.devices import pick_device


def test_a_cpu_is_a_cpu():
    assert pick_device('cpu') == torch.device('cpu')


def test_several_processes_do_not_share_a_gpu(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(InputError, match='Several processes can not share cuda:0: --device cuda gives each its own'):
        pick_device('cuda:0')
    assert pick_device('cpu') == torch.device('cpu')


def test_a_process_without_a_gpu_of_its_own_is_told_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setenv('LOCAL_RANK', '1')
    with pytest.raises(InputError, match='Process 1 has no GPU of its own: there are 1'):
        pick_device('cuda')
