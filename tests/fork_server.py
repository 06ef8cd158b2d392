"""A process that has imported what every run needs, and forks one for each job: a start takes milliseconds, not five
seconds of a core.

Nothing but imports has happened in it, so that a job finds what a Python of its own would have found. Each line of its
standard input is a list of jobs that run side by side; the answer is their exit codes. An empty list ends it.
`tests/conftest.py` sends them.
"""

import gc
import json
import os
import runpy
import signal
import sys

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401

import plugins  # noqa: F401
import zoo.engine  # noqa: F401

gc.freeze()  # else each child copies the pages of all objects as soon as it collects garbage


def serve():
    """Fork; returns a job in each child, and nothing when there are no more."""
    for line in sys.stdin:
        if not (jobs := json.loads(line)):
            break
        children = []
        for job in jobs:
            children.append(os.fork())
            if not children[-1]:
                return job
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)
    return None


if job := serve():
    signal.alarm(job['timeout'])
    for number, path in ((0, os.devnull), (1, job['out']), (2, job['err'])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(job['cwd'])
    os.environ.update(job['env'])
    sys.argv = job['argv']
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name='__main__')
