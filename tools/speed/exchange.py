"""Fusion blocks that give each modality its own map back, against the plainest fusion of the same maps."""

from functools import partial
from typing import Any

import torch

from registry import FUSIONS

from .segmentation import MB, Backward, multiply_accumulates, peak_bytes, saved_bytes
from .timing import interleaved

NAMES = ('rgb', 'depth')
ROUTES = {'Concat + 1x1': 'Concat', 'EMCAM': 'EMCAM', 'MFIFA, one half of it': 'MFIFA', 'EMSCA, the other': 'EMSCA'}
LAYOUTS = {'': torch.contiguous_format, ', channels last': torch.channels_last}  # MAIL itself runs in the second


def measure(
    device: str = 'cpu', repeats: int | None = None, shape: tuple[int, int, int, int] = (8, 64, 32, 32)
) -> list[dict[str, Any]]:
    """Forward and backward through one block on two maps that need gradients, to one map of the same width.

    Args:
        device: Where.
        repeats: Pairs for each row.
        shape: (B, C, H, W) of each map.

    Returns:
        Rows with ``ms``, the ``ratio`` to the concatenation, ``GMAC`` of the forward pass, and memory beyond parameters
        and inputs: ``peak, MB`` on a GPU, on a CPU ``saved for backward, MB``.
    """
    gpu = device != 'cpu'
    repeats = repeats or (30 if gpu else 9)
    rows = []
    for suffix, memory_format in LAYOUTS.items():
        calls = {name + suffix: build(kind, shape, device, memory_format) for name, kind in ROUTES.items()}
        for name, timing in interleaved(calls, device, repeats, 1 + 4 * gpu).items():
            call = calls[name]
            row = {'block': name, **timing, 'GMAC': multiply_accumulates(call.forward) / 1e9}
            if gpu:
                row['peak, MB'] = peak_bytes(call) / MB
            else:
                row['saved for backward, MB'] = saved_bytes(call.forward, call.parameters) / MB
            rows.append(row)
    return rows


def build(kind: str, shape: tuple[int, int, int, int], device: str, memory_format: torch.memory_format) -> Backward:
    """A fusion block on maps of noise, one for each of two modalities."""
    torch.manual_seed(0)
    block = FUSIONS.build({'type': kind, 'modalities': NAMES, 'channels': shape[1], 'out_channels': shape[1]})
    block = block.to(device, memory_format=memory_format)
    maps = {m: torch.randn(shape, device=device).to(memory_format=memory_format).requires_grad_() for m in NAMES}
    mask = torch.ones(shape[0], len(NAMES), dtype=torch.bool, device=device)
    return Backward(partial(block, maps, mask), [*block.parameters(), *maps.values()])
