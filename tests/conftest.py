"""Shared by all tests: the toy module on the path, one cache for generated data, quiet threads."""

import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
import torch

ROOT = Path(__file__).parent.parent
TOY = ROOT / 'tests' / 'toy'
sys.path.insert(0, str(TOY))
import seeding  # noqa: E402

if 'PYTEST_XDIST_WORKER' in os.environ:  # the workers share the cores
    torch.set_num_threads(1)
# the search for doctests would import them under a second name, or run them
collect_ignore_glob = ['toy/*', 'recipes/*', 'fork_server.py']


@pytest.fixture(autouse=True)
def _seeded():
    seeding.seed(0)


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
    """Where DigitScenes keeps what it draws, once for the whole session."""
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='session')
def start(tmp_path_factory, cache):
    """Run scripts in processes of their own, side by side: command lines -> finished processes. They are forked from
    one that has imported the project (`tests/fork_server.py`). ``grouped`` tells each what torchrun would."""
    own = {
        'PYTHONPATH': os.pathsep.join([str(ROOT), str(TOY)]),
        'COUNTERPOISE_CACHE': str(cache),
        'OMP_NUM_THREADS': '1',
        'COLUMNS': '160',
    }
    # without what ultralytics has set in this process, and what tunes the allocator
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(('YOLO_', 'XDG_', 'NUMEXPR_', 'MALLOC_'))}
    command = [sys.executable, str(ROOT / 'tests' / 'fork_server.py')]
    with subprocess.Popen(command, env={**inherited, **own}, stdin=PIPE, stdout=PIPE, text=True) as server:

        def run(*commands, cwd, environment=None, grouped=False, timeout=200):
            group = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port()), 'WORLD_SIZE': str(len(commands))}
            jobs = []
            for rank, argv in enumerate(commands):
                out, err = (str(tmp_path_factory.mktemp('job') / name) for name in ('out', 'err'))
                env = dict(environment or {})
                if grouped:
                    env.update(group, RANK=str(rank), LOCAL_RANK=str(rank))
                jobs.append(dict(argv=list(map(str, argv)), cwd=str(cwd), env=env, out=out, err=err, timeout=timeout))
            print(json.dumps(jobs), file=server.stdin, flush=True)
            codes = json.loads(server.stdout.readline())
            texts = [[Path(job[name]).read_text() for name in ('out', 'err')] for job in jobs]
            return [subprocess.CompletedProcess(c, code, *text) for c, code, text in zip(commands, codes, texts)]

        yield run
        # the end of the input may not come: a worker of a loader that still lives has the pipe too
        print('[]', file=server.stdin, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture
def tool(tmp_path, start):
    """Run ``tools/<name>.py`` in a process of its own; returns the finished process."""

    def run(name, *arguments):
        (done,) = start([ROOT / 'tools' / f'{name}.py', *arguments], cwd=tmp_path)
        return done

    return run


RANK = """
import sys
import torch
import torch.distributed as dist

dist.init_process_group('gloo')
rank, world = dist.get_rank(), dist.get_world_size()
{script}
torch.save(out, sys.argv[1])
dist.destroy_process_group()
"""


@pytest.fixture(scope='session')
def ranks(start, tmp_path_factory):
    """Run a script as the only process and as each of two of a group; returns what each leaves in ``out``. The script
    finds its ``rank``, and ``world``, how many there are."""

    def run(script, worlds=(1, 2)):
        folder = tmp_path_factory.mktemp('ranks')
        path, outs = folder / 'script.py', []
        path.write_text(RANK.format(script=script))
        for world in worlds:
            files = [folder / f'{world}_{rank}' for rank in range(world)]
            for done in start(*([path, file] for file in files), cwd=ROOT, grouped=True):
                assert done.returncode == 0, done.stderr
            outs += files
        return [torch.load(out) for out in outs]

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
