"""Volumes: RFNet and mmFormer against the same networks of torch's own layers, and all subsets from one encoding."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import HOSTS
from zoo.host import MultimodalHost
from zoo.hosts import rfnet
from zoo.layers3d import EPS, SLOPE

from .segmentation import MB, TrainingStep, multiply_accumulates, peak_bytes, saved_bytes
from .timing import interleaved

SEQUENCES = ('flair', 't1ce', 't1', 't2')
NETWORKS = {'RFNet': {}, 'MMFormer': {'train_size': (80, 80, 80)}}


def measure_layers(device: str = 'cpu', repeats: int = 3, side: int = 80) -> list[dict[str, Any]]:
    """One volume with all sequences: evaluation and a training step, over those of the same weights in torch's layers.

    Those are what one writes first: each convolution after a reflection and a concatenation of its own, instance
    normalisation and leaky ReLU (in place) one after the other, and for RFNet the maps of each modality in each region.

    Returns:
        Rows with ``ms``, the ``ratio`` to torch's layers, and memory: as `segmentation.measure_esanet` has it.
    """
    rows = []
    for name, arguments in NETWORKS.items():
        host, data = build(name, device, side, **arguments)
        for training in (False, True):
            step = TrainingStep(host, data)
            ours = step if training else partial(_predict, host, data)

            def plain(call: Any = ours) -> None:
                with torch_layers():
                    call()

            kind = 'training step' if training else 'evaluation'
            routes = {f"{name}, {kind}, torch's layers": plain, f'{name}, {kind}': ours}
            for row, timing in interleaved(routes, device, repeats).items():
                cells = {'call': row, **timing}
                with torch_layers() if routes[row] is plain else nullcontext():
                    if device != 'cpu':
                        cells['peak, MB'] = peak_bytes(ours) / MB
                    elif training:
                        cells['saved for backward, MB'] = saved_bytes(step.forward, step.parameters) / MB
                rows.append(cells)
    return rows


def measure_subsets(device: str = 'cpu', repeats: int = 3, side: int = 64) -> list[dict[str, Any]]:
    """All 15 subsets of one volume: re-fused from one encoding, over one forward for each.

    The rows of multiply-accumulates have the ratio below which no implementation of the same sums gets.
    """
    masks = torch.tensor([[bool(i >> k & 1) for k in range(4)] for i in range(1, 16)])
    rows = []
    for name, arguments in NETWORKS.items():
        host, data = build(name, device, side, **dict.fromkeys(arguments, (side,) * 3))
        batch = host.eval().make_batch(**data)

        @torch.inference_mode()
        def one_by_one(host: MultimodalHost = host, batch: Any = batch) -> None:
            for mask in masks:
                host.run(batch.restrict(mask))

        @torch.inference_mode()
        def together(host: MultimodalHost = host, batch: Any = batch) -> None:
            for _ in host.run_subsets(batch, masks):
                pass

        routes = {f'{name}, 15 forwards': one_by_one, f'{name}, 15 subsets': together}
        rows += [{'evaluation': row, **timing} for row, timing in interleaved(routes, device, repeats).items()]
        ratio = multiply_accumulates(together) / multiply_accumulates(one_by_one)
        rows.append({'evaluation': f'{name}, 15 subsets, multiply-accumulates', 'ratio': ratio})
    return rows


def build(name: str, device: str, side: int, **arguments: Any) -> tuple[MultimodalHost, dict[str, Any]]:
    """A published network and one volume of noise."""
    torch.manual_seed(0)
    host = HOSTS.build({'type': name, 'modalities': list(SEQUENCES), 'num_classes': 4, **arguments}).to(device)
    inputs = {m: torch.randn(1, 1, side, side, side, device=device) for m in SEQUENCES}
    return host, {'inputs': inputs, 'target': torch.randint(4, (1, side, side, side), device=device)}


@torch.inference_mode()
def _predict(host: MultimodalHost, data: dict[str, Any]) -> Tensor:
    return host.eval()(data['inputs'])


@contextmanager
def torch_layers() -> Iterator[None]:
    """What is here called torch's layers, in place of `zoo.layers3d` and of the fusion of RFNet."""

    def convolve(conv: nn.Conv3d, *maps: Tensor, double: bool = False) -> Tensor:
        x = torch.cat(maps, 1)
        if double:
            x = F.interpolate(x, scale_factor=2, mode='trilinear', align_corners=True)
        return nn.Conv3d.forward(conv, x)

    def norm_act(_: nn.Module, x: Tensor) -> Tensor:
        return F.leaky_relu(F.instance_norm(x, eps=EPS), SLOPE, inplace=True)

    def pointwise(maps: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor) -> Tensor:
        return F.conv3d(torch.cat(list(maps), 1), torch.cat(list(weights), 1), bias)

    def merge(block: rfnet.RegionFusion, maps: Sequence[Tensor], p: Tensor, layer: nn.Conv3d) -> Tensor:
        in_regions = torch.stack(list(maps), 1)[:, None] * p[:, :, None, None]  # (B, R, M, C, D, H, W)
        q = p.mean((2, 3, 4)) + 1e-7
        weights = block.weigh(in_regions.mean((4, 5, 6)) / q[..., None, None], q)
        return layer((weights[..., None, None, None, None] * in_regions).sum(2).flatten(1, 2))

    with (
        patch('zoo.layers3d.Conv3d.forward', convolve),
        patch('zoo.layers3d.NormAct.forward', norm_act),
        patch('zoo.layers3d.pointwise', pointwise),
        patch('zoo.layers3d.side_by_side', lambda x: x),
        patch('zoo.hosts.rfnet.RegionFusion.merge', merge),
    ):
        yield
