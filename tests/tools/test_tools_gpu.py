"""The tools on a GPU, as their users meet them."""

import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'tests' / 'toy' / 'toy_config.py'
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')]
ON = ('--device', 'cuda')
PLUGINS = ('--plugins', 'MWAM', 'ModalityDropout(p=0.3)')


def scores(folder):
    return [s['score'] for s in json.loads(Path(folder, 'modality_sweep.json').read_text())['subsets']]


def last(folder):
    return torch.load(Path(folder) / 'iter_18.pth', map_location='cpu', weights_only=True)


@pytest.mark.parametrize('flags', [(), ('--amp',), ('--amp', 'float16')], ids=['float32', 'bfloat16', 'float16'])
def test_what_was_trained_on_a_gpu_scores_alike_on_a_cpu(here, flags):
    code, out, err = here('train', CONFIG, '--work-dir', 'run', *PLUGINS, *flags, *ON)
    assert code == 0, err
    assert 'PCR %' in out
    for device in ('cuda', 'cpu'):
        code, _, err = here('test', CONFIG, 'run/best.pth', '--out', device, '--device', device)
        assert code == 0, err
    assert scores('cuda') == pytest.approx(scores('cpu'), abs=10)  # one of eleven samples may be on the edge
    if not flags:
        assert scores('run') == pytest.approx(scores('cuda'), abs=1e-3)


def test_training_goes_on_where_it_was_stopped(here):
    common = (CONFIG, *PLUGINS, *ON)
    assert here('train', *common, '--work-dir', 'whole')[0] == 0
    # the checkpoint after two of three epochs is all there is
    assert here('train', *common, '--work-dir', 'cut', '--cfg-options', 'train_cfg.max_epochs=2')[0] == 0
    code, _, err = here('train', *common, '--work-dir', 'cut', '--resume')
    assert code == 0, err
    whole, cut = last('whole'), last('cut')
    assert cut['meta']['iter'] == whole['meta']['iter'] == 18
    weights = {k: v for k, v in whole['state_dict'].items() if isinstance(v, torch.Tensor)}
    for k, value in weights.items():
        torch.testing.assert_close(cut['state_dict'][k], value, rtol=1e-3, atol=1e-3, msg=k)


def test_processes_of_a_group_train_over_nccl(start, tmp_path):
    command = [ROOT / 'tools' / 'train.py', CONFIG, '--work-dir', 'run', *PLUGINS, *ON, '--amp']
    (done,) = start(command, cwd=tmp_path, grouped=True)
    assert done.returncode == 0, done.stderr
    assert len(scores(tmp_path / 'run')) == 3


def test_compiled_encoders_train(tool, tmp_path):
    """By Triton, with batches of which each branch sees another number of rows."""
    done = tool('train', CONFIG, '--work-dir', 'run', *PLUGINS, *ON, '--cfg-options', 'compile_encoders=True')
    assert done.returncode == 0, done.stderr
    assert len(scores(tmp_path / 'run')) == 3


@pytest.mark.parametrize(
    ('name', 'flags', 'written'),
    [
        ('explain', ('--masks', 6, '--count', 2), 'explanation/explanation.json'),
        ('attack', ('--bounds', 'none', '--batch-size', 8), None),
    ],
)
def test_tools_of_checkpoints_work(here, name, flags, written):
    assert (
        here('train', CONFIG, '--work-dir', 'run', '--cfg-options', 'train_cfg.max_epochs=1', '--device', 'cuda')[0]
        == 0
    )
    code, out, err = here(name, CONFIG, 'run/best.pth', *flags, *ON)
    assert code == 0, err
    assert out
    assert written is None or Path(written).exists()


def test_pictures_are_drawn(here):
    config = ROOT / 'configs' / 'isfuse' / 'isfuse_digitscenes.py'
    short = ('train_cfg.max_epochs=1', *(f'{x}_dataloader.dataset.per_digit=1' for x in ('train', 'val')))
    code, _, err = here('train', config, '--work-dir', 'run', *ON, '--no-test', '--cfg-options', *short)
    assert code == 0, err
    code, _, err = here('predict', config, 'run/best.pth', '--count', 2, *ON)
    assert code == 0, err
    assert len(list(Path('predictions').iterdir())) >= 2
