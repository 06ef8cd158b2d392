"""Boxes: from what a detector says of every place to the detections of an image."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from registry import InputError

MOST_CANDIDATES = 30_000  # of an image, those with the highest scores: the rest would only cost time


def check_thresholds(confidence: float = 0.001, iou: float = 0.7, max_det: int = 300) -> dict[str, float]:
    """The thresholds of `detections` as a dict; the defaults are those with which detectors are evaluated.

    Raises:
        InputError: One outside its range.
    """
    for name, value in (('confidence', confidence), ('iou', iou)):
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise InputError(f'{name} must be a number in 0..1, got {value!r}.')
    if not isinstance(max_det, int) or max_det < 1:
        raise InputError(f'max_det must be an integer of at least 1, got {max_det!r}.')
    return {'confidence': confidence, 'iou': iou, 'max_det': max_det}


def detections(
    dense: Tensor,
    size: tuple[int, int] | None = None,
    confidence: float = 0.001,
    iou: float = 0.7,
    max_det: int = 300,
) -> list[Tensor]:
    """Non-maximum suppression for each class.

    A place counts once for each class whose probability is above ``confidence``. It has no time limit: ultralytics' own
    returns no boxes for what is left of a batch after two seconds.

    Args:
        dense: (B, 4 + K, A): centre x, y, width, height in pixels, and class probabilities.
        size: (H, W) of the image, to which boxes are clipped; None does not clip.
        confidence: The lowest score.
        iou: A box is dropped if it overlaps more than this with a better one of its class.
        max_det: The most boxes of an image.

    Returns:
        For each sample (n, 6): x1, y1, x2, y2, score, class; the best first.
    """
    centre, extent, scores = dense[:, :2], dense[:, 2:4], dense[:, 4:]
    corners = torch.cat((centre - extent / 2, centre + extent / 2), 1).transpose(1, 2)  # (B, A, 4)
    found = []
    for boxes, probabilities in zip(corners, scores):
        classes, places = (probabilities > confidence).nonzero(as_tuple=True)
        score = probabilities[classes, places]
        if len(score) > MOST_CANDIDATES:
            score, order = score.topk(MOST_CANDIDATES)
            classes, places = classes[order], places[order]
        box = boxes[places]
        keep = batched_nms(box, score, classes, iou)[:max_det]
        box = box[keep] if size is None else clip_boxes_to_image(box[keep], size)
        found.append(torch.cat((box, score[keep, None], classes[keep, None].to(box.dtype)), 1))
    return found
