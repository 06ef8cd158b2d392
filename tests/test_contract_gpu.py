"""The contract on a GPU: what `tests/test_contract.py` promises, where a device of its own can break it."""

from importlib.util import find_spec

import pytest
import torch
from contract_cases import (
    assert_finite,
    every_bare,
    every_case,
    every_plugged,
    gradients,
    holes,
    predict,
    tensors,
    train,
)
from torch.utils._pytree import tree_map_only

from zoo.engine.optim import build_optim_wrapper
from zoo.foreign_yolo import ultralytics_module

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')]
DEVICE = 'cuda'


@pytest.fixture(autouse=True)
def _float32():
    """Matrix units multiply in float32, as a CPU does, and sums have one order where torch knows a way."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = allowed


def moved(data):
    """A batch as a loader pins and sends it: inputs and labels on the device, ``present`` on the CPU."""
    return {k: v if k == 'present' else tree_map_only(torch.Tensor, lambda x: x.to(DEVICE), v) for k, v in data.items()}


def assert_close(found, expected, tolerance):
    found, expected = tensors(found), tensors(expected)
    assert found.keys() == expected.keys()
    for k, value in expected.items():
        scale = value.abs().max().item() if value.is_floating_point() and value.numel() else 0
        torch.testing.assert_close(
            found[k].cpu(),
            value.cpu(),
            rtol=tolerance,
            atol=tolerance * max(scale, 1),
            equal_nan=True,
            msg=lambda text, k=k: f'{k}: {text}',
        )


@every_bare
def test_a_gpu_computes_what_a_cpu_does(case):
    """In eval mode: dropout draws from each device's own stream, and the statistics of few rows enlarge roundings."""
    here, there = case.make().eval(), case.make().eval().to(DEVICE)
    for data in holes(case, torch.nan):
        assert_close(predict(there, moved(data)), predict(here, data), 1e-4)
        assert_close(gradients(there, moved(data)), gradients(here, data), 1e-3)


@every_case
def test_what_an_absent_modality_holds_changes_nothing(case):
    results = []
    for fill in (0.0, (torch.nan, 1e4)):
        host, batches = case.make().to(DEVICE), [moved(data) for data in holes(case, fill)]
        optimizer = build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 0.01}})
        left = train(host, *batches, optimizer=optimizer)
        left['predictions'] = [predict(host, data) for data in batches]
        assert_finite({k: v for k, v in left.items() if 'logged' not in k})
        results.append(left)
    assert_close(*results, 1e-2)


@pytest.fixture
def _ultralytics_may_wait(monkeypatch):
    """Its loss does, whatever we do around it."""
    if find_spec('ultralytics') is None:
        return
    criterion = ultralytics_module('ultralytics.utils.loss').v8DetectionLoss
    compute = criterion.get_assigned_targets_and_loss

    def patiently(*args):
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode('default')
        try:
            return compute(*args)
        finally:
            torch.cuda.set_sync_debug_mode(mode)

    monkeypatch.setattr(criterion, 'get_assigned_targets_and_loss', patiently)


@pytest.mark.usefixtures('_ultralytics_may_wait')
@every_case
def test_a_step_never_waits_for_the_device(case):
    host = case.make().to(DEVICE)
    data = moved(case.data(absent=[(0, 'rgb')], fill=torch.nan))
    # a fused optimiser takes rates that are tensors, any other one numbers
    sgd = {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9, 'fused': True}
    optimizer = build_optim_wrapper(host, {'optimizer': sgd})
    train(host, data, data, optimizer=optimizer)  # buffers, kernels
    torch.cuda.set_sync_debug_mode('error')
    try:
        host.train_step(data, optimizer)
    finally:
        torch.cuda.set_sync_debug_mode('default')


@every_case
def test_autocast_works(case):
    for dtype in ('bfloat16', 'float16'):
        autocast(case, dtype)


def autocast(case, dtype):
    host = case.make().to(DEVICE)
    data = moved(case.data(absent=[(0, 'rgb')], fill=torch.nan))
    optimizer = build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 0.01}, 'dtype': dtype})
    left = train(host, data, data, optimizer=optimizer)
    assert_finite({'losses': [v for k, v in left.items() if 'losses' in k], 'state': host.state_dict()})
    assert {p.dtype for p in host.parameters()} == {torch.float32}
    with torch.autocast(DEVICE, getattr(torch, dtype)):
        assert_finite(predict(host, data))


@every_plugged
def test_a_state_goes_on_where_it_stopped(case):
    host, other = case.make().to(DEVICE), case.make(seed=1).to(DEVICE)
    data = moved(case.data(absent=[(0, 'rgb')]))
    optimizer, another = (
        build_optim_wrapper(h, {'optimizer': {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9}}) for h in (host, other)
    )
    train(host, data, data, optimizer=optimizer)
    # as a checkpoint that was read on a CPU
    other.load_state_dict(tree_map_only(torch.Tensor, lambda x: x.cpu(), host.state_dict()))
    another.load_state_dict(tree_map_only(torch.Tensor, lambda x: x.cpu(), optimizer.state_dict()))
    left = [train(h, data, optimizer=o) for h, o in ((host, optimizer), (other, another))]
    assert_close(*left, 1e-3)
