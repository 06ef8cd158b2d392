"""ISFuse at 256x256 on one CPU thread, or a GPU: images a second, and how far its parts are from plain convolutions."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

import zoo

from .segmentation import multiply_accumulates
from .timing import interleaved

DIM, SIZE = 32, 256


def measure(device: str = 'cpu', repeats: int | None = None, size: int = SIZE) -> list[dict[str, Any]]:
    """Fused images a second, and milliseconds per multiply-accumulate over those of a convolution of 32 channels to 32,
    3x3, on a map of the image's size, which is what most of the network consists of.

    Args:
        device: Where; a CPU is measured on one thread.
        repeats: Pairs for each row.
        size: Side of the images.

    Returns:
        Rows with ``ms``, ``images/s``, ``GMAC`` of the call, ``ms / GMAC`` and its ``ratio`` to the convolution's. One
        pyramid, and `CFI` on the finest level, are parts of the pass.
    """
    cpu = device == 'cpu'
    repeats = repeats or (7 if cpu else 50)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if cpu else threads)
    try:
        calls = _calls(device, 8 if cpu else 64, size)
        routes = {name: call for name, (call, _) in calls.items()}
        timings = interleaved(routes, device, repeats, 1 if cpu else 10)
    finally:
        torch.set_num_threads(threads)
    gmac = {name: multiply_accumulates(call) / 1e9 for name, call in routes.items()}
    base = next(iter(gmac.values()))
    rows = []
    for name, (_, images) in calls.items():
        ms = timings[name]['ms']
        row = {'call': name, 'ms': ms, 'images/s': images / ms * 1e3 if images else '', 'GMAC': gmac[name]}
        rows.append(row | {'ms / GMAC': ms / gmac[name], 'ratio': timings[name]['ratio'] * base / gmac[name]})
    return rows


def _calls(device: str, many: int, size: int) -> dict[str, tuple[Callable[[], object], int]]:
    """Each call and how many images it fuses."""
    torch.manual_seed(0)
    host, three = (zoo.create_host('isfuse', modalities=m).to(device).eval() for m in (('vis', 'ir'), ('a', 'b', 'c')))
    inputs = {m: torch.rand(many, 1, size, size, device=device) for m in ('vis', 'ir')}
    one = {m: x[:1] for m, x in inputs.items()}
    x = torch.rand(1, DIM, size, size, device=device).to(memory_format=torch.channels_last)
    weight = torch.randn(DIM, DIM, 3, 3, device=device).to(memory_format=torch.channels_last)
    mask = torch.ones(1, 2, dtype=torch.bool, device=device)
    calls = {
        'convolution': (partial(F.conv2d, x, weight, padding=1), 0),
        'two images': (partial(host, one), 1),
        f'two images, batch {many}': (partial(host, inputs), many),
        'three images': (partial(three, dict.fromkeys(three.modalities, one['ir'])), 1),
        'a pyramid': (partial(host.encoders['ir'], one['ir']), 0),
        'CFI, finest level': (partial(host.fusions[0], {'vis': x, 'ir': x}, mask), 0),
    }
    return {name: (torch.inference_mode()(call), images) for name, (call, images) in calls.items()}
