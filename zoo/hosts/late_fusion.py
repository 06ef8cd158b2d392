"""Late fusion: one encoder for each modality, one fusion block, one linear head."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from registry import FUSIONS, HEADS, HOSTS
from zoo.batch import Batch, Features, Outputs
from zoo.heads import LinearHead

from .label_host import LabelHost, build_encoders, encoder_parameters


@HOSTS.register_module()
class LateFusion(LabelHost):
    """Classifies from fused vectors: any encoder for each modality, any fusion block, a linear head.

    Args:
        modalities: Names of the inputs.
        num_classes: K.
        encoder: A timm model's name, a registered encoder's name, a config, or one of these for each modality.
        in_chans: Channels of each modality's input; one number for all, or a mapping. 3 by default.
        fusion: A fusion block: name or config.
        head: A head: name or config.
        loss: A loss of (logits, class indices): name or config.
        aux_heads: Add a light linear head on each modality's features. They are trained with the same loss
            (``loss_aux_<modality>``), yield `unimodal`, and are not used at inference.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Raises:
        InputError: Arguments that do not cover the modalities.
        NameNotFound: An unknown part.
    """

    task = 'classification'
    offers = frozenset({'features', 'unimodal', 'sample_losses'})
    offers_with: Mapping[str, str] = {
        'unimodal': 'aux_heads=True, or a fusion that adds (Sum, or Concat without out_channels)'
    }

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        encoder: str | Mapping = 'resnet18',
        in_chans: int | Mapping[str, int] = 3,
        fusion: str | Mapping = 'Concat',
        head: str | Mapping = 'LinearHead',
        loss: str | Mapping = 'CrossEntropyLoss',
        aux_heads: bool = False,
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        super().__init__(modalities, num_classes, in_chans, loss, data_preprocessor, encode_on)
        self.encoders = build_encoders(encoder, self.in_chans)
        channels = {m: e.out_channels for m, e in self.encoders.items()}
        self.fusion = FUSIONS.build(fusion, modalities=self.modalities, channels=channels)
        self.head = HEADS.build(head, in_channels=self.fusion.out_channels, num_classes=num_classes)
        if aux_heads:
            self.aux.update({m: LinearHead(c, num_classes) for m, c in channels.items()})
        elif not (self.fusion.additive and hasattr(self.head, 'share')):
            self.offers = self.offers - {'unimodal'}

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """{modality: (B, C_m)}."""
        return {m: self.encode_modality(encoder, batch, m) for m, encoder in self.encoders.items()}

    def fuse(self, features: Features, mask: Tensor) -> Tensor:
        """-> (B, C)."""
        return self.fusion(features, mask)

    def decode(self, fused: Tensor, features: Features) -> Outputs:
        """-> logits (B, K)."""
        return Outputs(self.head(fused), features, {'fused': fused})

    def unimodal(self, outputs: Outputs) -> dict[str, Tensor] | None:
        """Logits (B, K) of each modality: of its auxiliary head, else its share of the linear head, else None."""
        if self.aux:
            return {m: head(outputs.features[m]) for m, head in self.aux.items()}
        if 'unimodal' not in self.offers:
            return None
        parts = {m: self.fusion.contribution(m, outputs.features[m]) for m in self.modalities}
        return {m: self.head.share(x, columns, len(self.modalities)) for m, (x, columns) in parts.items()}

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of this modality's encoder."""
        return encoder_parameters(self.encoders, modality)
