"""Segmentation at 480x640: ESANet against a plain convolution, and the sweep of the generic host."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from registry import HOSTS, METRICS
from zoo.engine import build_optim_wrapper, load_config, sweep
from zoo.engine.cost import countable_attention, without_weights
from zoo.host import MultimodalHost

from .timing import interleaved

CONFIGS = Path(__file__).parents[2] / 'configs'
NETWORKS = {
    'ESANet R34-NBt1D': 'esanet/esanet_r34nbt1d_nyuv2.py',
    'ESANet-MD R50': 'esanet/esanet_md_r50_nyuv2.py',
}
SIZE = (480, 640)
CLASSES = 40
MB = 1e6

Call = Callable[[], object]


def measure_esanet(
    device: str = 'cpu', repeats: int | None = None, size: tuple[int, int] = SIZE
) -> list[dict[str, Any]]:
    """Milliseconds per multiply-accumulate of ESANet over those of a plain convolution, turn by turn.

    The convolution has 256 channels, 3x3, on a map of a quarter of the image's sides. A training step is the forward
    pass, the loss with its side outputs, the backward pass and the optimiser's step, without plugins; it counts as
    three forward passes.

    Args:
        device: On a GPU batches are of 8, else of 1 in evaluation and 2 in training; there all rows come a second time
            with autocast to bfloat16.
        repeats: Pairs for each row.
        size: Height and width of the images.

    Returns:
        Rows with ``ms``, ``GMAC`` of the call, ``ms / GMAC``, its ``ratio`` to the convolution's, and memory. On a GPU
        ``peak, MB`` beyond what was allocated before the call (weights, data, the optimiser's state); on a CPU, which
        knows no peaks, ``saved for backward, MB``: what the graph of a training step keeps, parameters left out.
    """
    gpu = device != 'cpu'
    repeats = repeats or (20 if gpu else 5)
    hosts = {name: build_host(path).to(device) for name, path in NETWORKS.items()}
    rows = []
    for dtype in (None, torch.bfloat16) if gpu else (None,):
        suffix = '' if dtype is None else ', bfloat16'
        cast = partial(torch.autocast, device.split(':')[0], dtype, enabled=dtype is not None)
        for training in (False, True):
            batch = batch_of(8 if gpu else 1 + training, device, size)
            routes = {'convolution' + suffix: convolution(batch, cast, training)}
            for name, host in hosts.items():
                if training:
                    routes[f'{name}, training step{suffix}'] = TrainingStep(host, batch, cast)
                    continue
                routes[f'{name}, evaluation{suffix}'] = partial(predict, host, batch, cast)
                for m in host.modalities:
                    alone = {**batch, 'inputs': {m: batch['inputs'][m]}}
                    routes[f'{name}, only {m}{suffix}'] = partial(predict, host, alone, cast)
            rows += _per_mac(routes, device, repeats, training)
    return rows


def _per_mac(routes: dict[str, Call], device: str, repeats: int, training: bool) -> list[dict[str, Any]]:
    gmac = {
        name: (3 if training else 1) * multiply_accumulates(forward_of(call)) / 1e9 for name, call in routes.items()
    }
    base = next(iter(gmac.values()))
    rows = []
    for name, timing in interleaved(routes, device, repeats, 1 if device == 'cpu' else 5).items():
        row = {
            'call': f'{name}, forward and backward' if name.startswith('convolution') and training else name,
            'ms': timing['ms'],
            'GMAC': gmac[name],
            'ms / GMAC': timing['ms'] / gmac[name],
            'ratio': timing['ratio'] * base / gmac[name],
        }
        if device != 'cpu':
            row['peak, MB'] = peak_bytes(routes[name]) / MB
        elif training:
            row['saved for backward, MB'] = saved_bytes(routes[name].forward, routes[name].parameters) / MB
        rows.append(row)
    return rows


def measure_sweep(device: str = 'cpu', repeats: int = 5, size: tuple[int, int] = SIZE) -> list[dict[str, Any]]:
    """DeepLabV3+ on two ResNet-18: time over the 3 subsets and of the parts, over that of the complete set alone.

    The last row has the ratio of the multiply-accumulates, below which no implementation of the same sums gets.
    """
    host = build_host('segmentation/deeplabv3plus_r18_nyuv2.py').to(device).eval()
    data = batch_of(2, device, size)
    with torch.inference_mode():
        batch = host.make_batch(**data)
        features = host.features(batch)
        fused = host.fuse(features, batch.mask)
        outputs = host.decode(fused, features)
    metric = METRICS.build('MeanIoU').to(device)
    complete = partial(sweep, host, [data], 'MeanIoU', 'full')
    subsets = partial(sweep, host, [data], 'MeanIoU', 'all')
    parts = {
        'encode, once': partial(host.features, batch),
        'fuse, complete set': partial(host.fuse, features, batch.mask),
        'decode, each subset': partial(host.decode, fused, features),
        'metric, each subset': partial(metric.update, outputs, batch),
    }
    routes = {'complete set': complete, '3 subsets': subsets}
    routes |= {name: torch.inference_mode()(part) for name, part in parts.items()}
    rows = [{'evaluation': name, **timing} for name, timing in interleaved(routes, device, repeats).items()]
    ratio = multiply_accumulates(subsets) / multiply_accumulates(complete)
    return [*rows, {'evaluation': '3 subsets, multiply-accumulates', 'ratio': ratio}]


def build_host(path: str) -> MultimodalHost:
    """The host of a config, without its data set, plugins and pretrained weights; classes are weighted by numbers."""
    torch.manual_seed(0)
    model = without_weights(load_config(CONFIGS / path).model)
    return HOSTS.build({**model, 'loss': {'type': 'CrossEntropyLoss', 'weight': [1.0] * CLASSES}})


def batch_of(count: int, device: str, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """Normalised images and labels: noise."""
    torch.manual_seed(0)
    return {
        'inputs': {m: torch.randn(count, c, *size, device=device) for m, c in (('rgb', 3), ('depth', 1))},
        'target': torch.randint(CLASSES, (count, *size), device=device),
    }


def predict(host: MultimodalHost, batch: dict[str, Any], cast: Callable[[], AbstractContextManager]) -> Tensor:
    """Logits in evaluation mode."""
    with torch.inference_mode(), cast():
        return host.eval()(batch['inputs'])


class TrainingStep:
    """Calling it trains a host on one batch with SGD of momentum.

    Args:
        host: The host.
        batch: Arguments of its ``forward``.
        cast: Makes the context of the forward pass.
    """

    def __init__(
        self, host: MultimodalHost, batch: dict[str, Any], cast: Callable[[], AbstractContextManager] = nullcontext
    ) -> None:
        self.host, self.batch, self.cast = host, batch, cast
        self.parameters = list(host.parameters())
        self.wrapper = build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': 1e-4, 'momentum': 0.9}})

    def forward(self) -> Tensor:
        """The loss."""
        with self.cast():
            return sum(self.host.train()(**self.batch, mode='loss').values())

    def __call__(self) -> None:
        self.wrapper.update_params(self.forward())


class Backward:
    """Calling it runs a function forward and backward.

    Args:
        forward: Returns a tensor.
        parameters: Its weights.
    """

    def __init__(self, forward: Callable[[], Tensor], parameters: Iterable[Tensor]) -> None:
        self.forward, self.parameters = forward, list(parameters)

    def __call__(self) -> None:
        out = self.forward()
        out.backward(out.detach())


def convolution(batch: dict[str, Any], cast: Callable[[], AbstractContextManager], training: bool) -> Call:
    """The yardstick: 256 channels to 256, 3x3, on a quarter of the sides, in the memory format of the hosts."""
    rgb = batch['inputs']['rgb']
    shapes = (len(rgb), 256, *[s // 4 for s in rgb.shape[2:]]), (256, 256, 3, 3)
    x, weight = (torch.randn(s, device=rgb.device).to(memory_format=torch.channels_last) for s in shapes)
    x.requires_grad_(training)
    weight.requires_grad_(training)

    def forward() -> Tensor:
        with cast():
            return F.conv2d(x, weight, padding=1)

    return Backward(forward, [weight]) if training else torch.inference_mode()(forward)


def forward_of(call: Call) -> Call:
    """The forward pass of a training step, or the call itself."""
    return getattr(call, 'forward', call)


def multiply_accumulates(call: Call) -> int:
    """Of convolutions and matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), countable_attention(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() // 2


def saved_bytes(forward: Callable[[], Tensor], left_out: Iterable[Tensor] = ()) -> int:
    """The memory that a forward pass keeps for its backward pass, each storage once.

    Args:
        forward: Returns what the backward pass begins with.
        left_out: Tensors that do not count: they are there anyway.
    """
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()  # the graph keeps it alive: an address stands for one storage
        return x.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = forward()
    del out
    for x in left_out:
        kept.pop(x.untyped_storage().data_ptr(), None)
    return sum(kept.values())


def peak_bytes(call: Call) -> int:
    """The most GPU memory that a call has allocated at once, beyond what was before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
