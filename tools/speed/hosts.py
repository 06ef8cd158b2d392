"""Training steps of the published hosts: plain in several precisions, then with each plugin."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from registry import HOSTS, PLUGINS, InputError
from zoo.engine import build_optim_wrapper, load_config
from zoo.engine.cost import input_shapes, without_weights
from zoo.host import Clock, MultimodalHost

from .detection import scenes
from .segmentation import MB, multiply_accumulates, peak_bytes
from .timing import rounds, waits

CONFIGS = Path(__file__).parents[2] / 'configs'
UNWEIGHTED = {'loss': {'type': 'CrossEntropyLoss'}}  # others count the classes of their data
THREE = {'modalities': ['rgb', 'depth', 'ir'], 'in_chans': {'rgb': 3, 'depth': 1, 'ir': 1}}
VIT = {'encoder': {'type': 'TimmEncoder', 'model': 'vit_small_patch16_224'}}


@dataclass(frozen=True)
class Network:
    """A host of a config, and what it is timed on.

    Attributes:
        config: Below ``configs/``.
        batch: Samples of a step on a GPU; on a CPU two.
        model: What the host is built with beside its config.
        size: Of the inputs; that of the config when None.
        plugged: Whether it is timed with plugins, too.
    """

    config: str
    batch: int
    model: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, ...] | None = None
    plugged: bool = True

    def build(self, **arguments: Any) -> MultimodalHost:
        """Without pretrained weights."""
        torch.manual_seed(0)
        model = without_weights(load_config(CONFIGS / self.config).model)
        model.pop('data_preprocessor', None)
        return HOSTS.build({**model, **self.model, **arguments})

    def data(self, host: MultimodalHost, count: int, device: str) -> dict[str, Any]:
        """A collated batch of noise, with labels; of a detector scenes with boxes."""
        if self.size:
            shapes = {m: (host.in_chans[m], *self.size) for m in host.modalities}
        else:
            shapes = input_shapes(load_config(CONFIGS / self.config), host)
        sides = next(iter(shapes.values()))[1:]
        inputs = {m: torch.rand(count, *shape, device=device) for m, shape in shapes.items()}
        if host.task == 'detection':
            target = scenes(count, min(sides), device)['target']
            target['labels'] = [labels % host.num_classes for labels in target['labels']]
        elif host.task == 'fusion':
            target = None
        else:
            places = sides if host.task == 'segmentation' else ()
            target = torch.randint(host.num_classes, (count, *places), device=device)
        return {'inputs': inputs, 'target': target}


NETWORKS = {
    'Late fusion, 3 ResNet-18': Network('late_fusion/r18_casia_surf.py', 128),
    'Late fusion, 3 ViT-S/16': Network('late_fusion/vit_digitscenes.py', 32, VIT, (224, 224), plugged=False),
    'SFMD': Network('mmanet/sfmd_casia_surf.py', 128, plugged=False),
    'MAIL-R18, 3 inputs': Network('mail/mail_r18_medmnist.py', 64, THREE, (128, 128)),
    'MAIL-Seg, 3 inputs': Network('mail/mail_seg_kvasir.py', 8, THREE, (224, 224), plugged=False),
    'DeepLabV3+, 2 ResNet-18': Network('segmentation/deeplabv3plus_r18_nyuv2.py', 4, UNWEIGHTED),
    'ESANet R34-NBt1D': Network('esanet/esanet_r34nbt1d_nyuv2.py', 4, UNWEIGHTED),
    'RFNet': Network('rfnet/rfnet_brats.py', 1),
    'mmFormer': Network('mmformer/mmformer_brats.py', 1),
    'Two-stream YOLOv8n': Network('two_stream_yolo/yolov8n_llvip.py', 16),
    'Early-fusion YOLOv8n': Network('two_stream_yolo/early_yolov8n_dronevehicle.py', 16, plugged=False),
    'ISFuse': Network('isfuse/isfuse_msrs.py', 8, size=(256, 256), plugged=False),
}
PLUGINS_ = {
    'MWAM': {'type': 'MWAM'},
    'MWAM, loss': {'type': 'MWAM', 'mode': 'loss'},
    'MWAM, rate': {'type': 'MWAM', 'apply': 'lr'},
    'OGM (no noise)': {'type': 'OGMGE', 'alpha': 0.3, 'noise': False},
    'OGM-GE': {'type': 'OGMGE', 'alpha': 0.3},
    'ModalityDropout': {'type': 'ModalityDropout', 'p': 0.3},
    'MAR': {'type': 'MAR', 'mine': (0, 1)},
    'Intervention, 2 masked': {'type': 'Intervention', 'necessity': 'none'},
    'AdversarialTraining, PGD-1': {
        'type': 'AdversarialTraining',
        'attack': {'type': 'PGD', 'eps': 0.03, 'steps': 1, 'bounds': None},
    },
}
MATRIX = 8192
PRECISIONS = ('float32', 'TF32', 'bfloat16')


def measure_hosts(
    device: str = 'cpu', repeats: int | None = None, networks: Mapping[str, Network] = NETWORKS
) -> Iterator[dict[str, Any]]:
    """The plain training step of each host (SGD with momentum) in float32, with matrix units that round to TF32, and
    under autocast to bfloat16.

    ``TFLOP/s`` are those of three forward passes' multiply-accumulates, a lower bound of what a step computes. The row
    of the matrix product says what the device gives at most.

    Args:
        device: A CPU has float32 only.
        repeats: Steps; the median counts.
        networks: Of which hosts.
    """
    gpu = device != 'cpu'
    repeats = repeats or (50 if gpu else 3)
    for name, network in networks.items():
        step = Step(network, device)
        work = 6e-12 * step.macs()
        for precision in PRECISIONS if gpu else PRECISIONS[:1]:
            with computing(precision), step.precision(precision):
                seconds = median(rounds({'': step}, device, repeats, 5 if gpu else 1)[''])
                memory = {'peak, MB': peak_bytes(step) / MB} if gpu else {}
            yield {
                'step': f'{name}, {precision}',
                'batch': step.size,
                'input': 'x'.join(map(str, next(iter(step.data['inputs'].values())).shape[1:])),
                'ms': 1e3 * seconds,
                'samples/s': step.size / seconds,
                'TFLOP/s': work / seconds,
                **memory,
            }
        del step
    yield from matrix_products(device, repeats)


def measure_plugins(
    device: str = 'cpu',
    repeats: int | None = None,
    networks: Mapping[str, Network] = NETWORKS,
    plugins: Mapping[str, Mapping[str, Any]] = PLUGINS_,
) -> Iterator[dict[str, Any]]:
    """The step of each host with one plugin over the plain step of a copy of the host, both of one round. Where a
    plugin needs unimodal predictions, the plain step is that of the host with auxiliary heads.

    On a GPU each step also runs once with every wait for the device an error.

    Args:
        device: Where.
        repeats: Rounds.
        networks: Of which hosts; those that are not ``plugged`` are left out.
        plugins: Name to arguments; where a host refuses one, there is no row.
    """
    gpu = device != 'cpu'
    repeats = repeats or (50 if gpu else 3)
    for name, network in networks.items():
        if not network.plugged:
            continue
        steps = {'plain': Step(network, device)}
        for key, arguments in plugins.items():
            try:
                steps[key] = Step(network, device, arguments)
            except InputError:  # this host does not offer what the plugin needs
                continue
            if steps[key].aux_heads and 'plain, with heads' not in steps:
                steps['plain, with heads'] = Step(network, device, aux_heads=True)
        seconds = rounds(steps, device, repeats, 5 if gpu else 1)
        for key, step in steps.items():
            plain = seconds['plain, with heads' if step.aux_heads else 'plain']
            row = {
                'step': f'{name}: {key}',
                'ms': 1e3 * median(seconds[key]),
                'ratio': median(a / b for a, b in zip(seconds[key], plain)),
            }
            if gpu:
                row |= {'peak, MB': peak_bytes(step) / MB, 'waits': waits(step)}
            yield row
        steps.clear()


def measure_encoders(
    device: str = 'cpu', repeats: int | None = None, networks: Mapping[str, Network] = NETWORKS
) -> Iterator[dict[str, Any]]:
    """Late fusion of three ResNet-18 and of three ViT-S/16: a training step in each precision and memory format, eager
    and compiled; ``ratio`` is to the first row of the host.

    Args:
        device: A CPU has float32 only, and compiles nothing.
        repeats: Steps; the median counts.
        networks: Of which those of late fusion are taken.
    """
    gpu = device != 'cpu'
    repeats = repeats or (50 if gpu else 1)
    for name, network in networks.items():
        if not network.config.startswith('late_fusion'):
            continue
        eager = PRECISIONS if gpu else PRECISIONS[:1]
        # a compilation takes half a minute: only what one would choose
        ways = [('', '', eager), (', channels last', '', eager), (', channels last', ', compiled', eager[1:])]
        first = None
        for layout, compiled, precisions in ways:
            step = Step(network, device)
            step.layout(layout)
            for module in step.host.compilable() if compiled else ():
                module.compile(dynamic=True)
            for precision in precisions:
                with computing(precision), step.precision(precision):
                    seconds = median(rounds({'': step}, device, repeats, 5 if gpu else 1)[''])
                    memory = {'peak, MB': peak_bytes(step) / MB} if gpu else {}
                first = first or seconds
                row = {'step': f'{name}, {precision}{layout}{compiled}', 'ms': 1e3 * seconds}
                yield {**row, 'ratio': seconds / first, **memory}
            del step


class Step:
    """Calling it trains a host on one batch, with at most one plugin.

    Args:
        network: Which host, on what.
        device: Where.
        plugin: Arguments of the plugin; None for the plain step.
        aux_heads: Whether the host has auxiliary heads; it has them anyway where the plugin needs unimodal predictions.

    Raises:
        InputError: The host does not offer what the plugin needs.
    """

    def __init__(
        self,
        network: Network,
        device: str,
        plugin: Mapping[str, Any] | None = None,
        aux_heads: bool = False,
    ) -> None:
        plugged = PLUGINS.build(dict(plugin)) if plugin else None
        host = network.build(**({'aux_heads': True} if aux_heads else {}))
        if plugged:
            try:
                host.plug(plugged)
            except InputError:
                if not (plugged.needs - host.offers) & host.offers_with.keys():
                    raise
                host, aux_heads = network.build(aux_heads=True).plug(plugged), True
        self.aux_heads = aux_heads
        self.host = host.to(device).train()
        self.size = network.batch if device != 'cpu' else 2
        self.data = network.data(self.host, self.size, device)
        optimizer = {'optimizer': {'type': 'SGD', 'lr': 1e-4, 'momentum': 0.9}}
        self.wrapper = build_optim_wrapper(host, optimizer)

    @contextmanager
    def precision(self, name: str) -> Iterator[None]:
        """Autocast to bfloat16, where it is that."""
        self.wrapper.dtype = torch.bfloat16 if name == 'bfloat16' else None
        try:
            yield
        finally:
            self.wrapper.dtype = None

    def layout(self, name: str) -> None:
        """Bring weights and inputs into a memory format."""
        if name:
            self.host.to(memory_format=torch.channels_last)
            inputs = self.data['inputs']
            self.data['inputs'] = {m: x.to(memory_format=torch.channels_last) for m, x in inputs.items()}

    def macs(self) -> int:
        """Multiply-accumulates of a forward pass in eval mode."""
        try:
            return multiply_accumulates(partial(self.host.eval(), self.data['inputs']))
        finally:
            self.host.train()

    def __call__(self) -> None:
        self.host.clock = Clock(iteration=self.host.clock.iteration + 1, max_epochs=1)
        self.host.train_step(self.data, self.wrapper)


@contextmanager
def computing(precision: str) -> Iterator[None]:
    """Let matrix units round float32 to TF32, or not."""
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != 'float32'
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed


def matrix_products(device: str, repeats: int) -> list[dict[str, Any]]:
    """What a large square product of random matrices reaches in each precision."""
    gpu = device != 'cpu'
    size = MATRIX if gpu else 1024
    rows = []
    for precision in PRECISIONS if gpu else PRECISIONS[:1]:
        dtype = torch.bfloat16 if precision == 'bfloat16' else torch.float32
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        with computing(precision):
            seconds = median(rounds({'': partial(torch.matmul, a, b)}, device, repeats, 3)[''])
        row = {'step': f'matrix product, {precision}', 'input': f'{size}x{size}', 'ms': 1e3 * seconds}
        rows.append({**row, 'TFLOP/s': 2e-12 * size**3 / seconds})
    return rows
