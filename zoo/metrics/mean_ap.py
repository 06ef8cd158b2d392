"""Scores of object detection."""

from collections.abc import Mapping, Sequence
from itertools import starmap, zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from registry import METRICS, InputError, unknown_name
from zoo.batch import Batch, Outputs

from .distributed import all_gather
from .matching import match_detections
from .metric import Curves, Metric

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 300  # detections that count


class Image(NamedTuple):
    """What is known of one image."""

    detections: Tensor  # (n, 6) float32: x1, y1, x2, y2, score, class
    boxes: Tensor  # (g, 4) float32
    labels: Tensor  # (g,) int64


@METRICS.register_module()
class MeanAP(Metric):
    """Mean average precision of boxes: the mean over classes, at an overlap (IoU) of 0.5 and over 0.5, 0.55 ... 0.95.

    The mean is over the classes that occur in the labels. Two conventions differ by a few thousandths, more on few
    images; the results say which one it was.

    * ``'coco'``: that of the COCO evaluation, by faster-coco-eval through torchmetrics. Of each class the 300 best
      detections of an image count, where COCO's own limit is 100.
    * ``'ultralytics'``: that of the package of this name (AGPL-3.0), in which papers on YOLO models most likely report;
      a perfect detector has 99.5 there. The 300 best detections of an image count.

    Args:
        style: ``'coco'`` or ``'ultralytics'``.
        num_classes: K; None for that of the data set in a sweep, and otherwise for the classes seen.

    Raises:
        NameNotFound: An unknown style.
        InputError: The style ``'ultralytics'`` without the package.
    """

    task = 'detection'
    name = 'mAP50'
    also = ('mAP50-95',)

    def __init__(self, style: str = 'coco', num_classes: int | None = None) -> None:
        super().__init__()
        if style not in STYLES:
            raise unknown_name('style of MeanAP', style, STYLES)
        if style == 'ultralytics':
            _ultralytics()  # says now, not after the first epoch, that it is missing
        self.style, self.num_classes = style, num_classes
        self.images: list[Image] = []
        self._precision: np.ndarray | None = None

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Add what was found in B images.

        Args:
            outputs: ``prediction`` is a list of B tensors (n, 6): x1, y1, x2, y2 in pixels, score 0..1, class index.
            batch: ``target`` has the lists ``boxes`` of B tensors (g, 4), corners in the same pixels, and ``labels`` of
                B tensors (g,); no box is (0, 4) and (0,).

        Raises:
            InputError: They are something else.
        """
        predictions, target = outputs.prediction, batch.target
        if not isinstance(target, Mapping) or not {'boxes', 'labels'} <= target.keys():
            raise InputError(f'MeanAP scores boxes: a target with "boxes" and "labels", got {_what(target)}.')
        if not isinstance(predictions, Sequence) or any(p.ndim != 2 or p.shape[1] != 6 for p in predictions):
            raise InputError(f'MeanAP takes one tensor (n, 6) for each image, got {_what(predictions)}.')
        lengths = {len(predictions), len(target['boxes']), len(target['labels'])}
        if len(lengths) > 1:
            raise InputError(f'MeanAP takes predictions, boxes and labels of the same images, got {sorted(lengths)}.')
        self.images += map(Image, predictions, target['boxes'], target['labels'])

    def compute(self) -> dict[str, Tensor]:
        """Percent: ``mAP50``, ``mAP50-95``, and for each class ``AP50`` and ``AP50-95`` (K,).

        A class that no label names has NaN and is left out of the means; everything is NaN without any box in the
        labels. A class that is never found has 0.

        Raises:
            InputError: A label that is none of the K classes.
        """
        images = _gathered(self.images)
        counts = self._count(images)
        ap = np.full((len(IOU_THRESHOLDS), len(counts)), np.nan)
        precision = np.full((len(counts), len(RECALLS)), np.nan)
        here = np.flatnonzero(counts)
        if len(here):
            ap[:, here], precision[here] = STYLES[self.style](images, here)
        self._precision = precision
        per_class = {'AP50': ap[0], 'AP50-95': ap.mean(0)}
        return {
            **{f'm{k}': torch.as_tensor(100 * v).nanmean() for k, v in per_class.items()},
            **{k: torch.as_tensor(100 * v) for k, v in per_class.items()},
        }

    def curves(self) -> Curves | None:
        """Precision at an IoU of 0.5 over the recalls 0, 0.01 ... 1: the best precision at this recall or a higher one.

        The style ``'ultralytics'`` has straight lines between its points where ``'coco'`` has steps.

        Returns:
            None before `compute`, and without any box in the labels.
        """
        if self._precision is None or np.isnan(self._precision).all():
            return None
        return Curves(torch.as_tensor(RECALLS), torch.as_tensor(self._precision))

    @property
    def settings(self) -> dict[str, Any]:
        """The style."""
        return {'style': self.style}

    def _count(self, images: list[Image]) -> np.ndarray:
        """(K,) boxes of each class in the labels."""
        labels = torch.cat([torch.zeros(0, dtype=torch.int64), *(i.labels for i in images)])
        low, high = (int(v) for v in labels.aminmax()) if len(labels) else (0, -1)
        if low < 0 or (self.num_classes and high >= self.num_classes):
            expected = '0 or more' if self.num_classes is None else f'0..{self.num_classes - 1}'
            raise InputError(f'MeanAP got the label {low if low < 0 else high}, expected {expected}.')
        if self.num_classes is None:
            high = max([high, *(int(i.detections[:, 5].max()) for i in images if len(i.detections))])
        return np.bincount(labels.numpy(), minlength=self.num_classes or high + 1)


def coco_precision(images: Sequence[Image], classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision as COCO has it.

    Args:
        images: On the CPU.
        classes: Those (k,) that occur in the labels.

    Returns:
        ap: (10, k) at `IOU_THRESHOLDS`, 0..1.
        precision: (k, 101) at `RECALLS`, for an IoU of 0.5.
    """
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(
        iou_thresholds=IOU_THRESHOLDS.tolist(),
        rec_thresholds=RECALLS.tolist(),
        max_detection_thresholds=[1, 10, MOST],
        extended_summary=True,
        backend='faster_coco_eval',  # the other one returns -1 for these thresholds
        sync_on_compute=False,  # they are gathered already
    )
    metric.warn_on_many_detections = False
    found = [{'boxes': d[:, :4], 'scores': d[:, 4], 'labels': d[:, 5].long()} for d, *_ in images]
    metric.update(found, [{'boxes': boxes, 'labels': labels} for _, boxes, labels in images])
    result = metric.compute()
    known = result['classes'].reshape(-1).numpy()  # sorted; those that are only predicted are among them
    column = np.searchsorted(known, classes)
    precision = result['precision'][..., 0, -1].numpy()[:, :, column]  # IoU, recall, class; all areas; `MOST`
    return precision.mean(1), precision[0].T


def ultralytics_precision(images: Sequence[Image], classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision as ultralytics has it; see `coco_precision`."""
    detections = [d[d[:, 4].argsort(descending=True, stable=True)][:MOST] for d, *_ in images]
    right = match_detections(detections, [i.boxes for i in images], [i.labels for i in images], IOU_THRESHOLDS)
    flat = torch.cat(detections).numpy()
    truth = torch.cat([i.labels for i in images]).numpy()
    results = _ultralytics().ap_per_class(right, flat[:, 4], flat[:, 5], truth)
    ap, recall, precision = results[5], results[-2], results[-1]  # (k, 10), (1000,), (k, 1000)
    return ap.T, np.stack([np.interp(RECALLS, recall, p) for p in precision])


STYLES = {'coco': coco_precision, 'ultralytics': ultralytics_precision}


def _ultralytics() -> Any:
    from zoo.foreign_yolo import ultralytics_module

    return ultralytics_module('ultralytics.utils.metrics')


def _gathered(images: list[Image]) -> list[Image]:
    """The images of all processes, on the CPU. They take turns, as the samples do that evaluation deals out: where
    scores are equal the order counts, and it is then that of one process."""
    parts = [list(starmap(Image, zip(*columns))) for columns in map(_unpacked, all_gather(_packed(images)))]
    return [image for turn in zip_longest(*parts) for image in turn if image is not None]


def _packed(images: list[Image]) -> list[tuple[np.ndarray, list[int]]]:
    """For each column its values, all images in one array (one copy from the device), and how many each image has."""
    kinds = (torch.float32, torch.float32, torch.int64)
    columns = list(zip(*images))
    return [(torch.cat(c).detach().to('cpu', kind).numpy(), [len(x) for x in c]) for c, kind in zip(columns, kinds)]


def _unpacked(columns: list[tuple[np.ndarray, list[int]]]) -> list[tuple[Tensor, ...]]:
    return [torch.from_numpy(values).split(lengths) for values, lengths in columns]


def _what(value: Any) -> str:
    if isinstance(value, Tensor):
        return f'a tensor {tuple(value.shape)}'
    if isinstance(value, Mapping):
        return f'a dict of {sorted(value)}'
    shapes = [tuple(v.shape) for v in value if isinstance(v, Tensor)] if isinstance(value, Sequence) else []
    return f'tensors {shapes[:3]}' if shapes else type(value).__name__
