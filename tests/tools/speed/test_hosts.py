"""Steps of whole hosts are measured with and without plugins; how fast anything is, no test asks."""

import pytest
import torch

from tools.speed import hosts
from tools.speed.hosts import NETWORKS, PLUGINS_, Network, Step

TINY = {'encoder': 'test_resnet'}
SMALL = {
    'classes': Network('late_fusion/r18_casia_surf.py', 4, TINY, (32, 32)),
    'masks': Network('segmentation/fpn_r18_digitscenes.py', 2, TINY, (64, 64)),
    'boxes': Network('two_stream_yolo/yolov8n_llvip.py', 2, size=(64, 64)),
    'fusion': Network('isfuse/isfuse_msrs.py', 2, {'dim': 4}, (32, 32), plugged=False),
}


@pytest.mark.parametrize('name', SMALL)
def test_a_step_trains(name):
    step = Step(SMALL[name], 'cpu')
    before = [p.clone() for p in step.host.parameters()]
    step()
    assert any(not torch.equal(a, b) for a, b in zip(before, step.host.parameters()))
    assert step.host.clock.iteration == 1
    assert step.macs() > 0
    assert step.host.training


def test_hosts_are_measured():
    rows = list(hosts.measure_hosts(repeats=1, networks={'a': SMALL['classes']}))
    assert [r['step'] for r in rows] == ['a, float32', 'matrix product, float32']
    assert rows[0]['samples/s'] == pytest.approx(2e3 / rows[0]['ms'])
    assert rows[0]['input'] == '3x32x32'


def test_encoders_are_measured_in_both_memory_formats():
    rows = list(hosts.measure_encoders(repeats=1, networks=SMALL))
    assert [r['step'] for r in rows] == ['classes, float32', 'classes, float32, channels last']
    assert rows[0]['ratio'] == 1


def test_a_step_runs_in_each_precision():
    step = Step(SMALL['classes'], 'cpu')
    for precision, dtype in (('bfloat16', torch.bfloat16), ('TF32', None)):
        with hosts.computing(precision), step.precision(precision):
            assert step.wrapper.dtype is dtype
            assert torch.backends.cudnn.allow_tf32
            step()
    assert step.wrapper.dtype is None


def test_plugins_are_compared_with_the_plain_step_of_their_host(monkeypatch):
    ran = []
    monkeypatch.setattr(Step, '__call__', lambda step: ran.append((list(step.host.plugins), step.aux_heads)))
    rows = list(hosts.measure_plugins(repeats=1, networks={k: SMALL[k] for k in ('masks', 'boxes', 'fusion')}))
    names = [r['step'] for r in rows]
    for host in ('masks', 'boxes'):
        assert {f'{host}: {p}' for p in ('plain', 'plain, with heads', 'MWAM', 'OGM-GE')} <= set(names)
    assert 'masks: MAR' in names
    assert 'boxes: MAR' not in names  # it has no losses of single samples
    assert not [n for n in names if n.startswith('fusion')]
    assert (['MWAM'], False) in ran
    assert (['OGMGE'], True) in ran
    assert ([], True) in ran


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_every_published_host_is_built_with_the_plugins_it_takes(name):
    for plugin in (None, *PLUGINS_.values()) if NETWORKS[name].plugged else (None,):
        try:
            step = Step(NETWORKS[name], 'meta', plugin)
        except hosts.InputError:
            continue
        assert set(step.data['inputs']) == set(step.host.modalities)
