"""RPAN with adversarial training in two processes: the same random filters, and the same weights after some steps."""

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from plugins import RPAN, AdversarialTraining
from zoo.hosts import MAIL

rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
torch.manual_seed(0)
encoder = {'type': 'ERLAEncoder', 'depths': (1,), 'widths': (8,), 'stem_width': 8}
host = MAIL(('rgb', 'depth'), 4, encoder, 1).train()
host.plug(RPAN(), AdversarialTraining({'type': 'PGD', 'eps': 0.1, 'steps': 1, 'bounds': None}))
host.clock.rank = rank
model = DistributedDataParallel(host)
optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
torch.manual_seed(rank)
for step in range(3):
    host.clock.iteration = step
    x = {m: torch.randn(4, 1, 16, 24) for m in host.modalities}
    losses = model(x, None, torch.arange(4), mode='loss')
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
parameters = torch.cat([p.detach().flatten() for p in host.parameters()])
attacked = host.plugins['AdversarialTraining'].on_inputs(host, host.make_batch(x, target=torch.arange(4)))
torch.save((parameters, host.plugins['RPAN'].kernels, attacked.inputs['rgb'] - x['rgb']), out)
dist.destroy_process_group()
"""


def test_both_ranks_draw_the_same_filters_and_stay_equal(tmp_path):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    outs = [tmp_path / str(rank) for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', SCRIPT, str(rank), str(tmp_path / 'store'), str(out)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, out in enumerate(outs)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    first, second = (torch.load(out) for out in outs)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[2], second[2])  # what is attacked, and from where, is each rank's own
