"""The generic segmentation host: an encoder for each modality, fusion of their feature pyramids, any decoder."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from registry import FUSIONS, HOSTS, InputError
from zoo.batch import Batch, Features, Outputs
from zoo.heads import used_levels

from .label_host import build_encoders, encoder_parameters
from .map_host import MapHost, common_reductions
from .sizes import padded


@HOSTS.register_module()
class EncoderDecoder(MapHost):
    """Labels every pixel: one encoder for each modality, a fusion block for each level of their pyramids, a decoder.

    Encoders do not see each other: subsets of the modalities are re-fused from one encoding.

    Args:
        modalities: Names of the inputs.
        num_classes: K.
        encoder: A timm model's name, a registered pyramid's name, a config, or one of these for each modality. The
            maps of all modalities must have the same reductions.
        in_chans: Channels of each modality's input; one number for all, or a mapping. 3 by default.
        fusion: A fusion block: name or config, or a list with one for each level that the head uses.
        neck: What acts on the fused maps before the head: name or config; None for none.
        head: ``smp.NAME`` or ``mmseg.NAME`` (`zoo.heads.SmpHead`, `zoo.heads.MmsegHead`), a registered head's name, or
            a config of one of these.
        loss: A loss of (logits, class indices): name or config; ``smp.NAME`` and ``mmseg.NAME`` too.
        aux_heads: Add a light head (FCN-8s) on each modality's own maps. They are trained with the same loss
            (``loss_aux_<modality>``), yield `unimodal`, and are not used at inference.
        pad_to: See `MapHost`.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Raises:
        InputError: Arguments that do not cover the modalities, or pyramids that differ.
        NameNotFound: An unknown part.
    """

    offers = frozenset({'features', 'unimodal', 'sample_losses'})
    offers_with: Mapping[str, str] = {'unimodal': 'aux_heads=True'}

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        encoder: str | Mapping = 'resnet18',
        in_chans: int | Mapping[str, int] = 3,
        fusion: str | Mapping | Sequence[str | Mapping] = 'Sum',
        neck: str | Mapping | None = None,
        head: str | Mapping = 'smp.FPN',
        loss: str | Mapping = 'CrossEntropyLoss',
        aux_heads: bool = False,
        pad_to: int | None = None,
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        super().__init__(modalities, num_classes, in_chans, loss, pad_to, data_preprocessor, encode_on)
        self.encoders = build_encoders(encoder, self.in_chans, 'TimmPyramid')
        reductions = common_reductions(self.encoders)
        channels = [{m: e.out_channels[i] for m, e in self.encoders.items()} for i in range(len(reductions))]
        fusions = self._build_fusions(fusion, channels)
        widths = [f.out_channels for f in fusions]
        self.build_head(neck, head, widths, reductions)
        self.levels = used_levels(self.decoder, widths, reductions)
        if self.levels[-1] < len(reductions) - 1:
            raise InputError(
                f'The head does not use the map of 1/{reductions[-1]}: drop it, '
                f'encoder=dict(..., out_indices={tuple(range(self.levels[-1] + 1))}).'
            )
        self.fusions = nn.ModuleDict({str(i): fusions[i] for i in self.levels})
        self.reduction = reductions[-1]
        if aux_heads:
            self.build_aux({m: e.out_channels for m, e in self.encoders.items()})
        else:
            self.offers = self.offers - {'unimodal'}
        self.to(memory_format=torch.channels_last)

    def _build_fusions(self, fusion: Any, channels: Sequence[Mapping[str, int]]) -> list[nn.Module]:
        """One fusion block for each level, of modalities of these widths."""
        listed = isinstance(fusion, (list, tuple))
        if listed and len(fusion) != len(channels):
            raise InputError(f'fusion lists {len(fusion)} blocks, the encoders give {len(channels)} maps.')
        blocks = fusion if listed else [fusion] * len(channels)
        return [FUSIONS.build(b, modalities=self.modalities, channels=c) for b, c in zip(blocks, channels)]

    def encode(self, batch: Batch) -> dict[str, list[Tensor]]:
        """{modality: maps (B, C_i, H / r_i, W / r_i), finest first}."""
        batch = padded(self, batch)
        return {m: self.encode_modality(encoder, batch, m) for m, encoder in self.encoders.items()}

    def fuse(self, features: Features, mask: Tensor) -> list[Tensor | None]:
        """-> maps (B, C_i, H / r_i, W / r_i), finest first; None at a level that the head does not use."""
        maps: list[Tensor | None] = [None] * len(features[self.modalities[0]])
        for i in self.levels:
            maps[i] = self.fusions[str(i)](features.level(i), mask)
        return maps

    def decode(self, fused: list[Tensor | None], features: Features) -> Outputs:
        """-> logits (B, K, H, W)."""
        size = features.size or [s * self.reduction for s in fused[-1].shape[2:]]
        logits, side = self.predict_maps(fused, size)
        return Outputs(logits, features, {'fused': fused, 'side': side})

    def unimodal(self, outputs: Outputs) -> dict[str, Tensor] | None:
        """Logits (B, K, H, W) of each modality's auxiliary head; None without these."""
        return self.predict_alone(outputs.features, outputs.features.size)

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of this modality's encoder."""
        return encoder_parameters(self.encoders, modality)
