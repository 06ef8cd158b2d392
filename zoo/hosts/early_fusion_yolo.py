"""A YOLO detector whose first layer sees all modalities."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from registry import HOSTS
from zoo.batch import Batch, Features, Outputs
from zoo.encoders import YOLOBackbone
from zoo.fusion.fusion import keep
from zoo.rows import Rows

from .sizes import padded
from .yolo_host import YOLOHost, load_backbone, weights_file


@HOSTS.register_module()
class EarlyFusionYOLO(YOLOHost):
    """The cheap baseline of `TwoStreamYOLO`: images are concatenated along their channels, absent ones as zeros, and
    one backbone sees them. No modality has a path of its own: `branch` is empty, and plugins that balance branches
    refuse it.

    Args:
        modalities: Names of the inputs, in the order of their channels.
        num_classes: K.
        model: See `TwoStreamYOLO`, as for the others.
        in_chans: Channels of each modality's input.
        pretrained: A file of weights that ultralytics trained for ``model``.
        loss: See `TwoStreamYOLO`, as for the next.
        nms: Arguments of `zoo.boxes.detections`.
        pad_to: See `BoxHost`.
        data_preprocessor: See `MultimodalHost`.

    Raises:
        InputError: ultralytics is not installed, or arguments that do not cover the modalities.
        NameNotFound: An unknown model.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        model: str | Mapping[str, Any] = 'yolov8n',
        in_chans: int | Mapping[str, int] = 3,
        pretrained: str | None = None,
        loss: str | Mapping = 'YOLOLoss',
        nms: Mapping[str, float] | None = None,
        pad_to: int | None = None,
        data_preprocessor: nn.Module | Mapping | None = None,
    ) -> None:
        given = {'nms': nms, 'pad_to': pad_to, 'data_preprocessor': data_preprocessor, 'encode_on': 'present'}
        super().__init__(modalities, num_classes, model, in_chans, loss, **given)
        channels = sum(self.in_chans.values())
        self.backbone = YOLOBackbone(model, channels)
        if pretrained:
            load_backbone(self.backbone, weights_file(pretrained), channels)
            self.load_head(pretrained)
        self.to(memory_format=torch.channels_last)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """{modality: (B, C, H, W)}: the images themselves, zero where absent."""
        batch = padded(self, batch)
        return {m: keep(batch.inputs[m], here) for m, here in zip(self.modalities, batch.mask.unbind(1))}

    def fuse(self, features: Features, mask: Tensor) -> list[Tensor]:
        """-> the maps of the backbone."""
        images = torch.cat([keep(features[m], here) for m, here in zip(self.modalities, mask.unbind(1))], 1)
        return Rows(None, images.device, len(images)).run(self.backbone, images)

    def decode(self, fused: list[Tensor], features: Features) -> Outputs:
        """-> what all places say, see `BoxHost`."""
        return self.predict_places(fused, features)

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """Nothing."""
        return iter(())

    def compilable(self) -> list[nn.Module]:
        """The backbone, and neck with head."""
        return [self.backbone, self.head]
