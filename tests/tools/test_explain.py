"""The tool that says what predictions lean on, as its users meet it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from plugins.explanation.explain import _in_picture
from zoo.engine import build_host, load_config
from zoo.engine.predict import Item
from zoo.visual import Scene

TOY = Path(__file__).parents[1] / 'toy'
CONFIG = TOY / 'toy_config.py'
QUICK = ('--masks', 6, '--device', 'cpu')
MASKS = """
custom_imports = ['toy_masks']
model = dict(
    type='EncoderDecoder', modalities=['rgb', 'depth'], num_classes=4, encoder='test_resnet',
    in_chans=dict(rgb=3, depth=1), head=dict(type='smp.FPN', decoder_pyramid_channels=16),
)
test_dataloader = dict(
    batch_size=3, dataset=dict(type='ToyMasks', transforms=[dict(type='Resize', size=(32, 64), inputs_only=True)])
)
test_evaluator = 'MeanIoU'
"""
BOXES = """
custom_imports = ['toy_boxes']
model = dict(type='ToyDetector')
test_dataloader = dict(batch_size=4, dataset=dict(type='ToyBoxes'))
test_evaluator = 'MeanAP'
"""


def checkpoint(config, path='best.pth', **options):
    host = build_host(load_config(config, plugins=['none'], options=options))
    torch.save({'state_dict': host.state_dict()}, path)


def figures(folder='explanation'):
    return json.loads(Path(folder, 'explanation.json').read_text())


def test_it_writes_figures_of_all_samples_and_pictures_of_some(here, tmp_path):
    checkpoint(CONFIG, tmp_path / 'best.pth')
    code, out, err = here('explain', CONFIG, 'best.pth', '--count', 2, *QUICK)
    assert code == 0, err
    assert out.splitlines()[-1] == 'Wrote the figures and 2 pictures to explanation.'
    assert sorted(p.name for p in Path('explanation').iterdir()) == [
        *('explanation.csv', 'explanation.json', 'explanation.png'),
        *('test_00000_regions.png', 'test_00001_regions.png'),
    ]
    found = figures()
    changes = ['without rgb', 'without depth', 'random masks', 'complementary masks']
    assert [r['change'] for r in found['rows']] == changes
    assert [r['samples'] for r in found['rows']] == [7, 7, 11, 11]  # four of eleven have one modality
    assert found['rows'][0]['most'] + found['rows'][1]['most'] == 1
    with open('explanation/explanation.csv') as file:
        table = list(csv.DictReader(file))
    assert [r['mean'] for r in table] == [f'{r["mean"]:.6g}' for r in found['rows']]
    assert table[2]['most'] == ''
    assert [p['name'] for p in found['pictures']] == ['test_00000_regions', 'test_00001_regions']
    for seed, same in ((0, True), (1, False)):
        code, _, err = here('explain', CONFIG, 'best.pth', '--count', 0, *QUICK, '--seed', seed, '--out', 'again')
        assert code == 0, err
        again = figures('again')
        assert again['rows'][:2] == found['rows'][:2]
        assert (again['rows'] == found['rows']) == same
        assert again['pictures'] == []


def test_files_are_explained_and_some_lack_a_modality(here, tmp_path):
    (tmp_path / 'masks.py').write_text(MASKS)
    checkpoint(tmp_path / 'masks.py', tmp_path / 'best.pth')
    for folder, names, shape in (('rgb', 'ab', (50, 70, 3)), ('depth', 'a', (50, 70))):
        (tmp_path / 'photos' / folder).mkdir(parents=True)
        for name in names:
            pixels = np.random.default_rng(0).integers(0, 250, shape).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / 'photos' / folder / f'{name}.png')
    code, _, err = here('explain', 'masks.py', 'best.pth', *QUICK, 'photos', '--out', 'drawn', '--block', 4)
    assert code == 0, err
    found = figures('drawn')
    assert [r['samples'] for r in found['rows']] == [1, 1, 2, 2]
    assert [p['name'] for p in found['pictures']] == ['a_regions', 'b_regions']
    assert found['pictures'][1]['lost'] == {'rgb': None, 'depth': None}
    with Image.open('drawn/a_regions.png') as image:
        assert image.size[0] == 2 * 14 + 2 * 280 + 10


@pytest.mark.parametrize(('name', 'text'), [('masks', MASKS), ('boxes', BOXES)])
def test_other_tasks_are_explained_on_their_test_data(here, tmp_path, name, text):
    (tmp_path / 'config.py').write_text(text)
    checkpoint(tmp_path / 'config.py', tmp_path / 'best.pth')
    code, _, err = here('explain', 'config.py', 'best.pth', *QUICK, '--samples', 4, '--count', 2)
    assert code == 0, err
    rows = figures()['rows']
    assert [r['samples'] for r in rows] == [4] * 4
    assert rows[-1]['mean'] > 0
    # both pictures of a toy scene show the same, so its detector loses nothing without one
    assert all((r['mean'] > 0) == (name == 'masks') for r in rows[:2])
    assert len(list(Path('explanation').glob('*_regions.png'))) == 2


def test_a_random_host_says_what_another_draw_moves(here, tmp_path):
    options = ('--cfg-options', 'plugins=[{type: RPAN, ratio: 0.5}]')
    host = build_host(load_config(CONFIG, plugins=['RPAN(ratio=0.5)']))
    torch.save({'state_dict': host.state_dict()}, tmp_path / 'best.pth')
    code, _, err = here('explain', CONFIG, 'best.pth', *QUICK, '--samples', 4, '--count', 0, *options)
    assert code == 0, err
    assert figures()['rows'][-1] == dict(change='another draw', mean=0, low=0, high=0, samples=4, most=None)
    assert 'RPAN' in figures()['run']['settings']


MISTAKES = {
    'masks': (('--masks', 0), 'masks must be a whole number of at least 1, got 0'),
    'samples': (('--samples', 0), 'samples must be a whole number of at least 1, got 0'),
    'count': (('--count', -1), 'count must be a whole number of at least 0, got -1'),
    'batch size': (('--batch-size', 0), 'batch_size must be a whole number of at least 1, got 0'),
    'seed': (('--seed', -1), 'seed must be a whole number of at least 0, got -1'),
    'large seed': (('--seed', 2**31), 'seed must be below 2**31'),
    'block': (('--block', 0), 'block must be an integer of at least 1, got 0'),
    'nothing there': (('nowhere',), 'nowhere: no such file or folder'),
    'out': (('--out', 'best.pth/x'), "'best.pth/x' can not be written"),
    'no test data': (('--cfg-options', 'test_dataloader=None'), 'The config has no test_dataloader'),
    'classes': (('--cfg-options', 'model.num_classes=2'), 'has head.'),
    'one modality': (('--cfg-options', 'model.modalities=[rgb]', 'model.in_chans=3'), 'LateFusion has one modality'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_2(here, tmp_path, name):
    checkpoint(CONFIG, tmp_path / 'best.pth')
    arguments, message = MISTAKES[name]
    code, _, err = here('explain', CONFIG, 'best.pth', *QUICK, *arguments)
    assert code == 2, err
    assert err.count('\n') == 1, err
    assert message in err


def test_predictions_that_are_not_numbers_are_refused(here, tmp_path):
    host = build_host(load_config(CONFIG, plugins=['none']))
    host.head.bias.data.fill_(torch.nan)
    torch.save({'state_dict': host.state_dict()}, tmp_path / 'best.pth')
    code, _, err = here('explain', CONFIG, 'best.pth', *QUICK)
    assert code == 2, err
    assert 'LateFusion gives predictions that are not finite' in err


def test_regions_of_padded_inputs_and_volumes_lie_on_the_picture():
    inputs = {'rgb': torch.zeros(3, 96, 96)}
    scene = Scene('x', ('rgb',), {}, (50, 100), place=(24, 0, 48, 96))
    values = torch.arange(48.0)[:, None].expand(48, 48)  # of a modality of half the size
    shown = _in_picture(values, Item(scene, {'inputs': inputs}))
    assert shown.shape == (24, 48)
    assert shown[0, 0] == 12
    target = torch.zeros(5, 6, 7, dtype=torch.int64)
    target[3, 1] = 1
    volume = torch.arange(5.0)[:, None, None].expand(5, 6, 7)
    item = Item(Scene('x', ('t1',), {}, (6, 7), target=target), {'inputs': {'t1': torch.zeros(1, 5, 6, 7)}})
    assert (_in_picture(volume, item) == 3).all()
