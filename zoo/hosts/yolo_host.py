"""What hosts share that are built from ultralytics' detectors: targets, losses, detections, weights."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from registry import InputError
from zoo.batch import Batch, Features, Outputs
from zoo.boxes import detections
from zoo.foreign_yolo import yolo_weights
from zoo.heads import YOLOHead
from zoo.host import MultimodalHost
from zoo.losses import YOLOLoss
from zoo.rows import lone_values_allowed

from .label_host import for_each
from .sizes import check_padding

Lists = Sequence[Tensor]


class YOLOHost(MultimodalHost):
    """A host with the neck, the head and the loss of a YOLO detector. ultralytics is under AGPL-3.0, an optional extra.

    Targets are dicts of lists with an entry for each sample: ``boxes`` (N, 4), corners x1, y1, x2, y2 in pixels of the
    input, and ``labels`` (N,) int64. Where modalities have labels of their own, ``target['own'][modality]`` is another
    such dict, on which auxiliary heads are trained.

    The prediction is raw in training (`zoo.heads.YOLOHead`) and (B, 4 + K, A) in eval mode: centre x, y, width, height
    in pixels, and the probabilities of the classes at A places. `postprocess`, and so ``mode='predict'``, makes
    detections of it: for each sample (n, 6), x1, y1, x2, y2, score, class, the best first.

    Args:
        modalities: Names of the inputs.
        num_classes: K.
        model: See `zoo.foreign_yolo.yolo_config`.
        in_chans: Channels of each modality's input; one number for all, or a mapping.
        gains: See `zoo.losses.YOLOLoss`.
        loss_scale: See `zoo.losses.YOLOLoss`.
        confidence: See `zoo.boxes.detections`; what evaluation takes, as for the next two.
        iou: The overlap above which the worse of two boxes of a class is dropped.
        max_det: Boxes of an image.
        pad_to: Pad inputs (zeros, below and to the right) to a multiple of this; None refuses sizes that do not fit.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Raises:
        InputError: ultralytics is not installed, or a value outside its range.
        NameNotFound: An unknown model.
    """

    task = 'detection'

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        model: str | Mapping[str, Any],
        in_chans: int | Mapping[str, int],
        gains: Mapping[str, float] | None,
        loss_scale: str,
        confidence: float,
        iou: float,
        max_det: int,
        pad_to: int | None,
        data_preprocessor: nn.Module | Mapping | None,
        encode_on: str = 'present',
    ) -> None:
        super().__init__(modalities, data_preprocessor, encode_on)
        if not isinstance(num_classes, int) or num_classes < 1:
            raise InputError(f'num_classes must be an integer of at least 1, got {num_classes!r}.')
        for name, value in (('confidence', confidence), ('iou', iou)):
            if not 0 <= value <= 1:
                raise InputError(f'{name} must be in 0..1, got {value!r}.')
        if max_det < 1:
            raise InputError(f'max_det must be at least 1, got {max_det!r}.')
        self.in_chans = for_each(in_chans, self.modalities, 'in_chans')
        self.num_classes = num_classes
        self.nms = {'confidence': confidence, 'iou': iou, 'most': max_det}
        self.head = YOLOHead(model, num_classes)
        self.criterion = YOLOLoss(num_classes, self.head.detect.reg_max, self.head.strides, gains, loss_scale)
        self.multiple = int(max(self.head.strides))
        check_padding(pad_to, self.multiple)
        self.pad_to = pad_to

    def predict_places(self, maps: list[Tensor], features: Features) -> Outputs:
        """Fused maps -> raw predictions, decoded in eval mode."""
        lone = self.training and len(maps[-1]) == 1
        with lone_values_allowed(self.head) if lone else nullcontext():
            raw = self.head(maps)
        prediction = raw if self.training else self.head.decode(raw)
        return Outputs(prediction, features, {'raw': raw, 'fused': maps})

    def postprocess(self, outputs: Outputs) -> Outputs:
        """Detections: a list of (n, 6), see `zoo.boxes.detections`."""
        dense = outputs.prediction if isinstance(outputs.prediction, Tensor) else self.head.decode(outputs.prediction)
        size = outputs.features.size
        if not size:
            size = [int(side * self.head.strides[0]) for side in outputs.extras['raw']['feats'][0].shape[2:]]
        return outputs._replace(prediction=detections(dense, tuple(size), **self.nms))

    @property
    def settings(self) -> dict[str, Any]:
        """What detections are made with."""
        return dict(self.nms)

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """``loss_box``, ``loss_cls`` and ``loss_dfl``, and with auxiliary heads ``loss_aux_<modality>``, the sum of the
        three over the samples that have it.

        Raises:
            InputError: A target that is not of boxes and labels, or a class that the host does not have.
        """
        parts = self.criterion(outputs.extras['raw'], *self.labelled(batch.target))
        losses = {f'loss_{name}': value for name, value in parts.items()}
        batch = batch.view(self.modalities)
        for (m, raw), rows in zip((self.unimodal(outputs) or {}).items(), batch.present.unbind(1)):
            losses[f'loss_aux_{m}'] = self.unimodal_loss(raw, batch, rows)
        return losses

    def unimodal_loss(self, prediction: Mapping[str, Any], batch: Batch, rows: Tensor) -> Tensor:
        """The sum of the three losses over ``rows``; on the modality's own boxes, where it has any."""
        index = rows.nonzero().squeeze(1)
        if not len(index):
            return 0 * (prediction['boxes'].sum() + prediction['scores'].sum())
        boxes, labels = self.labelled(batch.target, prediction.get('modality'))
        if len(index) < len(rows):
            moved, kept = index.to(prediction['boxes'].device, non_blocking=True), index.tolist()
            prediction = {**prediction, **{k: prediction[k].index_select(0, moved) for k in ('boxes', 'scores')}}
            boxes, labels = [boxes[i] for i in kept], [labels[i] for i in kept]
        return sum(self.criterion(prediction, boxes, labels).values())

    def true_class_probability(self, prediction: Mapping[str, Any], batch: Batch) -> Tensor:
        """Averaged over the places to which the assigner gives a box: (B,)."""
        boxes, labels = self.labelled(batch.target, prediction.get('modality'))
        return self.criterion.true_class_probability(prediction, boxes, labels)

    def labelled(self, target: Any, modality: str | None = None) -> tuple[Lists, Lists]:
        """Boxes and labels of a target: the modality's own, where there are any."""
        if isinstance(target, Mapping) and modality in target.get('own', ()):
            target = target['own'][modality]
        if not isinstance(target, Mapping) or not {'boxes', 'labels'} <= target.keys():
            got = sorted(target) if isinstance(target, Mapping) else type(target).__name__
            raise InputError(f'{type(self).__name__} trains on dict(boxes=[...], labels=[...]), got {got}.')
        boxes, labels = target['boxes'], target['labels']
        for b, k in zip(boxes, labels):
            if b.shape != (len(k), 4) or k.ndim != 1:
                raise InputError(f'Boxes are (N, 4) and their labels (N,), got {tuple(b.shape)} and {tuple(k.shape)}.')
        # on a GPU looking at them would wait for it, and the data set has looked already
        if len(known := torch.cat([k for k in labels if k.device.type == 'cpu'] or [torch.zeros(0)])):
            low, high = (int(v) for v in known.aminmax())
            if low < 0 or high >= self.num_classes:
                wrong = low if low < 0 else high
                raise InputError(f'Label {wrong} is out of range, expected 0..{self.num_classes - 1}.')
        return boxes, labels

    def load_head(self, file: str | Path) -> None:
        """The neck and the head of a single-stream detector; of the last layer what fits, as its classes may differ.

        Raises:
            InputError: A file of another model.
        """
        own = self.head.state_dict()
        last = f'{list(self.head._modules)[-1]}.'
        weights = {k.removeprefix('model.'): v for k, v in yolo_weights(file).items()}
        found = {k: v for k, v in weights.items() if k in own and (not k.startswith(last) or v.shape == own[k].shape)}
        check_weights(found, {k: v for k, v in own.items() if k in found or not k.startswith(last)}, file)
        self.head.load_state_dict({**own, **found})


def load_backbone(backbone: nn.Module, file: str | Path, in_chans: int) -> None:
    """The backbone of a single-stream detector; a stem for other channels is made of that for three as timm does (one:
    their sum).

    Raises:
        InputError: A file of another model.
    """
    own = backbone.state_dict()
    weights = {k.removeprefix('model.'): v for k, v in yolo_weights(file).items()}
    found = {k: weights[k] for k in own if k in weights}
    stem = next(k for k, v in own.items() if v.ndim == 4)
    if stem in found and found[stem].shape[1] == 3 != in_chans:
        found[stem] = adapt_input_conv(in_chans, found[stem])
    check_weights(found, own, file)
    backbone.load_state_dict(found)


def check_weights(found: Mapping[str, Tensor], own: Mapping[str, Tensor], file: str | Path) -> None:
    """Refuse weights of another model.

    Raises:
        InputError: One is missing or of another shape.
    """
    for k, value in own.items():
        if k not in found or found[k].shape != value.shape:
            got = f'is {tuple(found[k].shape)}' if k in found else 'is missing'
            raise InputError(f'{file} is of another model: model.{k} must be {tuple(value.shape)}, but {got}.')
