"""Checkpoints: plain values only, whole files only, and clear words about what does not fit."""

import os
import random

import numpy as np
import pytest
import torch

import zoo
from registry import InputError
from zoo.engine import checkpoint as ckpt


def test_what_plain_keeps_reads_back_without_pickle(tmp_path):
    state = {'a': np.float64(1.5), 'f': print, 'l': [np.int64(2), (torch.ones(2), None)], 3: 'x', 'i': float('inf')}
    ckpt.save(state, tmp_path / 'a.pth')
    back = ckpt.load(tmp_path / 'a.pth')
    assert back.keys() == {'a', 'l', 3, 'i'}
    assert (back['a'], type(back['a'])) == (1.5, float)
    assert torch.equal(back['l'][1][0], torch.ones(2))


def test_what_is_not_plain_is_refused_by_name():
    with pytest.raises(TypeError, match=r"checkpoint\['a'\]\[1\] is a set"):
        ckpt.plain({'a': [1, {2}]})


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    ckpt.save({'x': 1}, path)

    def dies(value, file):
        file.write(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(torch, 'save', dies)
    with pytest.raises(OSError, match='disk full'):
        ckpt.save({'x': 2}, path)
    assert ckpt.load(path) == {'x': 1}
    assert os.listdir(tmp_path) == ['a.pth']


def test_the_latest_is_what_the_pointer_names_if_it_is_whole(tmp_path):
    assert ckpt.latest(tmp_path) is None
    for i in (1, 2, 3):
        ckpt.save({'i': i}, tmp_path / f'iter_{i}.pth')
        os.utime(tmp_path / f'iter_{i}.pth', (i, i))
    assert ckpt.latest(tmp_path).name == 'iter_3.pth'
    (tmp_path / ckpt.POINTER).write_text('iter_2.pth\n')
    assert ckpt.latest(tmp_path).name == 'iter_2.pth'
    (tmp_path / 'iter_2.pth').write_bytes((tmp_path / 'iter_2.pth').read_bytes()[:200])
    assert ckpt.latest(tmp_path).name == 'iter_3.pth'
    (tmp_path / ckpt.POINTER).write_text('iter_9.pth\n')
    assert ckpt.latest(tmp_path).name == 'iter_3.pth'


def test_random_states_come_back():
    device = torch.device('cpu')
    states = ckpt.plain(ckpt.random_states(device))
    drawn = torch.rand(3), np.random.rand(3), random.random()
    ckpt.set_random_states(states, device)
    assert torch.equal(drawn[0], torch.rand(3))
    assert (drawn[1] == np.random.rand(3)).all()
    assert drawn[2] == random.random()


@pytest.fixture
def make():
    def make(**arguments):
        return zoo.create_host('late_fusion', modalities=['a', 'b'], num_classes=3, encoder='test_resnet', **arguments)

    return make


def test_a_host_trained_with_plugins_loads_into_the_plain_one(make):
    trained = make(plugins=['MWAM'])
    plain = make()
    state = {f'module.{k}': v for k, v in trained.state_dict().items()}
    ckpt.load_weights(plain, {'state_dict': state}, 'x.pth')
    assert torch.equal(plain.head.weight, trained.head.weight)


def test_what_does_not_fit_is_named(make):
    state = make().state_dict()
    lacking = {k: v for k, v in state.items() if k != 'head.bias'}
    for given, message in (
        (lacking, 'it lacks head.bias'),
        ({**state, 'x': torch.ones(1)}, 'an unknown x'),
        ({**state, 'head.bias': torch.ones(4)}, r'head.bias of shape \(4,\) where \(3,\)'),
        ({}, 'and .* more differences'),
    ):
        with pytest.raises(InputError, match=message):
            ckpt.load_weights(make(), {'state_dict': given}, 'x.pth')


def test_an_earlier_runs_checkpoints_are_set_aside_whole(tmp_path):
    for name in ('iter_3.pth', 'best.pth', ckpt.POINTER, '.iter_4.pth.123', 'modality_sweep.json'):
        (tmp_path / name).write_text(name)
    ckpt.set_aside(tmp_path)
    assert ckpt.latest(tmp_path) is None
    (folder,) = tmp_path.glob('before_*')
    assert sorted(os.listdir(folder)) == ['best.pth', 'iter_3.pth', ckpt.POINTER]
    assert sorted(os.listdir(tmp_path)) == [folder.name, 'modality_sweep.json']
