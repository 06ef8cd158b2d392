"""MAIL-Seg (Dhar et al., KDD 2026): the encoders of MAIL and a decoder."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from registry import HOSTS, InputError, unknown_name
from zoo.batch import Batch, Features, Outputs
from zoo.heads import build_map_head, used_levels

from .exchange_encoding import ExchangeEncoding
from .label_host import over
from .map_host import MapHost
from .sizes import padded

FUSE = ('sum', 'concat')


@HOSTS.register_module()
class MAILSeg(ExchangeEncoding, MapHost):
    """Labels every pixel: the encoders of `MAIL`, which exchange what they know after every stage, the sum of what the
    last exchange gives, and a decoder.

    With two modalities of three channels and one class the defaults have 12,471,459 parameters and 7.88 GFLOPs at
    224 x 224 (published: 12.58 M, 7.89 G). The paper does not describe the decoder; ours has the published cost.

    Args:
        modalities: Names of the inputs; their order makes partners in `EMSCA`.
        num_classes: K.
        encoder: See `MAIL`; encoders that can be taken stage by stage.
        in_chans: Channels of each modality's input; one number for all, or a mapping. 3 by default.
        fusion: See `MAIL`.
        fuse: How the refined maps become one: ``'sum'`` or ``'concat'``.
        per_modality: One decoder for each modality on its own refined maps; logits are averaged over the modalities
            that are present, and each decoder is trained on the samples that have its modality.
        head: The decoder: name or config, see `EncoderDecoder`. It may read the maps of all stages.
        loss: A loss of (logits, class indices): name or config; ``smp.NAME`` and ``mmseg.NAME`` too.
        preset: See `MAIL`.
        pad_to: See `MapHost`.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MAIL`.

    Raises:
        InputError: Arguments that do not cover the modalities, encoders that do not fit each other, a fusion block of
            another kind, or a decoder that leaves the coarsest map out.
        NameNotFound: An unknown part or preset.
    """

    separable = False
    offers = frozenset({'unimodal', 'sample_losses'})
    offers_with: Mapping[str, str] = {'unimodal': 'per_modality=True'}

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        encoder: str | Mapping = 'mail_rn18',
        in_chans: int | Mapping[str, int] = 3,
        fusion: str | Mapping | None = 'EMCAM',
        fuse: str = 'sum',
        per_modality: bool = False,
        head: str | Mapping = 'ERLADecoder',
        loss: str | Mapping = 'CrossEntropyLoss',
        preset: str | None = None,
        pad_to: int | None = 32,
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        super().__init__(modalities, num_classes, in_chans, loss, pad_to, data_preprocessor, encode_on)
        if fuse not in FUSE:
            raise unknown_name('way to fuse', fuse, FUSE)
        self.build_exchanges(encoder, fusion, True, preset)
        self.concat, self.per_modality = fuse == 'concat' and not per_modality, per_modality
        widths = [w * len(self.modalities) if self.concat else w for w in self.widths]
        self.build_head(None, head, widths, self.reductions)
        self.levels = used_levels(self.head, widths, self.reductions)
        if self.levels[-1] < len(widths) - 1:
            raise InputError(f'The decoder of MAILSeg must read the map of 1/{self.reductions[-1]}.')
        if per_modality:
            self.head = None
            self.heads = nn.ModuleDict(
                {m: build_map_head(head, widths, self.reductions, num_classes) for m in self.modalities}
            )
        else:
            self.offers = self.offers - {'unimodal'}
        self.to(memory_format=torch.channels_last)

    def run(self, batch: Batch) -> Outputs:
        """Encode and exchange stage by stage, then decode; logits (B, K, H, W)."""
        batch = self.own(batch)
        size = self._size(batch)
        every = [maps if i in self.levels else None for i, maps in enumerate(self.refined(padded(self, batch)))]
        features = Features.of({}, size)
        if not self.per_modality:
            logits, side = self.predict_maps([None if maps is None else self._fused(maps) for maps in every], size)
            return self.noted(Outputs(logits, features, {'side': side}))
        alone = {}
        for m, head in self.heads.items():
            alone[m], _ = self.predict_maps([None if maps is None else maps[m] for maps in every], size, head)
        here = batch.mask[..., None, None, None]
        logits = torch.stack(list(alone.values()), dim=1).where(here, 0).sum(1) / over(here.sum(1))
        return self.noted(Outputs(logits, features, {'alone': alone}))

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """See `MapHost`; of one decoder for each modality, ``loss_task`` is the mean of theirs."""
        losses = super().losses(outputs, batch)
        if self.per_modality:
            columns = batch.view(self.modalities).present.unbind(1)
            each = [self.unimodal_loss(z, batch, rows) for z, rows in zip(outputs.extras['alone'].values(), columns)]
            losses['loss_task'] = sum(each) / len(each)
        return losses

    def unimodal(self, outputs: Outputs) -> dict[str, Tensor] | None:
        """Logits (B, K, H, W) of each modality's decoder; None with one for all."""
        return outputs.extras.get('alone')

    def _fused(self, maps: Mapping[str, Tensor]) -> Tensor:
        return torch.cat(list(maps.values()), dim=1) if self.concat else sum(maps.values())
