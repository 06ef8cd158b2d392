"""The loss of ultralytics' detectors, for lists of boxes."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from registry import LOSSES, InputError, unknown_name
from zoo.foreign_yolo import ultralytics_module

GAINS = {'box': 7.5, 'cls': 0.5, 'dfl': 1.5}
SCALES = ('batch', 'mean')
CANDIDATES = 10  # places that the assigner considers for a box

Raw = Mapping[str, Any]


@LOSSES.register_module()
class YOLOLoss:
    """``v8DetectionLoss`` of ultralytics: complete IoU and distribution focal loss on the places that the task-aligned
    assigner gives to a box, binary cross-entropy of the classes on all.

    It is no module and has no weights; ultralytics' object is made for the device on which it is first used. It
    computes in float32 also under autocast: bfloat16 has steps of half a cell from cell 64 on.

    Args:
        num_classes: K.
        bins: Of the distribution of each side of a box.
        strides: Pixels between places, for each level.
        gains: Factors that differ from `GAINS`.
        scale: ``'batch'`` multiplies by the number of samples, as ultralytics does; ``'mean'`` does not.

    Raises:
        NameNotFound: An unknown gain or scale.
        InputError: A gain that is no number of at least 0.
    """

    def __init__(
        self,
        num_classes: int,
        bins: int,
        strides: Sequence[float],
        gains: Mapping[str, float] | None = None,
        scale: str = 'batch',
    ) -> None:
        for name, value in (gains or {}).items():
            if name not in GAINS:
                raise unknown_name('gain of the loss', name, GAINS)
            if not isinstance(value, (int, float)) or not value >= 0:
                raise InputError(f'The gain {name} must be a number of at least 0, got {value!r}.')
        if scale not in SCALES:
            raise unknown_name('scale of the loss', scale, SCALES)
        self.num_classes, self.bins, self.strides = num_classes, bins, tuple(strides)
        self.gains, self.scale = {**GAINS, **(gains or {})}, scale
        self._criterion: Any = None

    def __call__(self, raw: Raw, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> dict[str, Tensor]:
        """``box``, ``cls`` and ``dfl``: scalars, times their gains, averaged over samples or added up.

        Args:
            raw: Predictions as `zoo.heads.YOLOHead` gives them.
            boxes: For each sample (N, 4) corners x1, y1, x2, y2 in pixels.
            labels: For each sample (N,) classes.
        """
        _, loss, _ = self._run(raw, boxes, labels)
        if self.scale == 'batch':
            loss = loss * len(boxes)
        return dict(zip(GAINS, loss.unbind()))

    def true_class_probability(self, raw: Raw, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        """The probability of the true class, averaged over the places that the assigner gives to a box: (B,); NaN in a
        sample without any."""
        (positive, index, *_), _, _ = self._run(raw, boxes, labels)
        padded = pad_sequence(list(labels), batch_first=True)
        if not padded.shape[1]:
            return raw['scores'].new_full((len(boxes),), torch.nan, dtype=torch.float32)
        true = padded.gather(1, index)  # (B, A)
        probability = raw['scores'].gather(1, true[:, None]).squeeze(1).float().sigmoid()
        return probability.masked_fill(~positive, 0).sum(1) / positive.sum(1)

    def _run(self, raw: Raw, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple:
        device, places = raw['boxes'].device, raw['boxes'].shape[2]
        if places < CANDIDATES:
            raise InputError(
                f'The loss needs {CANDIDATES} places, an input of this size has {places}: take a larger one.'
            )
        if self._criterion is None or self._criterion.device != device:
            self._criterion = self._build(device)
        height, width = (side * self.strides[0] for side in raw['feats'][0].shape[2:])
        exact = {'boxes': raw['boxes'].float(), 'scores': raw['scores'].float()}
        exact['feats'] = [
            f.new_zeros((), dtype=torch.float32).expand(f.shape) for f in raw['feats']
        ]  # only sizes count
        with torch.autocast(device.type, enabled=False):
            return self._criterion.get_assigned_targets_and_loss(exact, flatten(boxes, labels, (height, width)))

    def _build(self, device: torch.device) -> Any:
        detect = SimpleNamespace(stride=torch.tensor(self.strides, device=device), nc=self.num_classes)
        detect.reg_max = self.bins
        model = SimpleNamespace(args=SimpleNamespace(**self.gains), model=[detect])
        model.parameters = lambda: iter([torch.empty(0, device=device)])
        return ultralytics_module('ultralytics.utils.loss').v8DetectionLoss(model)


def flatten(boxes: Sequence[Tensor], labels: Sequence[Tensor], size: Sequence[float]) -> dict[str, Tensor]:
    """Lists of boxes as ultralytics takes them: one row for each box, in the order of the samples.

    Args:
        boxes: For each sample (N, 4) corners in pixels.
        labels: For each sample (N,).
        size: (H, W) of the input, by which boxes are divided.

    Returns:
        ``batch_idx`` (N,), ``cls`` (N,), and ``bboxes`` (N, 4): centre, width and height.
    """
    counts = torch.tensor([len(b) for b in boxes])
    corners = torch.cat(list(boxes)).float()
    left, top, right, bottom = corners.unbind(1)
    height, width = map(float, size)
    centre = (left + right) / (2 * width), (top + bottom) / (2 * height)
    rows = torch.arange(len(boxes)).repeat_interleave(counts)
    return {
        'batch_idx': rows.to(corners.device, non_blocking=True),
        'cls': torch.cat(list(labels)).to(corners.dtype),
        'bboxes': torch.stack((*centre, (right - left) / width, (bottom - top) / height), 1),
    }
