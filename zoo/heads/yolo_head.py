"""The necks and heads of ultralytics' detectors, and how their raw output is read."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.encoders.yolo_backbone import read_by, run_layers, set_norms, taps
from zoo.foreign_yolo import ultralytics_module, yolo_config

BUILDING = Lock()

Raw = dict[str, Any]  # 'boxes' (B, 4 * bins, A), 'scores' (B, K, A) logits, 'feats': the maps on which A places lie


class YOLOHead(nn.Sequential):
    """The neck and the Detect layer of a YOLO detector: maps of the backbone -> raw predictions at A places.

    Args:
        model: See `zoo.foreign_yolo.yolo_config`.
        num_classes: K.

    Attributes:
        taps: The numbers of the backbone's layers whose maps it takes.
        strides: Pixels between places, for each level.
    """

    def __init__(self, model: str | Mapping[str, Any], num_classes: int) -> None:
        config = yolo_config(model)
        with _legacy_kept():
            whole = ultralytics_module('ultralytics.nn.tasks').DetectionModel(
                deepcopy(config), ch=3, nc=num_classes, verbose=False
            )
        first = len(config['backbone'])
        super().__init__(OrderedDict((str(i), whole.model[i]) for i in range(first, len(whole.model))))
        self.taps = taps(config)
        self.kept = read_by(self)
        self.strides = tuple(self.detect.stride.tolist())

    @property
    def detect(self) -> nn.Module:
        """The Detect layer."""
        return self[-1]

    def forward(self, maps: Sequence[Tensor]) -> Raw:
        """Maps (B, C_i, H / r_i, W / r_i), finest first -> raw predictions."""
        layers = list(self)[:-1]
        outputs = run_layers(layers, maps[-1], dict(zip(self.taps, maps)), self.kept)
        return detect_raw(self.detect, [outputs[i] for i in self.detect.f])

    def decode(self, raw: Raw) -> Tensor:
        """Raw predictions -> (B, 4 + K, A) float32: centre x, y, width and height in pixels, class probabilities.

        The same numbers as the layer's own, which keeps places in whatever precision it first saw; beyond 128 cells
        bfloat16 has none for half of them.
        """
        with torch.autocast(raw['boxes'].device.type, enabled=False):
            distances = self._expected(raw['boxes'].float())  # left, top, right, bottom, in cells
            places, strides = self._places(raw['feats'])
            low, high = places - distances[:, :2], places + distances[:, 2:]
            boxes = torch.cat(((low + high) / 2, high - low), 1) * strides
            return torch.cat((boxes, raw['scores'].float().sigmoid()), 1)

    def _expected(self, boxes: Tensor) -> Tensor:
        """(B, 4 * bins, A) logits -> (B, 4, A): each side's mean, in float32 whatever the weights are."""
        bins = self.detect.reg_max
        if bins == 1:
            return boxes
        size, _, places = boxes.shape
        shares = boxes.view(size, 4, bins, places).transpose(2, 1).softmax(1)
        return F.conv2d(shares, self.detect.dfl.conv.weight.float()).view(size, 4, places)

    def _places(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The middles of all cells (2, A), in cells, and their strides (1, A)."""
        device = maps[0].device
        places, strides = [], []
        for x, stride in zip(maps, self.strides):
            rows, columns = (torch.arange(s, device=device, dtype=torch.float32) + 0.5 for s in x.shape[2:])
            grid = torch.meshgrid(columns, rows, indexing='xy')
            places.append(torch.stack(grid).flatten(1))
            strides.append(torch.full((1, grid[0].numel()), stride, device=device))
        return torch.cat(places, 1), torch.cat(strides, 1)


class YOLOAuxiliaryHead(nn.Module):
    """A Detect layer on the maps of one stream, with the light class branch of the newer models.

    Args:
        num_classes: K.
        channels: Widths of the maps, finest first.
        strides: Pixels between places, for each level.
        bins: Of the distribution of each side of a box.
    """

    def __init__(self, num_classes: int, channels: Sequence[int], strides: Sequence[float], bins: int) -> None:
        super().__init__()
        layers = ultralytics_module('ultralytics.nn.modules.head')
        with _legacy_kept():
            layers.Detect.legacy = False
            self.detect = layers.Detect(num_classes, bins, ch=tuple(channels))
        self.detect.stride = torch.tensor(strides)
        self.detect.bias_init()
        set_norms(self)

    def forward(self, maps: Sequence[Tensor]) -> Raw:
        """Maps, finest first -> raw predictions."""
        return detect_raw(self.detect, list(maps))


def detect_raw(detect: nn.Module, maps: list[Tensor]) -> Raw:
    """What a Detect layer gives in training, in either mode."""
    return detect.forward_head(maps, **detect.one2many)


@contextmanager
def _legacy_kept() -> Iterator[None]:
    """Building a model sets an attribute of the class Detect, with which every later one would be built: one at a time,
    and put back."""
    detect = ultralytics_module('ultralytics.nn.modules.head').Detect
    with BUILDING:
        legacy = detect.legacy
        try:
            yield
        finally:
            detect.legacy = legacy
