"""The training tool as its users meet it: what it writes, and the one line it answers a mistake with."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TOY = ROOT / 'tests' / 'toy'
CONFIG = TOY / 'toy_config.py'
SHORT = ('--device', 'cpu', '--cfg-options', 'train_cfg.max_epochs=1', 'log_level=WARNING')


@pytest.fixture
def trained(here, tmp_path):
    code, out, err = here('train', CONFIG, '--work-dir', 'run', '--plugins', 'MWAM', 'ModalityDropout(p=0.3)', *SHORT)
    assert code == 0, err
    return tmp_path / 'run', out


def test_it_trains_and_ends_with_the_modality_table(trained):
    folder, out = trained
    assert 'rgb' in out
    assert 'PCR %' in out
    result = json.loads((folder / 'modality_sweep.json').read_text())
    assert [s['modalities'] for s in result['subsets']] == [['rgb'], ['depth'], ['rgb', 'depth']]
    assert result['subsets'][-1]['pcr'] is None
    assert result['metric'] == 'accuracy'
    assert result['modalities'] == ['rgb', 'depth']
    assert result['plugins'] == ['MWAM', 'ModalityDropout']
    assert result['seed'] == 5
    assert result['checkpoint'] == 'best.pth'
    scores = [s['score'] for s in result['subsets']]
    assert result['average']['score_all'] == pytest.approx(sum(scores) / 3)
    assert result['average']['score_incomplete'] == pytest.approx(sum(scores[:2]) / 2)
    rows = list(csv.reader((folder / 'modality_sweep.csv').open()))
    assert rows[0] == ['rgb', 'depth', 'accuracy', 'pcr', 'samples']
    assert float(rows[3][2]) == pytest.approx(scores[2], abs=1e-4)


def test_what_plugins_decided_is_in_the_log(trained):
    folder, _ = trained
    lines = [json.loads(line) for line in next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert any(re.fullmatch(r'plugin/MWAM/(rgb|depth)/\w+', key) for key in lines[0])


def test_the_test_tool_repeats_the_table_without_the_plugins(trained, here):
    folder, _ = trained
    first = json.loads((folder / 'modality_sweep.json').read_text())
    code, _, err = here('test', CONFIG, folder / 'best.pth', '--out', 'again', '--device', 'cpu')
    assert code == 0, err
    again = json.loads(Path('again/modality_sweep.json').read_text())
    assert again == first


def test_subsets_can_be_chosen(trained, here):
    folder, _ = trained
    code, _, err = here('test', CONFIG, folder / 'best.pth', '--subsets', 'depth,full', '--out', 'some')
    assert code == 0, err
    some = json.loads(Path('some/modality_sweep.json').read_text())
    assert [s['modalities'] for s in some['subsets']] == [['depth'], ['rgb', 'depth']]


def test_scores_of_classes_are_printed_by_the_test_tool_and_written_by_both(here):
    config = TOY / 'toy_masks_config.py'
    options = ('--device', 'cpu', '--cfg-options', 'test_evaluator=MeanIoU', 'test_dataloader={dataset: ToyMasks}')
    code, out, err = here('train', config, '--work-dir', 'run', *options, 'train_cfg.max_epochs=1', 'log_level=WARNING')
    assert code == 0, err
    assert 'mIoU %' in out
    assert 'stripe' not in out
    classes = ['ground', 'stripe', 'block', 'dot']
    saved = Path('run') / Path('run/last_checkpoint').read_text().strip()
    assert torch.load(saved, weights_only=True)['meta']['classes'] == classes
    code, out, err = here('test', config, saved, '--out', 'again', *options)
    assert code == 0, err
    assert re.findall(r'^│ (\w+) .*\d\.\d\d', out, flags=re.MULTILINE)[:4] == classes
    rows = list(csv.reader(Path('again/per_class.csv').read_text().splitlines()))
    assert rows[0] == ['score', 'class', 'rgb', 'depth', 'rgb+depth']
    assert [r[:2] for r in rows[1:]] == [[score, c] for score in ('IoU', 'accuracy') for c in classes]
    assert Path('run/per_class.csv').read_text() == Path('again/per_class.csv').read_text()


def test_plugins_none_gives_the_plain_baseline(here, tmp_path):
    code, _, err = here('train', CONFIG, '--work-dir', 'run', '--plugins', 'none', *SHORT)
    assert code == 0, err
    state = torch.load(tmp_path / 'run' / 'best.pth', weights_only=True)['state_dict']
    assert not [k for k in state if k.startswith('plugins.')]


@pytest.mark.parametrize('hook', ['EMAHook', 'ModelEMA'])
def test_averaged_weights_are_saved_and_resumed(here, tmp_path, hook):
    ema = (f'custom_hooks=[{{type: {hook}}}]', *SHORT[3:])
    for resume in ([], ['--resume']):
        code, _, err = here('train', CONFIG, '--work-dir', 'run', *resume, '--device', 'cpu', '--cfg-options', *ema)
        assert code == 0, err
        for name in ('best.pth', 'iter_6.pth'):
            saved = torch.load(tmp_path / 'run' / name, weights_only=True)
            assert not torch.equal(saved['state_dict']['head.weight'], saved['ema_state_dict']['module.head.weight'])


def test_amp_trains_in_lower_precision_on_the_cpu(here, tmp_path):
    code, _, err = here('train', CONFIG, '--work-dir', 'run', '--amp', *SHORT)
    assert code == 0, err
    assert (
        json.loads(torch.load(tmp_path / 'run' / 'best.pth')['meta']['config'])['optim_wrapper']['dtype'] == 'bfloat16'
    )


MISTAKES = {
    'plugin': (('--plugins', 'MWAN'), "No plugin named 'MWAN'. Did you mean 'MWAM'"),
    'plugin argument': (('--plugins', 'MWAM(momentun=0.7)'), "no argument 'momentun'. Did you mean 'momentum'"),
    'plugin value': (('--plugins', 'MWAM(momentum=2)'), 'momentum'),
    'plugin expression': (('--plugins', 'MWAM(0.7)'), 'give each argument its name'),
    'plugin missing argument': (('--plugins', 'StaticWeights'), "missing a required argument: 'factors'"),
    'plugin twice': (('--plugins', 'MWAM', 'MWAM'), "named 'MWAM' is attached already"),
    'unimodal': (('--plugins', 'OGMGE'), "needs 'unimodal'"),
    'host': (('model.type=LateFusio',), "No host named 'LateFusio'. Did you mean 'LateFusion'"),
    'host argument': (('model.num_clases=3',), "no argument 'num_clases'. Did you mean 'num_classes'"),
    'encoder': (('model.encoder=resnet19',), "No timm model named 'resnet19'. Did you mean"),
    'fusion': (('model.fusion=Concatt',), "No fusion named 'Concatt'. Did you mean 'Concat'"),
    'loss': (('model.loss=CrossEntropy',), "No loss named 'CrossEntropy'. Did you mean 'CrossEntropyLoss'"),
    'config key': (('trian_cfg.max_epochs=1',), "No config key named 'trian_cfg'. Did you mean 'train_cfg'"),
    'loop argument': (('train_cfg.max_epoch=1',), "no argument 'max_epoch'. Did you mean 'max_epochs'"),
    'epochs': (('train_cfg.max_epochs=0',), 'max_epochs must be a whole number from 1, got 0'),
    'dataset': (('train_dataloader.dataset.type=ToyScene',), "No dataset named 'ToyScene'. Did you mean 'ToyScenes'"),
    'loader argument': (('train_dataloader.batchsize=3',), 'batchsize'),
    'empty data': (('val_dataloader.dataset.length=0',), 'ToyScenes is empty'),
    'evaluation that drops': (('test_dataloader.drop_last=True',), 'neither shuffles nor drops'),
    'modality': (('model.modalities=[rgb, dept]', 'model.in_chans=3'), "named 'dept'. Did you mean 'depth'"),
    'preprocessor': (('model.data_preprocessor={mean: {dept: 1.0}}',), "named 'dept'. Did you mean 'depth'"),
    'metric': (('val_evaluator=Acuracy',), "No metric named 'Acuracy'. Did you mean 'Accuracy'"),
    'optimiser': (('optim_wrapper.optimizer.type=SDG',), "No optimizer named 'SDG'"),
    'rate': (('optim_wrapper.optimizer.lr=-1',), 'Invalid learning rate'),
    'scheduler': (('param_scheduler.type=CosineAnealingLR',), "Did you mean 'CosineAnnealingLR'"),
    'custom imports': (('custom_imports=[nowhere]',), "'nowhere' does not import"),
    'option': (('optim_wrapper',), '--cfg-options takes key=value'),
    'amp': (('optim_wrapper.dtype=float8',), "No dtype for mixed precision named 'float8'"),
    'label': (('model.num_classes=3',), ': label 3 is out of range, expected 0..2'),
    'channels': (('train_dataloader.dataset.channels={rgb: 1, depth: 1}',), 'rgb has 1 channels, the host expects'),
    'checkpoint hook': (('default_hooks.checkpoint.max_keep_ckpts=3',), "no argument 'max_keep_ckpts'"),
    'logger hook': (('default_hooks.logger.intervall=3',), "Did you mean 'interval'"),
    'default hook': (('default_hooks.chekpoint.interval=3',), "Did you mean 'checkpoint'"),
    'custom hook': (('custom_hooks=[{type: KilHook}]',), "No hook named 'KilHook'. Did you mean 'KillHook'"),
    'seed': (('--seed', '-1'), 'whole number from 0'),
    'randomness': (('randomness.sede=1',), "'sede'. Did you mean 'seed'"),
    'test_cfg': (('test_cfg.subset=full',), "'subset'. Did you mean 'subsets'"),
    'scheduler type': (('param_scheduler=StepLR',), 'param_scheduler is dict(type=NAME'),
    'plugin value type': (('--plugins', 'MWAM(momentum=high)'), 'The plugin MWAM can not be built'),
    'host value type': (('model.num_classes=ten',), "num_classes must be an integer of at least 1, got 'ten'"),
    'part value type': (('model.fusion.out_channels=wide',), 'The fusion Attention can not be built'),
    'nan': (('train_dataloader.dataset.bad=infinite',), 'ToyScenes[3]: rgb holds NaN or Inf'),
    'nan in a worker': (
        ('train_dataloader.dataset.bad=infinite', 'train_dataloader.num_workers=1'),
        'ToyScenes[3]: rgb',
    ),
    'nothing present': (('train_dataloader.dataset.bad=nothing',), 'ToyScenes[3]: none of its modalities'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_2_and_overwrites_nothing(here, tmp_path, name):
    given, message = MISTAKES[name]
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'best.pth').write_text('precious')
    flags = given if given[0].startswith('--') else ('--cfg-options', *given)
    code, _, err = here('train', CONFIG, '--work-dir', 'run', '--device', 'cpu', *flags)
    assert code == 2, err
    lines = [line for line in err.splitlines() if ' - mmengine - INFO - ' not in line]
    assert len(lines) == 1, err
    assert lines[0].startswith('error: ')
    assert message in lines[0]
    (kept,) = (tmp_path / 'run').rglob('best.pth')  # set aside where training had begun
    assert kept.read_text() == 'precious'
    if name not in ('nan', 'nan in a worker', 'nothing present', 'label'):
        assert [p.name for p in (tmp_path / 'run').iterdir()] == ['best.pth'], 'found before anything was written'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = dict(', 'is not a Python config'),
        ('model: type: LateFusion\n', 'is not a Python config'),
        ("_base_ = './missing.py'\n", 'can not be read'),
        ('x = 1\n', "No config key named 'x'"),
        ('train_cfg = dict(max_epochs=1)\n', 'no "model"'),
        ("model = dict(modalities=['a'])\n", 'has no "type"'),
    ],
)
def test_a_broken_config_gets_one_line(here, tmp_path, text, message):
    (tmp_path / 'broken.py').write_text(text)
    code, _, err = here('train', 'broken.py')
    assert code == 2
    assert message in err
    assert err.count('\n') == 1, err


def test_other_files_get_one_line(here, tmp_path):
    (tmp_path / 'file').write_text('')
    for arguments, message in (
        (('nowhere.py',), "No config 'nowhere.py'"),
        ((CONFIG, '--work-dir', 'file/run'), 'can not be written'),
        ((CONFIG, '--device', 'gpu'), "Device 'gpu'"),
    ):
        code, _, err = here('train', *arguments)
        assert code == 2
        assert message in err
        assert err.count('\n') == 1, err


class Evil:
    def __reduce__(self):
        return os.system, ('touch owned',)


def test_checkpoints_are_read_without_running_their_code(here, trained, tmp_path):
    folder, _ = trained
    torch.save({'state_dict': {}, 'evil': Evil()}, 'evil.pth')
    Path('text.pth').write_text('not a checkpoint')
    other = torch.load(folder / 'best.pth', weights_only=True)
    other['state_dict']['head.weight'] = torch.zeros(7, 64)
    torch.save(other, 'other.pth')
    for name, message in (
        ('evil.pth', '--trust-checkpoint'),
        ('text.pth', 'can not be read as a checkpoint'),
        ('other.pth', 'has head.weight of shape (7, 64)'),
        ('missing.pth', "No checkpoint 'missing.pth'"),
    ):
        code, _, err = here('test', CONFIG, name)
        assert code == 2
        assert message in err
        assert err.count('\n') == 1, err
    assert not (tmp_path / 'owned').exists()


def test_a_users_host_and_plugin_from_another_folder_are_used_by_a_config(tool, tmp_path):
    (tmp_path / 'mine.py').write_text(
        '''
from plugins import Plugin
from registry import HOSTS, PLUGINS
from zoo.hosts import LateFusion

@HOSTS.register_module()
class MyHost(LateFusion):
    """A host of the user's."""

@PLUGINS.register_module()
class Shout(Plugin):
    """Prints the loss."""
    def __init__(self, word='loss'):
        super().__init__()
        self.word = word
    def on_losses(self, host, batch, outputs, losses):
        print(self.word, type(host).__name__)
        return losses
'''
    )
    (tmp_path / 'config.py').write_text(
        f"""
_base_ = {str(CONFIG)!r}
custom_imports = ['toy_scenes', 'mine']
model = dict(type='MyHost')
plugins = [dict(type='Shout', word='hello')]
train_cfg = dict(max_epochs=1)
"""
    )
    done = tool('train', 'config.py', '--work-dir', 'run', '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('hello MyHost') == 6
    assert json.loads((tmp_path / 'run' / 'modality_sweep.json').read_text())['plugins'] == ['Shout']


def torchrun(tmp_path, tool_name, *arguments):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), str(TOY)]), 'OMP_NUM_THREADS': '1'}
    launcher = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--standalone']
    command = [*launcher, str(ROOT / 'tools' / f'{tool_name}.py'), *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_train_resume_to_the_same_bits_and_test_to_the_same_table(tmp_path, tool, start):
    flags = ('--device', 'cpu', '--plugins', 'MWAM', 'EpochCounter', '--cfg-options', 'train_cfg.max_epochs=2')
    extra = ('default_hooks.checkpoint.interval=1',)
    done = torchrun(tmp_path, 'train', CONFIG, '--work-dir', 'whole', *flags, *extra)
    assert done.stdout.count('PCR %') == 1  # the first process prints
    twice = [[ROOT / 'tools' / 'train.py', CONFIG, '--work-dir', 'halves', *flags, *extra]] * 2
    for half in start(*([*argv, '--no-test'] for argv in twice), cwd=tmp_path, grouped=True):
        assert half.returncode == 0, half.stderr
    pointer = tmp_path / 'halves' / 'last_checkpoint'
    pointer.write_text('iter_5.pth\n')  # as if it had died in the last iteration
    (tmp_path / 'halves' / 'iter_6.pth').unlink()
    for half in start(*([*argv, '--resume'] for argv in twice), cwd=tmp_path, grouped=True):
        assert half.returncode == 0, half.stderr
    first, second = (torch.load(tmp_path / f / 'iter_6.pth', weights_only=True) for f in ('whole', 'halves'))
    for key, value in first['state_dict'].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second['state_dict'][key]), key
    table = json.loads((tmp_path / 'whole' / 'modality_sweep.json').read_text())
    assert table == json.loads((tmp_path / 'halves' / 'modality_sweep.json').read_text())
    assert [s['samples'] for s in table['subsets']] == [9, 9, 11]
    alone = tool('test', CONFIG, 'whole/best.pth', '--device', 'cpu', '--out', 'alone')
    assert alone.returncode == 0, alone.stderr
    assert json.loads((tmp_path / 'alone' / 'modality_sweep.json').read_text()) == table
