"""The tool that attacks checkpoints, as its users meet it."""

import csv
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from plugins import RPAN
from zoo.attacks import FGSM
from zoo.engine import build_host, load_config
from zoo.engine.attempt import attacked_batch, draws_at_random
from zoo.engine.robustness import Robustness
from zoo.engine.trial import Trial, plan
from zoo.hosts import MAIL, LateFusion

CONFIG = Path(__file__).parents[1] / 'toy' / 'toy_config.py'
QUICK = ('--bounds', 'none', '--device', 'cpu', '--batch-size', 8)


def trained(seed=0, steps=25):
    """A host of the toy config that has learnt a little."""
    from toy_scenes import ToyScenes

    torch.manual_seed(seed)
    host = build_host(load_config(CONFIG, plugins=['none']))
    scenes = [ToyScenes(length=40)[i] for i in range(40)]
    data = {
        'inputs': {m: torch.stack([s['inputs'][m] for s in scenes]) for m in ('rgb', 'depth')},
        'present': torch.stack([s['present'] for s in scenes]),
        'target': torch.stack([s['target'] for s in scenes]),
    }
    optimizer = torch.optim.Adam(host.parameters(), 3e-3)
    for _ in range(steps):
        sum(v for k, v in host(**data, mode='loss').items() if 'loss' in k).backward()
        optimizer.step()
        optimizer.zero_grad()
    return host


@pytest.fixture(scope='module')
def weights():
    return trained().state_dict()


@pytest.fixture
def checkpoint(tmp_path, weights):
    torch.save({'state_dict': weights}, tmp_path / 'best.pth')
    return tmp_path / 'best.pth'


def rows():
    return json.loads(Path('robustness.json').read_text())['rows']


def test_it_writes_scores_on_subsets_with_all_or_each_attacked(here, checkpoint):
    arguments = ('--attack', 'pgd', 'square(queries=5)', '--eps', '0,1/10,1', '--steps', '1,4', *QUICK)
    code, out, err = here('attack', CONFIG, 'best.pth', *arguments)
    assert code == 0, err
    found = rows()
    kinds = [(r['present'], r['attacked'], r['name']) for r in found]
    full = ['rgb', 'depth']
    for attack, count in (('clean', 1), ('pgd', 4), ('square(queries=5)', 2)):
        for present, attacked in (
            (['rgb'], ['rgb']),
            (['depth'], ['depth']),
            (full, full),
            (full, ['rgb']),
            (full, ['depth']),
        ):
            if attack != 'clean' or attacked == present:
                assert kinds.count((present, [] if attack == 'clean' else attacked, attack)) == count
    clean = next(r for r in found if r['name'] == 'clean' and r['present'] == full)
    strong = next(r for r in found if r['attacked'] == full and r['eps'] == 1 and r['steps'] == 4)
    assert strong['score'] < clean['score']
    assert clean['samples'] == strong['samples'] == 11
    assert 'rgb + depth' in out
    with open('robustness.csv') as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(found)
    assert table[0]['accuracy'] == f'{found[0]["score"]:.4f}'
    assert Path('robustness.png').stat().st_size > 10_000


def test_a_stopped_run_goes_on_and_another_one_does_not_mix_with_it(here, checkpoint, monkeypatch):
    arguments = ('--subsets', 'full', '--attacked', 'all', '--eps', '0.1,0.2', '--steps', 1, *QUICK)
    code, _, err = here('attack', CONFIG, 'best.pth', *arguments)
    assert code == 0, err
    whole = rows()
    content = json.loads(Path('robustness.json').read_text())
    content['rows'] = content['rows'][:-1]
    content['rows'][0]['score'] = 12.5  # kept: it is not computed again
    Path('robustness.json').write_text(json.dumps(content))
    code, out, err = here('attack', CONFIG, 'best.pth', *arguments)
    assert code == 0, err
    assert [r['score'] for r in rows()] == [12.5, *(r['score'] for r in whole[1:])]
    assert '12.50' in out
    code, _, err = here('attack', CONFIG, 'best.pth', *arguments, '--seed', 1)
    assert code == 2
    assert "'robustness.json' holds results of other weights, data or settings" in err


def test_a_random_host_is_attacked_with_and_without_eot_and_scored_in_several_passes(here, tmp_path):
    cfg = load_config(CONFIG, plugins=['none'])
    host = build_host(cfg).plug(RPAN(0.5))
    torch.save({'state_dict': host.state_dict()}, tmp_path / 'best.pth')
    arguments = ('--cfg-options', 'plugins=[{type: RPAN, ratio: 0.5}]', '--subsets', 'full', '--attacked', 'all')
    short = ('--steps', 1, '--eot', '1,2', '--draws', 3, '--count', 5, *QUICK)
    code, out, err = here('attack', CONFIG, 'best.pth', *arguments, *short)
    assert code == 0, err
    clean, fresh, averaged = rows()
    assert (fresh['eot'], averaged['eot']) == (1, 2)
    assert all(r['std'] is not None and r['samples'] == 5 for r in (clean, fresh, averaged))
    assert '±' in out
    run = json.loads(Path('robustness.json').read_text())['run']
    assert run['random'] is True
    assert 'one draw' in run['settings']['RPAN']['noise']


def test_attacks_can_come_from_another_host(here, checkpoint, tmp_path):
    torch.save({'state_dict': trained(seed=1, steps=0).state_dict()}, tmp_path / 'other.pth')
    common = ('--subsets', 'full', '--attacked', 'all', '--eps', 1, *QUICK)
    for out, own in (
        ('own', ()),
        ('same', ('--surrogate', CONFIG, 'best.pth')),
        ('other', ('--surrogate', CONFIG, 'other.pth')),
    ):
        code, _, err = here('attack', CONFIG, 'best.pth', *common, *own, '--out', out)
        assert code == 0, err
    scores = {
        k: json.loads(Path(k, 'robustness.json').read_text())['rows'][1]['score'] for k in ('own', 'same', 'other')
    }
    assert scores['own'] == scores['same'] <= scores['other']


MISTAKES = {
    'attack': (('--attack', 'pdg'), "No attack named 'pdg'. Did you mean 'PGD'"),
    'argument': (('--attack', 'pgd(step=3)'), "no argument 'step'. Did you mean 'steps'"),
    'flag': (('--attack', 'pgd(eps=3)'), 'eps is not an argument of single attacks here'),
    'eps': (('--eps', '4/2.x'), '--eps takes numbers such as 0,4/255,0.1'),
    'negative': (('--eps=-0.1',), 'eps must be a finite number of at least 0, got -0.1'),
    'steps': (('--steps', '1,x'), '--steps takes numbers such as 1,5,10'),
    'bounds': (('--bounds', '255,0'), '--bounds takes LOW,HIGH'),
    'range': (('--bounds', '0,1'), 'on the scale of the data, outside its range 0..1'),
    'modality': (('--attacked', 'dept'), "named 'dept'. Did you mean 'depth'"),
    'bounds of': (('--bounds', 'dept=0,1'), r"named 'dept'"),
    'draws': (('--draws', '0'), 'draws must be a whole number of at least 1, got 0'),
    'no test data': (('--cfg-options', 'test_dataloader=None'), 'The config has no test_dataloader'),
    'classes': (('--cfg-options', 'model.num_classes=2'), 'has head.'),
    'surrogate': (('--surrogate', 'nothing.py', 'x'), "No config 'nothing.py'"),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_2(here, checkpoint, name):
    arguments, message = MISTAKES[name]
    code, _, err = here('attack', CONFIG, 'best.pth', '--bounds', 'none', '--device', 'cpu', *arguments)
    assert code == 2, err
    assert err.count('\n') == 1, err
    assert message in err


# ---- behind it


def test_the_plan_leaves_out_what_makes_no_difference():
    subsets = [('rgb',), ('rgb', 'depth')]
    trials = plan(('rgb', 'depth'), subsets, ['fgsm', 'pgd(steps=3)', 'PGD'], [0, 0.1], [1, 2], 'all,rgb')
    assert trials[:2] == [Trial(('rgb',)), Trial(('rgb', 'depth'))]
    assert Trial(('rgb',), ('rgb',), 'fgsm', 0.1, None, 1) in trials
    assert [t.steps for t in trials if t.attack == 'pgd(steps=3)'] == [None] * 3
    assert [t.steps for t in trials if t.attack == 'PGD'] == [1, 2] * 3
    assert not any(t.eps == 0 and t.attack != 'clean' for t in trials)
    assert [t.attacked for t in plan(('depth',), subsets, ['fgsm'], [0.1])[2:]] == [('depth',)]


def test_plugins_and_layers_make_a_host_random():
    for always in (True, False):
        encoder = {'type': 'ERLAEncoder', 'depths': (1, 1), 'widths': (4, 8), 'stem_width': 4, 'mc_dropout': always}
        assert draws_at_random(MAIL(('rgb', 'depth'), 3, encoder)) is always
    assert draws_at_random(MAIL(('rgb', 'depth'), 3, encoder).plug(RPAN()))


def test_a_transferred_attack_leaves_pixels_without_a_measurement_as_they_are():
    own, other = (
        LateFusion('depth', 3, 'test_resnet', 1, data_preprocessor={'mean': {'depth': m}, 'invalid': {'depth': 0}})
        for m in (0.4, 0.5)
    )
    raw = torch.rand(2, 1, 32, 48) * (torch.arange(32) > 5)[:, None]
    data = own.data_preprocessor({'inputs': {'depth': raw}, 'target': torch.tensor([0, 2])})
    batch = own.make_batch(**data)
    found = attacked_batch(FGSM(0.1, modalities=['depth']), own, other, batch, torch.Generator().manual_seed(0))
    change = found.inputs['depth'] - batch.inputs['depth']
    assert not change[raw == 0].any()
    assert change.abs().max() == pytest.approx(0.1, abs=1e-5)


def result(*rows):
    made = Robustness('accuracy', ('rgb',), {})
    made.add(Trial(('rgb',)), {'name': 'clean', 'score': 90.0, 'std': None, 'metrics': {}, 'samples': 100})
    for attack, eps, steps, score in rows:
        trial = Trial(('rgb',), ('rgb',), attack, eps, steps)
        made.add(trial, {'name': attack.lower(), 'score': score, 'std': None, 'metrics': {}, 'samples': 100})
    return made


@pytest.mark.parametrize('samples', [10000, 9999])
def test_the_table_keeps_all_it_says_in_80_columns(capsys, samples):
    modalities = ('rgb', 'depth', 'infrared')
    made = Robustness('skin_accuracy', modalities, {})
    values = {'score': 93.75, 'std': 1.25, 'metrics': {}}
    made.add(Trial(modalities), {**values, 'name': 'clean', 'samples': 10000})
    trial = Trial(modalities, modalities, 'APGD(loss=dlr, restarts=5)', 4 / 255, 100, 20)
    made.add(trial, {**values, 'name': 'apgd(loss=dlr, restarts=5)', 'score': 50.0, 'samples': samples})
    Console(width=80).print(made.table('under attack'))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert '…' not in out
    for whole in ('skin_accuracy', '93.75 ± 1.25', '50.00 ± 1.25', '43.75', '4/255', ' 100 ', ' 20 ', str(samples)):
        assert whole in out
    assert ''.join(out.split()).count('samples') == 1


def test_attacks_that_get_weaker_where_they_should_get_stronger_are_doubted():
    fine = result(('PGD', 0.1, 5, 50.0), ('PGD', 0.1, 50, 51.0), ('PGD', 0.2, 5, 20.0), ('Square', 0.1, None, 60.0))
    assert fine.doubts() == []
    assert (
        'pgd on rgb of rgb: 55.00 % at eps 51/255, 50.00 % at 0.1'
        in result(('PGD', 0.1, 5, 50.0), ('PGD', 0.2, 5, 55.0)).doubts()
    )
    assert (
        'pgd on rgb of rgb: 55.00 % at steps 50, 50.00 % at 5'
        in result(('PGD', 0.1, 5, 50.0), ('PGD', 0.1, 50, 55.0)).doubts()
    )
    assert result(('PGD', 0.1, 5, 50.0), ('Square', 0.1, None, 40.0)).doubts() == [
        'square on rgb of rgb at eps 0.1: 40.00 %, with gradients 50.00 %'
    ]
    assert result(('Square', 0.1, None, 60.0), ('Square(p_init=0.3)', 0.1, None, 40.0)).doubts() == []


def test_curves_begin_at_the_clean_score():
    panels = result(('PGD', 0.1, 5, 50.0), ('PGD', 0.2, 5, 20.0), ('PGD', 0.2, 9, 10.0)).curves()
    assert list(panels) == [('pgd, 5 steps', 'eps'), ('pgd, 9 steps', 'eps'), ('pgd, eps 51/255', 'steps')]
    assert panels['pgd, 5 steps', 'eps']['rgb'] == ([0.0, 0.1, 0.2], [90.0, 50.0, 20.0], [0.0, 0.0, 0.0])
    assert panels['pgd, eps 51/255', 'steps']['rgb'].y == [20.0, 10.0]
