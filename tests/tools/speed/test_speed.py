"""The measurements measure what they say; how fast anything is, no test asks."""

import json
import time

import pytest
import torch

from tools import speed
from tools.speed.plugin_steps import VARIANTS, TrainingSteps
from tools.speed.timing import interleaved


def test_interleaved_rounds_compare_with_the_first_route():
    timing = interleaved({'short': lambda: time.sleep(0.002), 'long': lambda: time.sleep(0.006)}, 'cpu', repeats=3)
    assert timing['short']['ratio'] == 1
    assert 1.5 < timing['long']['ratio'] < 6


def test_each_step_trains_with_its_own_plugin_only():
    steps = TrainingSteps('cpu', VARIANTS, batch=4, size=32)
    for name, cfg in VARIANTS.items():
        before = steps.host.head.weight.detach().clone()
        steps[name]()
        assert not torch.equal(before, steps.host.head.weight)
        assert list(steps.host.plugins) == ([cfg['type']] if cfg else [])


def test_figures_are_kept_and_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'docs').mkdir()
    rows = [{'what': 'one', 'ms': 2.0, 'ratio': 1.0}, {'what': 'two', 'ms': 3.00049, 'ratio': 1.5}]
    monkeypatch.setattr(speed, 'SUITES', {'toy': (lambda device: rows, 'A toy')})
    speed.measure_all('cpu')
    kept = json.loads((tmp_path / 'results/speed/cpu_toy.json').read_text())
    assert kept['rows'][1] == {'what': 'two', 'ms': 3.0, 'ratio': 1.5}
    assert kept['hardware']
    assert '| two | 3 | 1.5 |' in (tmp_path / 'docs/speed.md').read_text()


def test_figures_are_kept_as_they_come(tmp_path, monkeypatch):
    def measure(device):
        yield {'what': 'one', 'ms': 2.0}
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, 'SUITES', {'toy': (measure, 'A toy')})
    with pytest.raises(KeyboardInterrupt):
        speed.measure_all('cpu')
    assert '| one | 2 |' in speed.report()
    assert 'stopped before its end' in speed.report()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('name', list(VARIANTS))
def test_a_step_never_waits_for_the_device(name):
    steps = TrainingSteps('cuda', VARIANTS, batch=4, size=32)
    steps[name]()
    torch.cuda.set_sync_debug_mode('error')
    try:
        steps[name]()
    finally:
        torch.cuda.set_sync_debug_mode('default')
