"""README and docs are true: their Python runs, their commands parse, their links lead somewhere.

A Python block that begins with ``# file: NAME`` is a file that the reader is told to write; the others run one after
the other, with these files in the current folder. What a block prints must be what its comments say.
"""

import doctest
import importlib.util
import re
import runpy
import shlex
import sys
import textwrap
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path

import contract_cases
import pytest
import yaml

import plugins  # noqa: F401  registers them
import registry
import zoo
from zoo.engine import Runner, build_host, load_config, parse_options
from zoo.engine.config import KNOWN_KEYS

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob('*.md')), *sorted((ROOT / 'docs').glob('*.md'))]
LINK = re.compile(r'\]\(([^)\s]+)\)')
TABLES = [t for t in vars(registry).values() if isinstance(t, registry.Registry)]


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name that a block of Python has as a file."""
        match = re.match(r'# file: (\S+)\n', self.text)
        return match and match[1]


def blocks(page: Path) -> list[Block]:
    found, lines = [], page.read_text(encoding='utf8').split('\n')
    start = None
    for number, line in enumerate(lines, start=1):
        if not line.lstrip().startswith('```'):
            continue
        if start is None:
            start = number
            language = line.strip().removeprefix('```')
        else:
            text = textwrap.dedent('\n'.join(lines[start : number - 1])) + '\n'
            found.append(Block(page, start, language, text))
            start = None
    assert start is None, f'{page.name}: the block of line {start} does not end'
    return found


def python_pages() -> list[Path]:
    return [p for p in PAGES if any(b.language == 'python' for b in blocks(p))]


def commands() -> list[tuple[str, str]]:
    """(page, line) of every shell command, without its comment."""
    lines = [(p.name, line) for p in PAGES for b in blocks(p) if b.language == 'bash' for line in b.text.splitlines()]
    return [(page, line.split('  #')[0].strip()) for page, line in lines if line.strip()]


def tool_commands() -> list[tuple[str, str]]:
    return [(page, line) for page, line in commands() if 'python tools/' in line or 'torchrun' in line]


def expected_output(text: str) -> list[str]:
    """Comments behind ``print(...)``, or those at the end of a block that prints in a loop."""
    behind = re.findall(r'^ *print\(.*\)  # (.*)$', text, flags=re.MULTILINE)
    at_the_end = re.search(r'((?:^# .*\n)+)\Z', text, flags=re.MULTILINE)
    return behind or [line.removeprefix('# ') for line in (at_the_end[1].splitlines() if at_the_end else [])]


@pytest.fixture
def reader(tmp_path, monkeypatch, cache):
    """A folder in which a reader works; what is registered and imported there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COUNTERPOISE_CACHE', str(cache))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    tables = [dict(t.module_dict) for t in TABLES]
    modules = set(sys.modules)

    def write(page: Path) -> list[Path]:
        files = []
        for block in blocks(page):
            if block.language == 'python' and block.file:
                file = tmp_path / block.file
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text, encoding='utf8')
                files.append(file)
        return files

    yield write
    for table, before in zip(TABLES, tables):
        table.module_dict.clear()
        table.module_dict.update(before)
    for name in set(sys.modules) - modules:
        if Path(getattr(sys.modules[name], '__file__', None) or '/').is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.mark.parametrize('page', python_pages(), ids=lambda p: p.stem)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page, reader, capsys):
    files = reader(page)
    namespace = {'__name__': page.stem}
    for block in blocks(page):
        if block.language != 'python' or block.file:
            continue
        code = compile('\n' * block.line + block.text, str(page), 'exec')  # an error then names the page's own line
        capsys.readouterr()
        exec(code, namespace)
        printed = [line for line in capsys.readouterr().out.splitlines() if ' - mmengine - ' not in line]
        if expected := expected_output(block.text):
            assert printed == expected, f'{page.name}, line {block.line}'
    ran = ''.join(b.text for b in blocks(page) if not b.file)
    for file in files:
        text = file.read_text(encoding='utf8')
        if 'train_dataloader =' in text and f"load_config('{file.name}'" not in ran:
            sweep = Runner(load_config(file), device='cpu').train_and_test()
            assert sweep.full is not None
        elif '_base_ =' in text:
            build_host(load_config(file))


@pytest.fixture
def contract(monkeypatch):
    """Runs the contract test on a case of the docs, with a recipe of theirs."""
    spec = importlib.util.spec_from_file_location('contract_of_the_docs', ROOT / 'tests' / 'test_contract.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    checks = [f for name, f in vars(module).items() if name.startswith('test_')]
    shipped = contract_cases.recipe

    def run(name, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(contract_cases, 'RECIPES', Path('tests/recipes'))
            own = shipped.__wrapped__(name)
        for there in (module, contract_cases):
            monkeypatch.setattr(there, 'recipe', lambda wanted: own if wanted == name else shipped(wanted))
        case = contract_cases.Case(*arguments)
        passed = 0
        for check in checks:
            meant = [c for mark in getattr(check, 'pytestmark', ()) for c in mark.args[1] if mark.args[0] == 'case']
            if list(signature(check).parameters) == ['case'] and any(
                bool(c.plugin) == bool(case.plugin) for c in meant
            ):
                with suppress(pytest.skip.Exception):
                    check(case)
                    passed += 1
        return passed

    return run


@pytest.mark.parametrize('plugin', [None, 'MWAM', 'OGMGE'])
def test_the_host_of_the_docs_keeps_the_contract(plugin, reader, contract):
    reader(ROOT / 'docs' / 'add_a_host.md')
    import_module('pixel_mlp')
    assert contract('PixelMLP', 'PixelMLP', None, plugin) > 5


@pytest.mark.parametrize('variant', [0, 1])
def test_the_plugin_of_the_docs_keeps_the_contract(variant, reader, contract):
    reader(ROOT / 'docs' / 'write_a_plugin.md')
    import_module('loss_balance')
    assert contract('LossBalance', 'LateFusion', 'Concat', 'LossBalance', variant) > 5


def test_the_docstring_example_of_the_docs_plugin_holds(reader):
    reader(ROOT / 'docs' / 'write_a_plugin.md')
    assert doctest.testmod(import_module('loss_balance')) == (0, 1)


@pytest.mark.parametrize(('page', 'line'), tool_commands())
def test_a_command_of_the_docs_has_flags_and_files_that_exist(page, line, reader, monkeypatch, tmp_path):
    for other in PAGES:
        reader(other)
    words = shlex.split(line)
    tool = next(w for w in words if w.startswith('tools/'))
    assert (ROOT / tool).is_file()
    arguments = words[words.index(tool) + 1 :]
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    args = runpy.run_path(str(ROOT / tool))['parse_args']()
    if not getattr(args, 'config', None):
        return
    options = parse_options(args.cfg_options)
    cfg = load_config(args.config, getattr(args, 'plugins', None), options)
    for plugin in cfg.get('plugins') or []:
        registry.PLUGINS.build(plugin)


def test_every_make_target_of_the_docs_exists():
    targets = set(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), flags=re.MULTILINE))
    named = {w for _, line in commands() if line.startswith('make ') for w in line.split()[1:]}
    assert {'demo', 'test', 'setup'} <= named <= targets


@pytest.mark.parametrize('tool', ['train', 'test', 'predict', 'explain'])
def test_the_table_of_flags_is_complete(tool, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['tool', '--help'])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'))['parse_args']()
    flags = set(re.findall(r'^  (--[\w-]+)', capsys.readouterr().out, flags=re.MULTILINE))
    text = (ROOT / 'docs' / 'configs.md').read_text()
    table = text[text.index(f'| flag of `tools/{tool}.py`') :].split('\n\n')[0]
    assert flags == set(re.findall(r'--[a-z][\w-]+', table))


def test_the_table_of_config_keys_is_complete():
    text = (ROOT / 'docs' / 'configs.md').read_text()
    table = text[text.index('| key | meaning |') :].split('\n\n')[0]
    first_column = ' '.join(line.split('|')[1] for line in table.splitlines()[2:])
    assert set(re.findall(r'`(\w+)`', first_column)) == KNOWN_KEYS


def test_every_data_set_has_a_section():
    headings = re.findall(r'^## (.+)$', (ROOT / 'docs' / 'datasets.md').read_text(), flags=re.MULTILINE)
    plain = {h.replace('-', '').replace(' ', '').lower() for h in headings}
    shipped = {n.lower() for n, c in registry.DATASETS.module_dict.items() if c.__module__.startswith('zoo.')}
    assert shipped <= plain


def links() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        prose = re.sub(r'```.*?```', '', page.read_text(encoding='utf8'), flags=re.DOTALL)
        found += [(page.relative_to(ROOT).as_posix(), link) for link in LINK.findall(prose)]
    return [(page, link) for page, link in found if not re.match(r'\w+:', link)]


@pytest.mark.parametrize(('page', 'link'), links())
def test_a_relative_link_leads_to_a_file(page, link):
    assert ((ROOT / page).parent / link.split('#')[0]).exists()


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf8'))
    assert citation['version'] == zoo.__version__
    assert citation['license'] == 'Apache-2.0'
    heading = f'## [{zoo.__version__}] - {citation["date-released"]}'
    assert heading in (ROOT / 'CHANGELOG.md').read_text(encoding='utf8').splitlines()


def test_the_hooks_are_local():
    hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text(encoding='utf8'))
    assert {r['repo'] for r in hooks['repos']} == {'local'}
    assert {h['entry'].split()[1] for r in hooks['repos'] for h in r['hooks']} == {'check', 'format'}
