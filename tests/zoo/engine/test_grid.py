"""Grids of runs: what is missing, what waits for what, and the numbers in the table."""

import json
import math
from pathlib import Path

import pytest

from registry import InputError, NameNotFound
from zoo.engine.grid import Grid, Run, interval, run_one, write_results

ROOT = Path(__file__).parents[3]
GRID = """
title: A toy
config: c.py
seeds: [0, 1]
rows:
  - {name: base}
  - {name: tuned, tune: {lr: [0.1, 0.2]}}
  - {name: MWAM, plugins: [MWAM]}
  - {name: static, static_from: MWAM}
"""
SHORT = {
    'train_dataloader.dataset.per_digit': 1,
    'val_dataloader.dataset.per_digit': 1,
    'test_dataloader.dataset.per_digit': 1,
    'train_cfg.max_epochs': 1,
    'model.encoder': 'test_resnet',
}


@pytest.fixture
def grid(tmp_path):
    (tmp_path / 'toy.yaml').write_text(GRID)
    return Grid.load(tmp_path / 'toy.yaml')


def result(full, validation=0.0, logged=()):
    subsets = [{'modalities': ['a'], 'score': full / 2}, {'modalities': ['a', 'b'], 'score': full}]
    average = {'score_all': full * 0.75, 'pcr_incomplete': 50.0}
    sweep = {'metric': 'accuracy', 'modalities': ['a', 'b'], 'subsets': subsets, 'average': average}
    stamp = {'seconds': 1.0, 'date': '2026-01-02', 'hardware': 'a machine'}
    return {'sweep': sweep, 'validation': validation, 'logged': dict(logged), **stamp}


def names(grid, only='*'):
    return [(r.row, r.seed) for r in grid.missing(only)]


def test_dependent_runs_wait_for_the_others(grid):
    assert grid.count() == 8 + 4
    assert ('static', 0) not in names(grid)
    assert ('tuned, 0.1', 0) in names(grid)
    assert ('tuned', 0) not in names(grid)
    for run in grid.missing('MWAM'):
        run.save(result(80, logged={'plugin/MWAM/a/K_mean': 0.5 + run.seed, 'plugin/MWAM/b/K_mean': 1.5}))
    (static, _) = grid.missing('static')
    assert static.plugins == ["StaticWeights(factors={'a': 1.0, 'b': 1.5})"]
    for run in grid.missing('tuned'):
        run.save(result(10, validation=run.options['lr']))
    assert [r.options for r in grid.missing('tuned')] == [{'lr': 0.2}] * 2
    for run in grid.missing('tuned'):
        run.save(result(90))
    assert grid.missing('tuned') == []
    assert grid.count(done=True) == 2 + 4 + 2


def test_a_result_of_another_recipe_does_not_count(grid):
    for run in grid.missing('base'):
        run.save(result(80))
    assert grid.missing('base') == []
    grid.rows[0]['options'] = {'x': 1}
    assert [r.seed for r in grid.missing('base')] == [0, 1]


def test_interval_is_students():
    mean, half = interval([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.302653, standard error 1 / sqrt(3)
    assert mean == 2
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_the_table_shows_means_and_intervals(grid, tmp_path):
    for run, score in zip(grid.missing('base'), (80.0, 84.0)):
        run.save(result(score))
    write_results([grid], tmp_path / 'results.md')
    text = (tmp_path / 'results.md').read_text()
    half = interval([80.0, 84.0])[1]
    assert f'| base | 82.0 ± {half:.1f} | 41.0 ± {half / 2:.1f} |' in text
    assert '2026-01-02' in text
    assert json.loads(grid.path('base', 0).read_text())['validation'] == 0.0


def test_the_title_of_a_group_stands_for_its_rows(tmp_path):
    rows = [('x, y', 'one', '{config: d.py, seeds: 1}'), ('z', 'one', '{config: d.py}'), ('u', 'two', '{seeds: 1}')]
    listed = ''.join(f'\n  - {{name: "{name}", group: {group}, {more[1:]}' for name, group, more in rows)
    (tmp_path / 'groups.yaml').write_text(f'title: A toy\nconfig: c.py\nseeds: [0, 1]\nrows:{listed}\n')
    grid = Grid.load(tmp_path / 'groups.yaml')
    for run in grid.missing('*'):
        run.save(result(50.0))
    write_results([grid], tmp_path / 'results.md')
    notes = (tmp_path / 'results.md').read_text().splitlines()
    assert '- One: `d.py`.' in notes
    assert '- x, y; u: the first 1 seeds.' in notes


def test_an_attack_is_part_of_the_recipe_and_has_its_columns(grid, tmp_path):
    for run in grid.missing('base'):
        run.save(result(80))
    grid.attack = {'attacks': ['PGD'], 'eps': '4/255', 'steps': [20]}
    for run, score in zip(grid.missing('base'), (30.0, 34.0)):  # results without it do not count
        run.save({**result(80), 'robust': {'pgd-20': score, 'pgd-20, EOT 20': score / 2}})
    assert grid.missing('base') == []
    write_results([grid], tmp_path / 'results.md')
    text = (tmp_path / 'results.md').read_text()
    assert '| | complete | pgd-20 | pgd-20, EOT 20 | worst subset |' in text
    assert f'| 32.0 ± {interval([30.0, 34.0])[1]:.1f} | 16.0 ±' in text


def test_a_trained_host_is_attacked(tmp_path, cache, monkeypatch):
    monkeypatch.setenv('COUNTERPOISE_CACHE', str(cache))
    attack = {'attacks': ['PGD'], 'eps': '4/255', 'steps': [1, 2], 'count': 8}
    config = str(ROOT / 'configs' / 'late_fusion' / 'r18_digitscenes.py')
    found = run_one(Run('base', 0, tmp_path / 'x.json', config, [], SHORT, attack))
    assert list(found['robust']) == ['clean', 'pgd-1', 'pgd-2']
    assert found['robust']['pgd-2'] <= found['robust']['clean']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'lacks title, config'),
        ('a: [', 'is not YAML'),
        ('titel: x\nrows: []', "'titel'. Did you mean 'title'"),
        (GRID + '  - {nam: x}', "Did you mean 'name'"),
        (GRID + 'attack: {epsilon: 1}', "key of the attack .* Did you mean 'eps'"),
    ],
)
def test_a_bad_grid_is_refused(tmp_path, text, message):
    (tmp_path / 'bad.yaml').write_text(text)
    with pytest.raises((InputError, NameNotFound), match=message):
        Grid.load(tmp_path / 'bad.yaml')


def test_a_teacher_is_trained_first_and_again_where_its_weights_lack(grid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid.rows += [{'name': 'taught', 'teacher': 'base', 'plugins': ['LogitKD'], 'seeds': 1}]
    assert names(grid, 'taught') == [('base', 0)]
    (teacher,) = grid.missing('taught')
    teacher.save(result(90))
    assert names(grid, 'taught') == [('base', 0)]  # the result is there, its weights are not
    teacher.weights.parent.mkdir(parents=True)
    teacher.weights.write_bytes(b'')
    (taught,) = grid.missing('taught')
    assert (taught.row, taught.seed, taught.teacher) == ('taught', 0, teacher)
    taught.save(result(80))
    assert grid.missing('taught') == []
    assert grid.count('taught') == 1


def test_a_run_is_taught_by_the_weights_of_another(tmp_path, cache, monkeypatch):
    monkeypatch.setenv('COUNTERPOISE_CACHE', str(cache))
    configs = ROOT / 'configs' / 'fd_cmkd'
    config = str(configs / 'r18_digitscenes_depth.py')
    teacher = Run('depth', 0, tmp_path / 't.json', config, [], SHORT, weights=tmp_path / 'weights' / 't.pth')
    teacher.save(run_one(teacher))
    config = str(configs / 'r18_digitscenes_rgb.py')
    taught = run_one(Run('taught', 0, tmp_path / 's.json', config, ['FDCMKD'], SHORT, teacher=teacher))
    assert teacher.weights.is_file()
    assert taught['sweep']['modalities'] == ['rgb']


@pytest.mark.parametrize(
    ('row', 'words'),
    [
        ('{name: taught, teacher: bsae}', r'bsae.*base'),
        ('{name: taught, teacher: tuned}', 'taught in bad.yaml: a row that is taught can not be tuned'),
        ('{name: taught, teacher: taught}', 'neither tuned nor taught'),
        ('{name: few, seeds: two}', r'seeds of few in bad.yaml must be in 1..2, got .two.'),
        (
            '{name: few, seeds: 1}\n  - {name: taught, teacher: few}',
            'taught in bad.yaml has 2 seeds, its teacher few only 1',
        ),
    ],
)
def test_teachers_that_can_not_teach_are_named(tmp_path, row, words):
    (tmp_path / 'bad.yaml').write_text(f'{GRID}  - {row}\n')
    with pytest.raises((InputError, NameNotFound), match=words):
        Grid.load(tmp_path / 'bad.yaml')
