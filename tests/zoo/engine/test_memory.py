"""Memory that tensors have left."""

import json
import platform

import pytest

SCRIPT = """
import json, resource
import torch
from zoo.engine import keep_freed_memory

done = keep_freed_memory()

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64, 2**20 // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first, *again = [pages() for _ in range(6)]
print(json.dumps([done, first, min(again)]))  # the first free block may have got a hole
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='another C library')
@pytest.mark.parametrize('own', [False, True], ids=['', 'tuned-by-the-environment'])
def test_the_memory_of_a_tensor_that_is_gone_serves_the_next(start, tmp_path, own):
    (tmp_path / 'script.py').write_text(SCRIPT)
    (done,) = start([tmp_path / 'script.py'], cwd=tmp_path, environment={'MALLOC_ARENA_MAX': '4'} if own else None)
    assert done.returncode == 0, done.stderr
    kept, first, again = json.loads(done.stdout)
    assert kept is not own
    if not own:
        assert again < 0.1 * first
