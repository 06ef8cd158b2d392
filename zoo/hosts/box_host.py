"""What hosts share that find boxes: targets, losses, detections."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from registry import InputError, check_arguments
from zoo.batch import Batch, Outputs
from zoo.boxes import check_thresholds, detections
from zoo.host import MultimodalHost
from zoo.precision import widened

from .label_host import for_each
from .sizes import check_padding

Lists = Sequence[Tensor]
Raw = Mapping[str, Any]


class BoxHost(MultimodalHost):
    """A host that finds boxes: upright ones, each with a class.

    Targets are dicts of lists with an entry for each sample: ``boxes`` (N, 4), corners x1, y1, x2, y2 in pixels of the
    input, and ``labels`` (N,) int64. Where modalities have labels of their own, ``target['own'][modality]`` is another
    such dict, on which auxiliary heads are trained.

    In training the prediction is raw: a dict of ``boxes`` (B, ..., A), ``scores`` (B, K, A) logits and whatever the
    loss needs, which is also in ``outputs.extras['raw']``. In eval mode it is (B, 4 + K, A), float32: centre x, y,
    width, height in pixels, and the probabilities of the classes at A places. `postprocess`, and so
    ``mode='predict'``, makes detections of it: for each sample (n, 6), x1, y1, x2, y2, score, class, the best first.

    A subclass defines the road from inputs to raw predictions, `dense`, and ``self.criterion``: a callable of (raw,
    boxes, labels) that returns the parts of the loss by name, and has a ``true_class_probability`` of the same.

    Args:
        modalities: Names of the inputs.
        num_classes: K.
        in_chans: Channels of each modality's input; one number for all, or a mapping.
        nms: Arguments of `zoo.boxes.detections`: ``confidence``, ``iou``, ``max_det``.
        pad_to: Pad inputs (zeros, below and to the right) to a multiple of this; None refuses sizes that do not fit.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.
    """

    task = 'detection'
    criterion: Any
    multiple = 1  # what the sides of an input must be multiples of

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        in_chans: int | Mapping[str, int],
        nms: Mapping[str, float] | None,
        pad_to: int | None,
        data_preprocessor: nn.Module | Mapping | None,
        encode_on: str,
    ) -> None:
        super().__init__(modalities, data_preprocessor, encode_on)
        if not _counts(num_classes):
            raise InputError(f'num_classes must be an integer of at least 1, got {num_classes!r}.')
        self.in_chans = for_each(in_chans, self.modalities, 'in_chans')
        for m, channels in self.in_chans.items():
            if not _counts(channels):
                raise InputError(f'in_chans of {m} must be an integer of at least 1, got {channels!r}.')
        check_arguments(check_thresholds, 'non-maximum suppression', (), nms or {})
        self.nms = check_thresholds(**(nms or {}))
        self.num_classes, self.pad_to = num_classes, pad_to

    def takes_multiples_of(self, multiple: int) -> None:
        """Say what the sides of an input must be multiples of, unless the host pads."""
        self.multiple = multiple
        check_padding(self.pad_to, multiple)

    def dense(self, raw: Raw) -> Tensor:
        """Raw predictions -> (B, 4 + K, A), as described above."""
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, Any]:
        """What detections are made with."""
        return dict(self.nms)

    def postprocess(self, outputs: Outputs) -> Outputs:
        """Detections: a list of (n, 6), see `zoo.boxes.detections`."""
        prediction = outputs.prediction
        prediction = prediction if isinstance(prediction, Tensor) else self.dense(prediction)
        return outputs._replace(prediction=detections(prediction, outputs.features.size or None, **self.nms))

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The parts of the loss, ``loss_box`` for instance, and with auxiliary heads ``loss_aux_<modality>``, their sum
        over the samples that have it.

        Raises:
            InputError: A target that is not of boxes and labels, or a class that the host does not have.
        """
        parts = self.criterion(outputs.extras['raw'], *self.labelled(batch.target))
        losses = {f'loss_{name}': value for name, value in parts.items()}
        batch = batch.view(self.modalities)
        for (m, raw), rows in zip((self.unimodal(outputs) or {}).items(), batch.present.unbind(1)):
            losses[f'loss_aux_{m}'] = self.unimodal_loss(raw, batch, rows)
        return losses

    def unimodal_loss(self, prediction: Raw, batch: Batch, rows: Tensor) -> Tensor:
        """The sum of the loss's parts over ``rows``; on the modality's own boxes, where it has any."""
        index = rows.nonzero().squeeze(1)
        if not len(index):
            return 0 * (prediction['boxes'].sum() + prediction['scores'].sum())
        boxes, labels = self.labelled(batch.target, prediction.get('modality'))
        if len(index) < len(rows):
            moved, kept = index.to(prediction['boxes'].device, non_blocking=True), index.tolist()
            prediction = {**prediction, **{k: prediction[k].index_select(0, moved) for k in ('boxes', 'scores')}}
            boxes, labels = [boxes[i] for i in kept], [labels[i] for i in kept]
        return sum(self.criterion(prediction, boxes, labels).values())

    def true_class_probability(self, prediction: Raw, batch: Batch) -> Tensor:
        """Averaged over the places to which the assigner gives a box: (B,); NaN in a sample without any.

        Raises:
            InputError: The prediction is not raw.
        """
        if not isinstance(prediction, Mapping):
            raise InputError(
                "true_class_probability takes raw predictions: outputs.extras['raw'], or those of unimodal."
            )
        boxes, labels = self.labelled(batch.target, prediction.get('modality'))
        return self.criterion.true_class_probability(prediction, boxes, labels)

    def divergence(
        self, reference: Raw | Tensor, prediction: Raw | Tensor, batch: Batch, weight: Tensor | None = None
    ) -> Tensor:
        """How far the probabilities of the classes are apart, of all places together, over their mean sum, which is
        detached: (B,), in [0, 2]. Most places hold nothing, and a mean over them would say nothing. Boxes do not count,
        nor does ``weight``: there is no map."""
        p, q = (widened(x['scores']).sigmoid() if isinstance(x, Mapping) else x[:, 4:] for x in (reference, prediction))
        mass = (p + q).detach().flatten(1).sum(1) / 2
        return (p - q).abs().flatten(1).sum(1) / mass.clamp(min=torch.finfo(mass.dtype).tiny)

    def labelled(self, target: Any, modality: str | None = None) -> tuple[Lists, Lists]:
        """Boxes and labels of a target: the modality's own, where there are any."""
        if isinstance(target, Mapping) and modality in target.get('own', ()):
            target = target['own'][modality]
        if not isinstance(target, Mapping) or not {'boxes', 'labels'} <= target.keys():
            got = sorted(target) if isinstance(target, Mapping) else type(target).__name__
            raise InputError(f'{type(self).__name__} trains on dict(boxes=[...], labels=[...]), got {got}.')
        boxes, labels = target['boxes'], target['labels']
        for b, k in zip(boxes, labels, strict=True):
            if b.shape != (len(k), 4) or k.ndim != 1 or k.is_floating_point():
                found = f'{tuple(b.shape)} and {tuple(k.shape)} {k.dtype}'
                raise InputError(f'The boxes of a sample are (N, 4) and its labels (N,) int64, got {found}.')
        # on a GPU looking at them would wait for it, and the data set has looked already
        if len(known := torch.cat([k for k in labels if k.device.type == 'cpu'] or [torch.zeros(0)])):
            low, high = (int(v) for v in known.aminmax())
            if low < 0 or high >= self.num_classes:
                wrong = low if low < 0 else high
                raise InputError(f'Label {wrong} is out of range, expected 0..{self.num_classes - 1}.')
        return boxes, labels

    def training_only(self) -> Iterator[nn.Parameter]:
        """The auxiliary heads."""
        return getattr(self, 'aux', nn.ModuleDict()).parameters()


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
