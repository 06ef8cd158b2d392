"""Devices and processes."""

import os

import torch
import torch.distributed as dist

from registry import InputError


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return 'WORLD_SIZE' in os.environ and 'RANK' in os.environ


def pick_device(name: str | None) -> torch.device:
    """The device by name, or the best there is; with several processes on GPUs, that of this process.

    Raises:
        InputError: No such device here, or one GPU for several processes.
    """
    if (name or '').startswith('cuda:') and int(os.environ.get('WORLD_SIZE', 1)) > 1:
        raise InputError(f'Several processes can not share {name}: --device cuda gives each its own, cpu works too.')
    if name in (None, 'cuda') and torch.cuda.is_available():
        local = int(os.environ.get('LOCAL_RANK', 0))
        if local >= torch.cuda.device_count():
            raise InputError(f'Process {local} has no GPU of its own: there are {torch.cuda.device_count()}.')
        torch.cuda.set_device(local)
        return torch.device('cuda', local)
    try:
        device = torch.device(name or 'cpu')
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'Device {name!r} can not be used here ({reason}). Try cpu.') from None
    if device.type == 'cuda':
        torch.cuda.set_device(device)
    return device


def start_processes(device: torch.device) -> None:
    """Join the processes that torchrun started: over NCCL on GPUs, over gloo on CPUs."""
    if not dist.is_initialized():
        dist.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
