"""Shared by all tests: the toy module on the path, one cache for generated data, quiet threads."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
TOY = ROOT / 'tests' / 'toy'
sys.path.insert(0, str(TOY))
if 'PYTEST_XDIST_WORKER' in os.environ:  # the workers share the cores
    torch.set_num_threads(1)
collect_ignore_glob = ['toy/*', 'recipes/*']  # the search for doctests would import them under a second name


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
    """Where DigitScenes keeps what it draws, once for the whole session."""
    return tmp_path_factory.mktemp('cache')


@pytest.fixture
def tool(tmp_path, cache):
    """Run ``python tools/<name>.py`` as a user would; returns the finished process."""

    def run(name, *arguments, environment=None, timeout=200):
        env = {
            **os.environ,
            'PYTHONPATH': os.pathsep.join([str(ROOT), str(TOY)]),
            'COUNTERPOISE_CACHE': str(cache),
            'OMP_NUM_THREADS': '1',
            'COLUMNS': '160',
            **(environment or {}),
        }
        command = [sys.executable, str(ROOT / 'tools' / f'{name}.py'), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=timeout)

    return run


@pytest.fixture
def here(tmp_path, monkeypatch, capsys, cache):
    """Run a tool inside this process, which saves its start; returns (exit code, standard output, error output)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COUNTERPOISE_CACHE', str(cache))
    monkeypatch.setenv('COLUMNS', '200')

    def run(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run
