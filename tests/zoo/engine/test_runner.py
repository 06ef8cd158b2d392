"""What the runner does before training: parts of the host see the training data; all of it resumes to the same bits."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from registry import InputError
from zoo.engine import Runner, load_config
from zoo.engine.checkpoint import load, load_weights
from zoo.engine.evaluate import build_host

CONFIG = Path(__file__).parents[2] / 'toy' / 'toy_masks_config.py'
SCHEME = 'model.loss.losses'


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda options=None: load_config(CONFIG, options=options)


def by_hand():
    """Median frequency of the toy masks: 22 images of 32 x 64 whose lowest row is void."""
    pixels = [0, 31 * sum(4 + i % 5 for i in range(22)), 8 * 8 * 20, 22]
    pixels[0] = 22 * 31 * 64 - sum(pixels)
    images = [22, 22, 8, 22]
    frequency = [p / (n * 32 * 64) for p, n in zip(pixels, images)]
    middle = sum(sorted(frequency)[1:3]) / 2
    return torch.tensor([middle / f for f in frequency])


def test_class_weights_are_counted_once_before_training(cfg, tmp_path, monkeypatch):
    from toy_masks import ToyMasks

    calls = []
    count = ToyMasks.label_counts
    monkeypatch.setattr(ToyMasks, 'label_counts', lambda self: calls.append(len(self)) or count(self))
    runner = Runner(cfg({'train_cfg.max_epochs': 1}), tmp_path / 'run', 'cpu')
    runner.train()
    assert calls == [22]
    torch.testing.assert_close(runner.host.criterion.losses[0].weight, by_hand())


def test_a_resumed_run_with_counted_weights_and_one_cycle_ends_in_the_same_bits(cfg, tmp_path):
    whole = Runner(cfg(), tmp_path / 'whole', 'cpu')
    whole.train()
    assert whole.max_iters == 4 * (22 // 4)  # drop_last
    (tmp_path / 'rest').mkdir()
    shutil.copy(tmp_path / 'whole' / 'iter_9.pth', tmp_path / 'rest')
    rest = Runner(cfg(), tmp_path / 'rest', 'cpu')
    assert rest.resume_from().name == 'iter_9.pth'
    rest.train()
    a, b = (load(tmp_path / name / 'iter_20.pth') for name in ('whole', 'rest'))
    assert a['state_dict'].keys() == b['state_dict'].keys()
    assert all(torch.equal(v, b['state_dict'][k]) for k, v in a['state_dict'].items())
    assert a['optimizer']['param_groups'] == b['optimizer']['param_groups']
    torch.testing.assert_close(rest.host.criterion.losses[0].weight, by_hand())


def test_a_checkpoint_of_counted_weights_loads_where_nobody_counted(cfg, tmp_path):
    runner = Runner(cfg({'train_cfg.max_epochs': 1}), tmp_path / 'run', 'cpu')
    runner.train()
    saved = load(tmp_path / 'run' / 'iter_5.pth')
    assert not [k for k in saved['state_dict'] if k.startswith('criterion')]
    host = build_host(cfg())
    load_weights(host, saved, 'iter_5.pth')
    host.eval()
    assert host({'rgb': torch.zeros(1, 3, 32, 64), 'depth': torch.zeros(1, 1, 32, 64)}).isfinite().all()


def test_data_that_can_not_be_counted_are_refused_before_anything_is_written(cfg, tmp_path):
    options = {
        'custom_imports': ['toy_scenes'],
        'model': dict(
            _delete_=True,
            type='LateFusion',
            modalities=['rgb', 'depth'],
            num_classes=4,
            encoder='test_resnet',
            in_chans=dict(rgb=3, depth=1),
            loss=dict(type='CrossEntropyLoss', weight='logarithmic'),
        ),
        'train_dataloader.dataset.type': 'ToyScenes',
    }
    with pytest.raises(
        InputError, match=r"'logarithmic' needs a data set with label_counts\(\), which ToyScenes does not"
    ):
        Runner(cfg(options), tmp_path / 'run', 'cpu')
    assert not (tmp_path / 'run').exists()


RANK = """
import sys
import torch
from zoo.engine import Runner, load_config

runner = Runner(load_config(sys.argv[1]), sys.argv[2], 'cpu')
torch.save(runner.host.criterion.losses[0].weight, f'weight_{runner.rank}.pt')
runner.train()
torch.distributed.destroy_process_group()
"""


def test_each_of_two_processes_has_the_weights(tmp_path, start):
    (tmp_path / 'rank.py').write_text(RANK)
    command = [tmp_path / 'rank.py', CONFIG, 'run']
    for done in start(command, command, cwd=tmp_path, grouped=True):
        assert done.returncode == 0, done.stderr
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f'weight_{rank}.pt'), by_hand())


def test_compiled_encoders_of_other_channels_do_not_use_up_each_others_graphs(monkeypatch):
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, 'compile', lambda self, **kwargs: compile_module(self, backend='eager', **kwargs))
    encoders = [nn.Linear(channels, 2) for channels in range(1, 11)]
    with torch._dynamo.config.patch(recompile_limit=8, fail_on_recompile_limit_hit=True):
        host = SimpleNamespace(compilable=lambda: encoders)
        assert Runner.build_model(SimpleNamespace(cfg={'compile_encoders': True}), host) is host
        for encoder in encoders:
            assert encoder(torch.ones(3, encoder.in_features)).shape == (3, 2)
