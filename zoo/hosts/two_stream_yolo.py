"""A YOLO detector with a backbone for each modality."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from registry import FUSIONS, HOSTS, InputError, unknown_name
from zoo.batch import Batch, Features, Outputs
from zoo.encoders import YOLOBackbone
from zoo.encoders.yolo_backbone import set_norms
from zoo.fusion.fusion import keep
from zoo.heads import YOLOAuxiliaryHead
from zoo.rows import Rows

from .label_host import encoder_parameters, for_each
from .sizes import padded
from .yolo_host import YOLOHost, load_backbone, weights_file

MISSING = ('mask', 'zero_input')


@HOSTS.register_module()
class TwoStreamYOLO(YOLOHost):
    """A backbone for each of M modalities, fusion of their maps at each level that the neck reads, then the neck, head
    and loss of the same YOLO detector: the Two-Stream YOLOv8 of the MWAM paper (arXiv:2602.22644, appendix A.12, which
    leaves the rest open).

    With one modality and ``fusion='Mean'`` it is ultralytics' own model. It needs ultralytics (AGPL-3.0, the extra
    ``yolo``).

    Args:
        modalities: Names of the inputs.
        num_classes: K.
        model: ``yolov8n`` to ``yolov8x``, YOLOv5, v9, 11, 12, 26 and their variants by their names, a YAML file, or its
            content, see `zoo.foreign_yolo.yolo_config`.
        in_chans: Channels of each modality's input; one number for all, or a mapping. 3 by default.
        fusion: A fusion block: name or config, or a list with one for each level.
        missing: ``'mask'``: the maps of an absent modality do not enter the fusion. ``'zero_input'``: the backbone sees
            an image of zeros instead, and fusion takes what it answers: published ways to drop a modality. On trained
            weights the second costs far more, so results say which; it is also how the branch of an absent modality
            gets a gradient. All rows are encoded then, whatever ``encode_on`` says.
        aux_heads: Give each modality a Detect layer on its own maps. They are trained with the same loss
            (``loss_aux_<modality>``), yield `unimodal`, and are not used at inference.
        pretrained: A file of weights that ultralytics trained for ``model``, for all backbones, neck and head; or one
            for each modality, the first of which goes into neck and head too. Layers of other classes are left out.
        loss: `zoo.losses.YOLOLoss` or one of its kind: name or config. By default it is a sum over the batch, as
            ultralytics has it: clip the gradients (``max_norm=10``).
        nms: Arguments of `zoo.boxes.detections`: ``confidence``, ``iou``, ``max_det``.
        pad_to: See `BoxHost`.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Raises:
        InputError: ultralytics is not installed, or arguments that do not cover the modalities.
        NameNotFound: An unknown model or part.
    """

    offers = frozenset({'features', 'unimodal'})
    offers_with: Mapping[str, str] = {'unimodal': 'aux_heads=True'}

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        model: str | Mapping[str, Any] = 'yolov8n',
        in_chans: int | Mapping[str, int] = 3,
        fusion: str | Mapping | Sequence[str | Mapping] = 'ConcatConv',
        missing: str = 'mask',
        aux_heads: bool = False,
        pretrained: str | Mapping[str, str] | None = None,
        loss: str | Mapping = 'YOLOLoss',
        nms: Mapping[str, float] | None = None,
        pad_to: int | None = None,
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            model,
            in_chans,
            loss,
            nms=nms,
            pad_to=pad_to,
            data_preprocessor=data_preprocessor,
            encode_on=encode_on,
        )
        if missing not in MISSING:
            raise unknown_name('way to represent an absent modality (missing)', missing, MISSING)
        self.missing = missing
        self.separable = missing == 'mask'  # else the maps of a subset hold answers to zeros
        self.backbones = nn.ModuleDict({m: YOLOBackbone(model, c) for m, c in self.in_chans.items()})
        first = self.backbones[self.modalities[0]]
        listed = isinstance(fusion, (list, tuple))
        if listed and len(fusion) != len(first.out_channels):
            raise InputError(f'fusion lists {len(fusion)} blocks, the backbone gives {len(first.out_channels)} maps.')
        blocks = fusion if listed else [fusion] * len(first.out_channels)
        self.fusions = nn.ModuleList(
            FUSIONS.build(block, modalities=self.modalities, channels=c, out_channels=c)
            for block, c in zip(blocks, first.out_channels)
        )
        set_norms(self.fusions)
        self.aux = nn.ModuleDict()
        self.aux_levels = [i for i, r in enumerate(first.reductions) if r in self.head.strides]
        if aux_heads:
            self.aux.update({m: self._build_aux(b) for m, b in self.backbones.items()})
        else:
            self.offers = self.offers - {'unimodal'}
        if pretrained:
            files = for_each(pretrained, self.modalities, 'pretrained')
            for m, backbone in self.backbones.items():
                load_backbone(backbone, weights_file(files[m]), self.in_chans[m])
            self.load_head(files[self.modalities[0]])
        self.to(memory_format=torch.channels_last)

    def _build_aux(self, backbone: YOLOBackbone) -> YOLOAuxiliaryHead:
        strides = self.head.strides
        if len(self.aux_levels) < len(strides):
            raise InputError(
                f'aux_heads need maps at the strides {strides} of the head, the backbone gives {backbone.reductions}.'
            )
        channels = [backbone.out_channels[i] for i in self.aux_levels]
        return YOLOAuxiliaryHead(self.num_classes, channels, strides, self.head.detect.reg_max)

    @property
    def settings(self) -> dict[str, Any]:
        """How an absent modality is represented, and what detections are made with."""
        return {'missing': self.missing, **super().settings}

    def encode(self, batch: Batch) -> dict[str, list[Tensor]]:
        """{modality: maps (B, C_i, H / r_i, W / r_i), finest first}."""
        batch = padded(self, batch)
        if self.missing == 'mask':
            return {m: self.encode_modality(backbone, batch, m) for m, backbone in self.backbones.items()}
        rows = Rows(None, batch.device, len(batch))
        images = {m: keep(batch.inputs[m], here) for m, here in zip(self.modalities, batch.mask.unbind(1))}
        return {m: rows.run(backbone, images[m]) for m, backbone in self.backbones.items()}

    def fuse(self, features: Features, mask: Tensor) -> list[Tensor]:
        """-> maps (B, C_i, H / r_i, W / r_i), finest first."""
        if self.missing == 'zero_input':
            mask = torch.ones_like(mask)
        return [fusion(features.level(i), mask) for i, fusion in enumerate(self.fusions)]

    def decode(self, fused: list[Tensor], features: Features) -> Outputs:
        """-> what all places say, see `BoxHost`."""
        return self.predict_places(fused, features)

    def unimodal(self, outputs: Outputs) -> dict[str, dict[str, Any]] | None:
        """Raw predictions of each modality's auxiliary head, zero where it is absent; None without these heads."""
        if not self.aux:
            return None
        features, found = outputs.features, {}
        for i, (m, head) in enumerate(self.aux.items()):
            maps = [features[m][level] for level in self.aux_levels]
            present = None if features.present is None else features.present[:, i]
            rows = Rows(present, maps[0].device, len(maps[0]))
            raw = rows.run(head, [rows.take(x) for x in maps])
            found[m] = {
                'boxes': rows.put(raw['boxes']),
                'scores': rows.put(raw['scores']),
                'feats': maps,
                'modality': m,
            }
        return found

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of this modality's backbone."""
        return encoder_parameters(self.backbones, modality)

    def compilable(self) -> list[nn.Module]:
        """Backbones, neck with head, and auxiliary heads."""
        return [*self.backbones.values(), self.head, *self.aux.values()]
