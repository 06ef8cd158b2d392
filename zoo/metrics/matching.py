"""Which detections find which boxes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou


def match_detections(
    detections: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor], thresholds: Sequence[float]
) -> np.ndarray:
    """Which detections are right, at each threshold of the overlap (intersection over union, IoU).

    In the order of their scores each one takes, of the boxes of its class that it overlaps by the threshold or more and
    that are still free, the one that it overlaps most; it is right if there is one. Ultralytics 8.4 matches so, while
    its older versions serve the pair with the largest overlap first, whatever the scores.

    Instead of going through the detections one after the other, all ask for their best box at once; who is not the
    first in line there asks for the next best. The result is the same, for all images in a few rounds.

    >>> shifted = [[0, 0, 10, 10, 0.9, 1], [1, 0, 11, 10, 0.8, 1], [0, 0, 10, 10, 0.7, 0]]
    >>> match_detections([torch.tensor(shifted)], [torch.tensor([[1.0, 0, 11, 10]])], [torch.tensor([1])], [0.5, 0.9])
    array([[ True, False],
           [False,  True],
           [False, False]])

    Args:
        detections: For each image (n, 6) on the CPU: x1, y1, x2, y2, score, class; the highest scores first.
        boxes: For each image (g, 4), corners likewise.
        labels: For each image (g,), their classes.
        thresholds: T of them, 0..1.

    Returns:
        Bool (sum of all n, T).
    """
    found = np.zeros((sum(map(len, detections)), len(thresholds)), dtype=bool)
    detection, box, overlap = _pairs(detections, boxes, labels, min(thresholds))
    best_first = np.lexsort((box, -overlap, detection))
    detection, box, overlap = detection[best_first], box[best_first], overlap[best_first]
    for i, threshold in enumerate(np.float32(thresholds)):
        enough = overlap >= threshold
        found[_served(detection[enough], box[enough]), i] = True
    return found


def _pairs(
    detections: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor], threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections and boxes of one class that overlap enough: their indices, counted over all images, and overlaps."""
    pairs, first_detection, first_box = [], 0, 0
    for given, true, label in zip(detections, boxes, labels):
        overlap = box_iou(given[:, :4].float(), true.float())
        i, j = ((given[:, 5:] == label) & (overlap >= threshold)).nonzero().unbind(1)
        pairs.append((i + first_detection, j + first_box, overlap[i, j]))
        first_detection, first_box = first_detection + len(given), first_box + len(true)
    if not pairs:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    detection, box, overlap = (torch.cat(column).numpy() for column in zip(*pairs))
    return detection, box, overlap


def _served(detection: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The detections that get a box, of pairs (P,) in which each detection's best box comes first."""
    if not len(box):
        return detection
    while True:
        asking, first = np.unique(detection, return_index=True)
        holder = np.full(box.max() + 1, len(detection) + detection.max())  # larger than any: nobody
        np.minimum.at(holder, box[first], asking)
        stays = detection <= holder[box]
        if stays.all():
            return asking
        detection, box = detection[stays], box[stays]
