"""A run that is killed and resumed ends in the same bits as one that was not."""

import json
import os
from pathlib import Path

import pytest
import torch

from registry import InputError
from zoo.engine import build_host, load_config

CONFIG = Path(__file__).parents[2] / 'toy' / 'toy_config.py'
COMMON = ('--device', 'cpu', '--cfg-options')


def final(folder):
    checkpoint = torch.load(folder / 'iter_18.pth', weights_only=True)
    best = torch.load(folder / 'best.pth', weights_only=True)
    return checkpoint, best, json.loads((folder / 'modality_sweep.json').read_text())


def assert_equal(a, b, where='checkpoint'):
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for k in a:
            assert_equal(a[k], b[k], f'{where}[{k!r}]')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_equal(x, y, f'{where}[{i}]')
    else:
        assert a == b, where


def same_run(a, b, plugins=('EpochCounter',)):
    for x, y in zip(final(a)[:2], final(b)[:2]):
        for run in (x, y):
            config = json.loads(run['meta'].pop('config'))
            assert [p if isinstance(p, str) else p['type'] for p in config['plugins']] == list(plugins)
        assert_equal(x, y)
    assert final(a)[2] == final(b)[2]


@pytest.mark.parametrize(
    ('kills', 'extra'),
    [
        pytest.param((5, 13), (), id='mid-epoch-twice'),
        pytest.param(
            (12,), ('default_hooks.checkpoint.interval=1', 'default_hooks.checkpoint.by_epoch=True'), id='epoch-end'
        ),
        pytest.param((10,), ('optim_wrapper.accumulative_counts=4',), id='accumulation-across-epochs'),
        pytest.param((8,), ('train_dataloader.num_workers=2', 'val_dataloader.num_workers=1'), id='workers'),
    ],
)
def test_killed_and_resumed_ends_in_the_same_bits(tool, tmp_path, kills, extra):
    whole = tool('train', CONFIG, '--work-dir', 'whole', *COMMON, *extra, 'log_level=WARNING')
    assert whole.returncode == 0, whole.stderr
    for i, at in enumerate(kills):
        resume = ['--resume'] if i else []
        hook = f'custom_hooks=[{{"type":"KillHook","at":{at}}}]'
        killed = tool('train', CONFIG, '--work-dir', 'killed', *resume, *COMMON, *extra, 'log_level=WARNING', hook)
        assert killed.returncode == -9, killed.stderr
    resumed = tool('train', CONFIG, '--work-dir', 'killed', '--resume', *COMMON, *extra, 'log_level=WARNING')
    assert resumed.returncode == 0, resumed.stderr
    same_run(tmp_path / 'whole', tmp_path / 'killed')


def test_distillation_and_mined_combinations_go_on_where_they_stood(here, tmp_path, monkeypatch):
    """Stopped in the second of two epochs that count, with a window of gradients open across their border."""
    torch.manual_seed(1)
    torch.save({'state_dict': build_host(load_config(CONFIG, plugins=['none'])).state_dict()}, tmp_path / 'teacher.pth')
    plugins = [
        dict(type='ModalityDropout', mode='subsets'),
        dict(type='MAD', teacher=str(CONFIG), checkpoint='teacher.pth', alpha=1.0, start_epoch=1),
        dict(type='MAR', mine=[0, 2], start_epoch=2),
    ]
    options = (*COMMON, f'plugins={json.dumps(plugins)}', 'optim_wrapper.accumulative_counts=4')

    def stop(*_):
        raise InputError('stopped')

    monkeypatch.setattr(os, 'kill', stop)
    assert here('train', CONFIG, '--work-dir', 'whole', *options)[0] == 0
    killed = here('train', CONFIG, '--work-dir', 'killed', *options, 'custom_hooks=[{"type":"KillHook","at":10}]')
    assert killed[0] == 2, killed
    assert 'stopped' in killed[2]
    assert here('train', CONFIG, '--work-dir', 'killed', '--resume', *options)[0] == 0
    same_run(tmp_path / 'whole', tmp_path / 'killed', [p['type'] for p in plugins])
    state = torch.load(tmp_path / 'whole' / 'iter_18.pth', weights_only=True)['state_dict']
    assert state['plugins.MAR.counts'].sum() > 0


def test_random_filters_noise_and_attacks_go_on_where_they_stood(here, tmp_path, monkeypatch):
    """With a moving average of the weights, which holds them apart from those that are trained."""
    attack = dict(type='PGD', eps=0.01, steps=1, bounds=[-10, 10])
    plugins = [dict(type='RPAN'), dict(type='AdversarialTraining', attack=attack, clean=0.5)]
    options = (*COMMON, f'plugins={json.dumps(plugins)}', 'model.fusion=EMCAM')
    average, kill = '{"type":"ModelEMA","gamma":5}', '{"type":"KillHook","at":10}'

    def stop(*_):
        raise InputError('stopped')

    monkeypatch.setattr(os, 'kill', stop)
    for run, hooks, code in (('whole', average, 0), ('killed', f'{average},{kill}', 2), ('killed', average, 0)):
        resume = ('--resume',) * (run == 'killed' and code == 0)
        done = here('train', CONFIG, '--work-dir', run, *resume, *options, f'custom_hooks=[{hooks}]')
        assert done[0] == code, done
    same_run(tmp_path / 'whole', tmp_path / 'killed', [p['type'] for p in plugins])


def train_on(here, run, *options):
    """Two epochs, then a third."""
    for epochs, resume in ((2, ()), (3, ('--resume',))):
        code, _, err = here(
            'train', CONFIG, '--work-dir', run, *resume, *COMMON, f'train_cfg.max_epochs={epochs}', *options
        )
        assert code == 0, err


def test_a_run_that_is_made_longer_ends_in_the_bits_of_a_long_one(here, tmp_path):
    assert here('train', CONFIG, '--work-dir', 'whole', *COMMON, 'log_level=WARNING')[0] == 0
    train_on(here, 'longer', 'log_level=WARNING')
    same_run(tmp_path / 'whole', tmp_path / 'longer')


def test_a_schedule_up_to_the_end_of_training_goes_on_to_the_new_end(here):
    train_on(here, 'run', 'param_scheduler={_delete_: true, type: PolyLR, by_epoch: false}')
    final = torch.load('run/iter_18.pth', weights_only=True)['param_schedulers'][0]
    assert (final['end'], final['total_iters']) == (18, 17)


def test_the_number_of_workers_changes_nothing(tool, tmp_path):
    for workers in (0, 2):
        options = f'train_dataloader.num_workers={workers}', f'val_dataloader.num_workers={workers}'
        done = tool('train', CONFIG, '--work-dir', f'w{workers}', *COMMON, *options)
        assert done.returncode == 0, done.stderr
    same_run(tmp_path / 'w0', tmp_path / 'w2')


def test_a_half_written_checkpoint_is_never_picked_up(tool, tmp_path):
    done = tool('train', CONFIG, '--work-dir', 'run', '--no-test', *COMMON, 'train_cfg.max_epochs=1')
    assert done.returncode == 0, done.stderr
    run = tmp_path / 'run'
    whole = (run / 'iter_6.pth').read_bytes()
    (run / 'iter_6.pth').write_bytes(whole[: len(whole) // 2])
    resumed = tool('train', CONFIG, '--work-dir', 'run', '--resume', '--no-test', *COMMON, 'train_cfg.max_epochs=1')
    assert resumed.returncode == 0, resumed.stderr
    assert 'Resumed from iter_4.pth' in resumed.stderr + resumed.stdout
    assert (run / 'iter_6.pth').read_bytes()[:4] == b'PK\x03\x04'


def test_resuming_another_run_is_refused(tool, tmp_path):
    done = tool('train', CONFIG, '--work-dir', 'run', '--no-test', *COMMON, 'train_cfg.max_epochs=1')
    assert done.returncode == 0, done.stderr
    for option, message in (
        ('train_dataloader.batch_size=3', 'batch_size=4, now it is 3'),
        ('randomness.seed=6', 'seed 5, now it is 6'),
        ('model.num_classes=5', 'with another model'),
        ('optim_wrapper.optimizer.lr=0.01', 'with another optim_wrapper'),
        ('plugins=[MWAM]', 'with another plugins'),
    ):
        refused = tool('train', CONFIG, '--work-dir', 'run', '--resume', '--no-test', *COMMON, option)
        assert refused.returncode == 2
        assert message in refused.stderr, refused.stderr
        assert refused.stderr.count('\n') == 1, refused.stderr
