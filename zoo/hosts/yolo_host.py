"""What hosts share that are built from ultralytics' detectors: neck, head and loss, and weights of one stream."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from timm.models import adapt_input_conv
from torch import Tensor, nn

from registry import LOSSES, InputError
from zoo.batch import Features, Outputs
from zoo.foreign_yolo import yolo_weights
from zoo.heads import YOLOHead
from zoo.rows import lone_values_allowed

from .box_host import BoxHost, Raw


class YOLOHost(BoxHost):
    """A host with the neck, the head and the loss of a YOLO detector. ultralytics is under AGPL-3.0, an optional extra.

    Args:
        modalities: Names of the inputs.
        num_classes: K.
        model: See `zoo.foreign_yolo.yolo_config`.
        in_chans: Channels of each modality's input; one number for all, or a mapping.
        loss: `zoo.losses.YOLOLoss` or one of its kind: name or config.
        others: See `BoxHost`.

    Raises:
        InputError: ultralytics is not installed, or a value outside its range.
        NameNotFound: An unknown model.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        model: str | Mapping[str, Any],
        in_chans: int | Mapping[str, int],
        loss: str | Mapping,
        **others: Any,
    ) -> None:
        super().__init__(modalities, num_classes, in_chans, **others)
        self.head = YOLOHead(model, num_classes)
        bins = self.head.detect.reg_max
        self.criterion = LOSSES.build(loss, num_classes=num_classes, bins=bins, strides=self.head.strides)
        self.takes_multiples_of(int(max(self.head.strides)))

    def predict_places(self, maps: list[Tensor], features: Features) -> Outputs:
        """Fused maps -> raw predictions, decoded in eval mode."""
        lone = self.training and len(maps[-1]) == 1
        with lone_values_allowed(self.head) if lone else nullcontext():
            raw = self.head(maps)
        return Outputs(raw if self.training else self.dense(raw), features, {'raw': raw, 'fused': maps})

    def dense(self, raw: Raw) -> Tensor:
        """See `BoxHost`."""
        return self.head.decode(raw)

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


def weights_file(given: Any) -> str:
    """The name of a file of weights.

    Raises:
        InputError: It is none; weights are not downloaded.
    """
    if not isinstance(given, (str, Path)):
        raise InputError(f'pretrained is the name of a file of weights, which are not downloaded, got {given!r}.')
    return str(given)


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
