"""Precision-recall curves of a few samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.batch import Batch, Outputs
from zoo.host import MultimodalHost
from zoo.visual import named_curves, write_curves

from .sweep import Subset, build_metric, class_labels


class SampleCurves:
    """Gathers what a detector found in single samples, on each subset.

    Args:
        host: The detector.
        classes: The names of the classes of the data.
        metric: Name or config of the metric.
        subsets: As `parse_subsets` returns them.
    """

    def __init__(
        self, host: MultimodalHost, classes: Sequence[str], metric: str | Mapping[str, Any], subsets: Sequence[Subset]
    ) -> None:
        self.modalities, self.classes = host.modalities, classes
        self.metrics = {s: build_metric(metric, host, classes) for s in subsets}

    def add(self, subset: Subset, prediction: Tensor, target: Mapping[str, Tensor]) -> None:
        """What was found in one sample, (n, 6), and its ``boxes`` (g, 4) and ``labels`` (g,)."""
        present = torch.tensor([[m in subset for m in self.modalities]])
        boxes = {k: [target[k].to(prediction.device)] for k in ('boxes', 'labels')}
        self.metrics[subset].update(Outputs([prediction], {}, {}), Batch({}, present, self.modalities, boxes))

    def write(self, folder: Path) -> Path | None:
        """See `write_curves`; the picture, or None where no sample has a box."""
        found = {}
        for subset, metric in self.metrics.items():
            metric.compute()
            if curves := metric.curves():
                found['+'.join(subset)] = named_curves(curves, class_labels(self.classes, len(curves.precision)))
        return write_curves(found, folder) if found else None
