"""The backbones of ultralytics' detectors."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from registry import ENCODERS
from zoo.foreign_yolo import ultralytics_module, yolo_config

PROBE = 128  # pixels, enough for a map of 1/64


@ENCODERS.register_module()
class YOLOBackbone(nn.Sequential):
    """The backbone of a YOLO detector: a pyramid of the maps that its neck reads, (B, C_i, H / r_i, W / r_i), finest
    first. It needs ultralytics (AGPL-3.0, the extra ``yolo``); layers keep their numbers, so that weights go by name.

    Args:
        model: See `zoo.foreign_yolo.yolo_config`.
        in_chans: Channels of the input.

    Attributes:
        taps: The numbers of the layers that give the maps.
        out_channels: C_i.
        reductions: r_i.

    Raises:
        NameNotFound: No such model.
        InputError: ultralytics is not installed, or a definition that is no detector's.
    """

    def __init__(self, model: str | Mapping[str, Any] = 'yolov8n', in_chans: int = 3) -> None:
        config = yolo_config(model)
        layers, _ = ultralytics_module('ultralytics.nn.tasks').parse_model(
            deepcopy({**config, 'head': []}), ch=in_chans, verbose=False
        )
        super().__init__(*layers)
        self.taps = taps(config)
        self.kept = frozenset(self.taps) | read_by(self)
        set_norms(self)
        with torch.no_grad():
            maps = self.eval()(torch.zeros(1, in_chans, PROBE, PROBE))
        self.train()
        self.out_channels = [x.shape[1] for x in maps]
        self.reductions = [PROBE // x.shape[2] for x in maps]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the maps."""
        outputs = run_layers(self, x, {}, self.kept)
        return [outputs[i] for i in self.taps]


def taps(config: Mapping[str, Any]) -> list[int]:
    """The layers of the backbone whose maps a head reads: those that it names, and the last."""
    size = len(config['backbone'])
    sources = [s for source, *_ in config['head'] for s in (source if isinstance(source, list) else [source])]
    return sorted({s for s in sources if 0 <= s < size} | {size - 1})


def sources_of(layer: nn.Module) -> list[int]:
    """The numbers of the layers whose outputs a layer reads; -1 is the one before, and -2 the one before that."""
    sources = layer.f if isinstance(layer.f, Sequence) else [layer.f]
    return [layer.i + s if s < -1 else s for s in sources]


def read_by(layers: Iterable[nn.Module]) -> frozenset[int]:
    """The numbers of the layers whose output some layer reads later on."""
    return frozenset(s for layer in layers for s in sources_of(layer) if s >= 0)


def run_layers(
    layers: Iterable[nn.Module], x: Tensor, outputs: dict[int, Tensor], kept: frozenset[int]
) -> dict[int, Tensor]:
    """Run layers that say by ``layer.f`` whose outputs they read.

    Args:
        layers: In order, with their numbers in ``layer.i``.
        x: The output of the layer before the first.
        outputs: Number of a layer to its output: what is known already.
        kept: The numbers of those to keep.

    Returns:
        ``outputs`` with those to keep.
    """
    for layer in layers:
        read = [x if s == -1 else outputs[s] for s in sources_of(layer)]
        x = layer(read if isinstance(layer.f, Sequence) else read[0])
        if layer.i in kept:
            outputs[layer.i] = x
    return outputs


def set_norms(module: nn.Module) -> None:
    """Give norm layers the constants with which these detectors are trained; `parse_model` leaves torch's."""
    for m in module.modules():
        if isinstance(m, _BatchNorm):
            m.eps, m.momentum = 1e-3, 0.03
