"""Boxes: from what a detector says of every place to the detections of an image."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

MOST_CANDIDATES = 30_000  # of an image, those with the highest scores: the rest would only cost time


def detections(
    dense: Tensor,
    size: tuple[int, int],
    confidence: float = 0.001,
    iou: float = 0.7,
    most: int = 300,
) -> list[Tensor]:
    """Non-maximum suppression for each class.

    A place counts once for each class whose probability is above ``confidence``. It has no time limit: ultralytics' own
    returns no boxes for what is left of a batch after two seconds.

    Args:
        dense: (B, 4 + K, A): centre x, y, width, height in pixels, and class probabilities.
        size: (H, W) of the image, to which boxes are clipped.
        confidence: The lowest score.
        iou: A box is dropped if it overlaps more than this with a better one of its class.
        most: Boxes of an image.

    Returns:
        For each sample (n, 6): x1, y1, x2, y2, score, class; the best first.
    """
    centre, extent, scores = dense[:, :2], dense[:, 2:4], dense[:, 4:]
    corners = torch.cat((centre - extent / 2, centre + extent / 2), 1).transpose(1, 2)  # (B, A, 4)
    limit = corners.new_tensor([size[1], size[0]]).repeat(2)
    found = []
    for boxes, probabilities in zip(corners, scores):
        classes, places = (probabilities > confidence).nonzero(as_tuple=True)
        score = probabilities[classes, places]
        if len(score) > MOST_CANDIDATES:
            score, order = score.topk(MOST_CANDIDATES)
            classes, places = classes[order], places[order]
        box = boxes[places]
        keep = batched_nms(box, score, classes, iou)[:most]
        box = torch.minimum(box[keep].clamp(min=0), limit)
        found.append(torch.cat((box, score[keep, None], classes[keep, None].to(box.dtype)), 1))
    return found
