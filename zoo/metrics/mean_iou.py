"""Scores of semantic segmentation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from registry import METRICS, InputError
from zoo.batch import Batch, Outputs
from zoo.datasets import IGNORE

from .distributed import all_reduce_max, all_reduce_sum
from .metric import Metric


@METRICS.register_module()
class MeanIoU(Metric):
    """Mean intersection over union, from one confusion matrix over all pixels of all images.

    The mean is over the classes that occur in the labels. mmsegmentation's also counts a class that does not occur but
    is predicted somewhere, with an IoU of 0: with every class in the labels both agree, otherwise its mean is lower or
    equal. Pixels without a label count nowhere, whatever is predicted there.

    Where labels have another size than the logits, these are resized to it first (bilinear, ``align_corners=False``),
    so that the score is one at the size of the labels.

    Args:
        ignore_index: The label of pixels that do not count.
    """

    task = 'segmentation'
    name = 'mIoU'

    def __init__(self, ignore_index: int = IGNORE) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        # (K + 2, K) int64, true class and predicted class; the first row is for labels below 0, the last for those
        # from K. Its size is that of the first logits
        self.register_buffer('counts', None, persistent=False)
        self.register_buffer('ignored', torch.zeros((), dtype=torch.int64), persistent=False)

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Logits (B, K, h, w); class indices and ``ignore_index``, int64 (B, H, W) or a list of B masks (H, W).

        Raises:
            InputError: The target is something else.
        """
        logits, target = outputs.prediction, batch.target
        listed = isinstance(target, list) and all(isinstance(t, Tensor) and t.ndim == 2 for t in target)
        if not listed and not (isinstance(target, Tensor) and target.ndim == 3):
            got = f'shape {tuple(target.shape)}' if isinstance(target, Tensor) else type(target).__name__
            raise InputError(f'MeanIoU scores masks: a target (B, H, W) or a list of (H, W), got one of {got}.')
        if self.counts is None:
            self.counts = self._zeros(logits.shape[1], logits.device)
        if listed:
            for z, t in zip(logits.split(1), target):
                self._add(z, t[None])
        else:
            self._add(logits, target)

    def _add(self, logits: Tensor, target: Tensor) -> None:
        k = logits.shape[1]
        cell = target.long().clamp(-1, k).add_(1).mul_(k).add_(class_map(logits, target.shape[1:])).flatten()
        # not `bincount`, which waits for a GPU to learn the largest value
        self.counts.view(-1).index_add_(0, cell, self.counts.new_ones(()).expand(len(cell)))
        self.ignored += (target == self.ignore_index).sum()

    def compute(self) -> dict[str, Tensor]:
        """Percent: ``mIoU``, ``pixel_accuracy``, ``mean_accuracy``, and for each class ``IoU`` and ``accuracy`` (K,).

        A class that no label names has NaN there and is left out of the means. Everything is NaN without any labelled
        pixel; the vectors have no entries where no process saw a batch.

        Raises:
            InputError: Labels that are neither classes nor ``ignore_index``.
        """
        counts = self.counts
        seen = 0 if counts is None else counts.shape[1]
        k = int(all_reduce_max(torch.tensor(seen, device=self.ignored.device)))
        counts = self._zeros(k, self.ignored.device) if counts is None else counts
        counts, ignored = all_reduce_sum(counts.clone()), all_reduce_sum(self.ignored.clone())
        if 0 <= self.ignore_index < k:
            counts[self.ignore_index + 1], ignored = 0, 0
        if wrong := int(counts[0].sum() + counts[-1].sum() - ignored):
            raise InputError(
                f'{wrong} pixels have labels that are neither in 0..{k - 1}, the classes of the logits, nor '
                f'ignore_index={self.ignore_index}.'
            )
        return scores(counts[1:-1])

    def _zeros(self, classes: int, device: torch.device) -> Tensor:
        return torch.zeros(classes + 2, classes, dtype=torch.int64, device=device)


def scores(confusion: Tensor) -> dict[str, Tensor]:
    """What `MeanIoU.compute` returns, of a confusion matrix (K, K) of counts: row = true class, column = predicted.

    >>> scores(torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]]))['IoU']
    tensor([50.0000, 57.1429,     nan], dtype=torch.float64)
    """
    confusion = confusion.double()
    hits, truth, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    iou = (100 * hits / (truth + predicted - hits)).where(truth > 0, torch.nan)
    accuracy = 100 * hits / truth
    return {
        'mIoU': iou.nanmean(),
        'pixel_accuracy': 100 * hits.sum() / truth.sum(),
        'mean_accuracy': accuracy.nanmean(),
        'IoU': iou,
        'accuracy': accuracy,
    }


def class_map(logits: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """The class with the largest logit at each pixel, the first one of equals.

    ``argmax`` over the second dimension reads memory across its grain on CPUs: comparing plane by plane takes a tenth
    of its time with 40 classes, and resizing plane by plane keeps both in the cache. Of all resized logits never more
    than one image's exist.

    Args:
        logits: (B, K, h, w).
        size: (H, W), to which the logits are resized first (bilinear, ``align_corners=False``); None leaves them.

    Returns:
        (B, H, W), of an integer type.
    """
    resized = size is not None and tuple(size) != tuple(logits.shape[2:])
    if resized and len(logits) > 1:
        return torch.cat([class_map(x, size) for x in logits.split(1)])
    if logits.device.type != 'cpu' or (logits.stride(1) == 1 and not resized):
        return (_resize(logits, size) if resized else logits).argmax(1)
    planes = (_resize(x, size)[:, 0] if resized else x[:, 0] for x in logits.split(1, dim=1))
    best = next(planes).clone()
    winner = torch.zeros(best.shape, dtype=torch.uint8 if logits.shape[1] <= 256 else torch.int32)
    for k, plane in enumerate(planes, start=1):
        torch.maximum(winner, (plane > best).to(winner.dtype).mul_(k), out=winner)  # a later winner has a larger index
        torch.maximum(best, plane, out=best)
    return winner


def _resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(logits, tuple(size), mode='bilinear' if len(size) == 2 else 'trilinear', align_corners=False)
