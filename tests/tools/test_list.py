"""The listing as its users meet it: tables, JSON, the generated page of the docs, and mistakes."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from registry import ATTACKS, DATASETS, ENCODERS, FUSIONS, HEADS, HOSTS, LOSSES, METRICS, NECKS, PLUGINS
from tools.list import markdown

ROOT = Path(__file__).parents[2]
TOY = ROOT / 'tests' / 'toy' / 'toy_config.py'
BASELINE = 'configs/late_fusion/r18_digitscenes.py'
REGISTRIES = {
    'hosts': HOSTS,
    'encoders': ENCODERS,
    'fusions': FUSIONS,
    'necks': NECKS,
    'heads': HEADS,
    'losses': LOSSES,
    'attacks': ATTACKS,
    'plugins': PLUGINS,
    'datasets': DATASETS,
    'metrics': METRICS,
}
KEYS = {'config', 'description', 'host', 'modalities', 'plugins', 'parameters', 'branches', 'macs', 'input'}


@pytest.fixture
def listed(here):
    """Run the tool with ``--json``; returns what it printed."""

    def run(*arguments):
        code, out, err = here('list', *arguments, '--json')
        assert code == 0, err
        return json.loads(out)

    return run


@pytest.mark.parametrize('kind', REGISTRIES)
def test_a_kind_lists_every_name_with_one_sentence(here, listed, kind):
    rows = listed(kind)
    assert [r['name'] for r in rows] == sorted(REGISTRIES[kind].module_dict)
    ours = [r for r in rows if REGISTRIES[kind].module_dict[r['name']].__module__.startswith(('zoo.', 'plugins.'))]
    assert ours
    for row in ours:
        assert re.fullmatch(r'[A-Z`].+\.', row['description']), row
    _, out, _ = here('list', kind)
    for row in rows:
        assert row['name'] in out


@pytest.mark.parametrize(('kind', 'name', 'end'), [('attacks', 'APGD', 'at first.'), ('metrics', 'MeanAP', '0.95.')])
def test_a_stop_before_a_number_ends_no_sentence(listed, kind, name, end):
    (row,) = listed(kind, name)
    assert row['description'].endswith(end)


@pytest.mark.parametrize('pattern', ['LateFusion', 'late_fusion', 'LATE*', 'late_*'])
def test_names_match_without_regard_to_case_and_underscores(listed, pattern):
    (row,) = listed('hosts', pattern)
    assert row == {
        'name': 'LateFusion',
        'description': 'Classifies from fused vectors: any encoder for each modality, any fusion block, a linear head.',
    }


def test_a_pattern_of_encoders_also_finds_the_models_of_timm(listed):
    names = {r['name']: r['description'] for r in listed('encoders', 'resnet1*')}
    assert 'ResNet-18 model' in names['resnet18']
    assert 'TimmEncoder' not in names
    assert [r['name'] for r in listed('encoders', 'timm*')] == ['TimmEncoder', 'TimmPyramid']


def test_a_wildcard_may_match_nothing(listed):
    assert listed('hosts', 'zz*') == []
    assert listed('configs', 'zz*') == []


@pytest.mark.parametrize('name', ['r18_digitscenes', 'R18_DIGITSCENES.py', 'late_fusion/r18_digitscenes', BASELINE])
def test_a_config_is_found_with_and_without_its_folder(listed, name):
    (row,) = listed('configs', name)
    assert row['config'] == BASELINE


def test_a_config_says_what_its_host_costs(listed):
    (row,) = listed('configs', 'r18_digitscenes_mwam_hybrid')
    assert set(row) == KEYS | {'training_only'}
    assert row['host'] == 'LateFusion'
    assert row['modalities'] == ['rgb', 'depth', 'ir']
    assert row['plugins'] == ['MWAM']
    assert row['input'] == {'rgb': [3, 48, 48], 'depth': [1, 48, 48], 'ir': [1, 48, 48]}
    heads = 3 * (128 * 10 + 10)
    assert row['training_only'] == heads
    assert row['parameters'] == sum(row['branches'].values()) + (3 * 128 * 10 + 10) + heads
    (plain,) = listed('configs', 'r18_digitscenes')
    assert set(plain) == KEYS
    assert plain['macs'] == row['macs']
    assert plain['parameters'] == row['parameters'] - heads


def test_the_parts_of_a_host_are_listed_to_the_unit(here, listed):
    (row,) = listed('configs', 'mmformer_brats', '--parts', '2')
    parts = {p['name']: (p['parameters'], p['macs']) for p in row['parts']}
    published = {  # at 128 voxels a side
        'encoders.flair.levels': (1_473_216, 16_194_207_744),
        'encoders.t1.project': (66_048, 33_554_432),
        'encoders.t2.layers.0': (5_250_048, 2_952_790_016),
        'encoders.t2.positions': (262_144, 0),
        'between.layers.0': (5_250_048, 15_032_385_536),
        'aux.shared': (593_356, 109_991_428_096),
        'decoder': (1_293_444, 35_819_356_160),
    }
    assert {name: parts[name] for name in published} == published
    code, out, _ = here('list', 'configs', 'rfnet_brats', '--parts')
    assert code == 0
    for line in (r'encoders\.flair +1,466,496 +15,040,512,000', r'aux\.shared +586,388 +100,139,008,000'):
        assert re.search(line, out), out
    assert 'decoder.fusions' not in out
    code, _, err = here('list', 'hosts', '--parts')
    assert code == 2
    assert '--parts is for configs' in err


def test_the_table_of_configs_fits_80_columns(here, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    code, out, _ = here('list', 'configs', 'r18_digitscenes*')
    assert code == 0
    for text in ('rgb 3x48x48', 'depth 1x48x48', '717 k', '2.14 M', '29.8 M', 'ModalityDropout', 'only', 'train.'):
        assert text in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_config_outside_the_repository_is_named_as_it_was_given(here, listed, tmp_path):
    text = f'"""Toys, e.g. of Doe et al. (2024). More."""\n_base_ = {str(TOY)!r}\nprint("noise")\n'
    (tmp_path / 'mine.py').write_text(text)
    (row,) = listed('configs', 'mine.py')  # pure JSON, though the config prints
    assert row['config'] == 'mine.py'
    assert row['description'] == 'Toys, e.g. of Doe et al. (2024).'
    assert row['input'] == {'rgb': [3, 16, 24], 'depth': [1, 16, 24]}
    assert row['plugins'] == ['EpochCounter']
    assert not (tmp_path / 'cache').exists()


MISTAKES = {
    'kind': (('host',), "No kind of part named 'host'. Did you mean 'hosts'"),
    'host': (('hosts', 'LateFusio'), "No host 'LateFusio'. Did you mean 'LateFusion'?"),
    'plugin': (('plugins', 'MWAN'), "No plugin 'MWAN'. Did you mean 'MWAM'?"),
    'config': (('configs', 'r18_digitscene'), "No config 'r18_digitscene'. Did you mean 'r18_digitscenes'"),
    'file': (('configs', 'late_fusion/r18_digitscene.py'), "Did you mean 'configs/late_fusion/r18_digitscenes.py'"),
    'docs': (('--docs', 'nowhere/zoo.md'), "'nowhere/zoo.md' can not be written"),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_2(here, name):
    given, message = MISTAKES[name]
    code, out, err = here('list', *given)
    assert code == 2
    assert out == ''
    assert err.startswith('error: ')
    assert message in err
    assert err.count('\n') == 1, err


@pytest.mark.parametrize('given', [('--docs', 'zoo.txt'), ('hosts', '--docs'), ('--docs', '--json'), ('--nonsense',)])
def test_flags_that_do_not_fit_end_with_exit_code_2(here, tmp_path, given):
    code, _, err = here('list', *given)
    assert code == 2
    assert 'Traceback' not in err
    assert list(tmp_path.iterdir()) == []


BROKEN = {
    'argument': ('model = dict(num_clases=3)\n', "no argument 'num_clases'. Did you mean 'num_classes'"),
    'plugin': ("plugins = ['MWAN']\n", "No plugin named 'MWAN'. Did you mean 'MWAM'"),
    'syntax': ('model = dict(\n', 'is not a Python config'),
    'library': (
        "custom_imports = ['needy']\nmodel = dict(type='Needy')\n",
        "Needy needs torch-dct: pip install 'x[dct]'",
    ),
    'bug': ("custom_imports = ['needy']\nmodel = dict(type='Buggy')\n", 'ZeroDivisionError: division by zero'),
}
NEEDY = '''
from registry import HOSTS
from zoo.hosts import LateFusion

class Needy(LateFusion):
    """Wants a library that is not there."""
    def __init__(self, **arguments):
        raise ImportError("Needy needs torch-dct: pip install 'x[dct]'")

class Buggy(LateFusion):
    """Has a bug."""
    def __init__(self, **arguments):
        1 / 0

HOSTS.module_dict.update(Needy=Needy, Buggy=Buggy)
'''


@pytest.fixture
def zoo_of(tmp_path, monkeypatch):
    """Lay out a small zoo: the tool itself and some configs of one line on top of the toy."""
    for name in ('Needy', 'Buggy'):
        monkeypatch.setitem(HOSTS.module_dict, name, None)  # removed at the end
    monkeypatch.setitem(sys.modules, 'needy', None)
    del sys.modules['needy']  # each test imports its own
    (tmp_path / 'needy.py').write_text(NEEDY)

    def lay(**texts):
        folder = tmp_path / 'configs' / 'some'
        folder.mkdir(parents=True)
        (tmp_path / 'tools').mkdir()
        (tmp_path / 'docs').mkdir()
        shutil.copy(ROOT / 'tools' / 'list.py', tmp_path / 'tools')
        for name, text in texts.items():
            (folder / f'{name}.py').write_text(f'"""Words on {name}."""\n_base_ = {str(TOY)!r}\n{text}')

    return lay


@pytest.mark.parametrize('name', BROKEN)
def test_a_config_that_can_not_be_built_gets_one_line(here, zoo_of, tmp_path, name):
    text, message = BROKEN[name]
    zoo_of(**{name: text})
    code, out, err = here('list', 'configs', f'configs/some/{name}.py', '--json')
    assert code == 2
    assert out == ''
    assert message in err
    assert err.count('\n') == 1, err


@pytest.fixture
def own(monkeypatch, tmp_path):
    """Let `here` find the tools of the temporary folder."""
    original = runpy.run_path
    monkeypatch.setattr(
        runpy, 'run_path', lambda path, **named: original(str(tmp_path / 'tools' / Path(path).name), **named)
    )


def test_broken_configs_do_not_hide_the_others(here, zoo_of, own):
    zoo_of(good='', **{name: text for name, (text, _) in BROKEN.items()})
    code, out, err = here('list', 'configs', '--json')
    rows = {Path(r['config']).stem: r for r in json.loads(out)}
    assert code == 2
    assert '4 of 6 configs can not be built: configs/some/argument.py, configs/some/bug.py' in err
    assert 'library' not in err
    for name, (_, message) in BROKEN.items():
        row = rows[name]
        assert message in row['lacks' if name == 'library' else 'error']
        assert row['macs'] is row['parameters'] is None
        assert row['description'] == ('' if name == 'syntax' else f'Words on {name}.')
    assert set(rows['good']) == KEYS
    code, out, _ = here('list', 'configs')
    assert code == 2
    assert 'ZeroDivisionError' in out
    assert '3.66 M' in out


def test_an_optional_library_that_is_absent_is_no_mistake(here, zoo_of, own):
    zoo_of(good='', library=BROKEN['library'][0])
    code, out, err = here('list', 'configs')
    assert code == 0, err
    assert 'Needy needs torch-dct' in out


def test_docs_are_not_written_while_a_config_is_broken(here, zoo_of, own, tmp_path):
    zoo_of(good='', argument=BROKEN['argument'][0])
    (tmp_path / 'docs' / 'zoo.md').write_text('precious')
    code, _, err = here('list', '--docs')
    assert code == 2
    assert 'argument.py' in err
    assert err.count('\n') == 1, err
    assert (tmp_path / 'docs' / 'zoo.md').read_text() == 'precious'


def test_docs_are_written_where_one_says(here, zoo_of, own, tmp_path):
    zoo_of(good='')
    code, _, err = here('list', '--docs', 'mine.md')
    assert code == 0, err
    text = (tmp_path / 'mine.md').read_text()
    assert '`python tools/list.py --docs`' in text.splitlines()[0]
    assert '3.66 M' in text


def test_everything_at_once_is_one_object_with_all_configs_and_the_page_of_the_docs_shows_it(tool):
    """In a process of its own: other tests register toys."""
    done = tool('list', '--json')
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == [*REGISTRIES, 'configs']
    assert 'MWAM' in [r['name'] for r in found['plugins']]
    rows = found['configs']
    assert BASELINE in [r['config'] for r in rows]
    files = sorted((ROOT / 'configs').rglob('*.py'))
    assert [r['config'] for r in rows] == [
        p.relative_to(ROOT).as_posix() for p in files if '_base_' not in p.relative_to(ROOT).parts
    ]
    assert all(r['description'] and r['macs'] and r['parameters'] for r in rows)
    text = (ROOT / 'docs' / 'zoo.md').read_text()
    assert markdown(found) == text, 'run python tools/list.py --docs'
    for link in re.findall(r'\]\(\.\./(.+?)\)', text):
        assert (ROOT / link).is_file()
