"""Late fusion: one encoder for each modality, one fusion block, one linear head."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from registry import ENCODERS, FUSIONS, HEADS, HOSTS, LOSSES, InputError, unknown_name
from zoo.heads import LinearHead
from zoo.host import Batch, Features, MultimodalHost, Outputs


@HOSTS.register_module()
class LateFusion(MultimodalHost):
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
        super().__init__(modalities, data_preprocessor, encode_on)
        self.in_chans = _each(in_chans, self.modalities, 'in_chans')
        per_modality = isinstance(encoder, Mapping) and 'type' not in encoder and 'model' not in encoder
        encoders = _each(
            encoder if per_modality else dict.fromkeys(self.modalities, encoder), self.modalities, 'encoder'
        )
        self.encoders = nn.ModuleDict({m: build_encoder(encoders[m], self.in_chans[m]) for m in self.modalities})
        channels = {m: e.out_channels for m, e in self.encoders.items()}
        self.fusion = FUSIONS.build(fusion, modalities=self.modalities, channels=channels)
        self.head = HEADS.build(head, in_channels=self.fusion.out_channels, num_classes=num_classes)
        self.criterion = LOSSES.build(loss)
        self.num_classes = num_classes
        self.aux = nn.ModuleDict({m: LinearHead(c, num_classes) for m, c in channels.items()} if aux_heads else {})
        if not aux_heads and not (self.fusion.additive and hasattr(self.head, 'share')):
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

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """``loss_task``, and ``loss_aux_<modality>`` over the samples that have it, where there are auxiliary heads."""
        losses = {'loss_task': self.criterion(outputs.prediction, batch.target)}
        if self.aux:
            batch = batch.view(self.modalities)
            for (m, z), rows in zip(self.unimodal(outputs).items(), batch.mask.unbind(1)):
                losses[f'loss_aux_{m}'] = self.unimodal_loss(z, batch, rows)
        return losses

    def unimodal(self, outputs: Outputs) -> dict[str, Tensor] | None:
        """Logits (B, K) of each modality: of its auxiliary head, else its share of the linear head, else None."""
        if self.aux:
            return {m: head(outputs.features[m]) for m, head in self.aux.items()}
        if 'unimodal' not in self.offers:
            return None
        parts = {m: self.fusion.contribution(m, outputs.features[m]) for m in self.modalities}
        return {m: self.head.share(x, columns, len(self.modalities)) for m, (x, columns) in parts.items()}

    def unimodal_loss(self, prediction: Tensor, batch: Batch, rows: Tensor) -> Tensor:
        """Mean over ``rows`` (B,) of the loss of logits (B, K)."""
        losses = self._each_loss(prediction, batch)
        return losses.masked_fill(~rows, 0).sum() / rows.sum().clamp(min=1)

    def sample_losses(self, outputs: Outputs, batch: Batch) -> Tensor:
        """(B,)."""
        return self._each_loss(outputs.prediction, batch)

    def true_class_probability(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Softmax of the true class, (B,)."""
        valid = batch.target >= 0  # -100 is what losses ignore
        probability = prediction.float().softmax(dim=1).gather(1, batch.target.clamp(min=0)[:, None]).squeeze(1)
        return probability.masked_fill(~valid, 0)

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of this modality's encoder."""
        if modality not in self.encoders:
            raise unknown_name('modality', modality, self.modalities)
        return self.encoders[modality].parameters()

    def training_only(self) -> Iterator[nn.Parameter]:
        """The auxiliary heads."""
        return self.aux.parameters()

    def blank(self, modality: str, batch: Batch) -> Tensor:
        """Zeros of the size of the others, without memory of their own."""
        other = next(iter(batch.inputs.values()))
        return other.new_zeros(()).expand(len(batch), self.in_chans[modality], *other.shape[2:])

    def _each_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        reduction, self.criterion.reduction = self.criterion.reduction, 'none'
        try:
            losses = self.criterion(logits, batch.target)
        finally:
            self.criterion.reduction = reduction
        return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def build_encoder(encoder: str | Mapping, in_chans: int) -> nn.Module:
    """An encoder from a config, a registered name, or the name of a timm model."""
    if isinstance(encoder, str):
        encoder = {'type': encoder} if encoder in ENCODERS.module_dict else {'model': encoder}
    return ENCODERS.build({'type': 'TimmEncoder', **encoder}, default_args={'in_chans': in_chans})


def _each(value: Any, modalities: Sequence[str], name: str) -> dict[str, Any]:
    """One value for each modality."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(modalities, value)
    for m in value:
        if m not in modalities:
            raise unknown_name(f'modality (in {name})', m, modalities)
    if missing := [m for m in modalities if m not in value]:
        raise InputError(f'{name} names no value for {", ".join(missing)}; it has {dict(value)}.')
    return dict(value)
