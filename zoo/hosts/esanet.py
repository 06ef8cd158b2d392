"""ESANet (Seichter et al., ICRA 2021): RGB-D segmentation that fuses inside its encoders; and ESANet-MD."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from registry import FUSIONS, HOSTS, unknown_name
from zoo.batch import Batch, Features, Outputs
from zoo.heads import used_levels
from zoo.rows import untouched_statistics

from .label_host import build_encoders
from .map_host import MapHost, common_reductions
from .sizes import padded
from .streams import Streams, check_steps, stages


@HOSTS.register_module()
class ESANet(MapHost):
    """One encoder for each modality, fused after every stage; the first modality's encoder, the trunk, goes on from the
    fused map, the others from their own (arXiv:2011.06961).

    With the encoder ``ResNetNBt1D``, two modalities and the other defaults it is the published network. It is ours that
    there can be any number of modalities and that some may be absent: an absent one adds nothing to any fusion (the
    modality access control of ESANet-MD), and an encoder only sees the rows that have its modality. The trunk's own
    maps of a row without the first modality would be discarded at every stage, so it skips this row.

    ``encode_on='all'`` is how ESANet-MD was trained: rows whose modality was dropped run through the encoder with what
    they hold, count in its batch statistics, and are left out of the fusions. Without training they change nothing, and
    are not encoded.

    Args:
        modalities: Names of the inputs; the first is the trunk.
        num_classes: K.
        encoder: A registered pyramid with ``steps``, the name of a timm model that is a chain of stages (``resnet50``,
            ``convnext_tiny``, ...), a config, or one of these for each modality.
        in_chans: Channels of each modality's input; one number for all, or a mapping. 3 by default.
        fusion: A fusion block: name or config. `SEAdd` in the paper.
        neck: The context module: name or config, or None.
        head: The decoder: name or config, see `EncoderDecoder`.
        loss: A loss of (logits, class indices): name or config. It is added up over the side outputs of 1/8, 1/16 and
            1/32 (``loss_side_<n>``), whose labels are the nearest pixels.
        aux_heads: Add a light head (FCN-8s) on each modality's own maps. Those of the trunk are computed a second time
            without fusion, and leave no trace in running statistics. The published network has none of this: it serves
            plugins that need unimodal predictions.
        pad_to: See `MapHost`.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Raises:
        InputError: Encoders that can not be taken stage by stage, or whose maps differ in size.
        NameNotFound: An unknown part.
    """

    separable = False
    offers = frozenset({'unimodal', 'sample_losses'})
    offers_with: Mapping[str, str] = {'unimodal': 'aux_heads=True'}

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        encoder: str | Mapping = 'ResNetNBt1D',
        in_chans: int | Mapping[str, int] = 3,
        fusion: str | Mapping = 'SEAdd',
        neck: str | Mapping | None = 'PyramidContext',
        head: str | Mapping = 'ESANetDecoder',
        loss: str | Mapping = 'CrossEntropyLoss',
        aux_heads: bool = False,
        pad_to: int | None = None,
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        super().__init__(modalities, num_classes, in_chans, loss, pad_to, data_preprocessor, encode_on)
        self.encoders = build_encoders(encoder, self.in_chans, 'TimmPyramid')
        self.trunk = self.modalities[0]
        reductions = common_reductions(self.encoders)
        check_steps(self, 'EncoderDecoder takes any pyramid.')
        widths = self.encoders[self.trunk].out_channels
        self.fusions = nn.ModuleList(
            FUSIONS.build(
                fusion,
                modalities=self.modalities,
                channels={m: e.out_channels[i] for m, e in self.encoders.items()},
                out_channels=width,
            )
            for i, width in enumerate(widths)
        )
        self.build_head(neck, head, widths, reductions)
        self.levels = used_levels(self.decoder, widths, reductions)
        if aux_heads:
            self.build_aux({m: e.out_channels for m, e in self.encoders.items()})
        else:
            self.offers = self.offers - {'unimodal'}
        self.to(memory_format=torch.channels_last)

    def run(self, batch: Batch) -> Outputs:
        """Encode and fuse stage by stage, then decode; logits (B, K, H, W)."""
        batch = self.own(batch)
        size = self._size(batch)
        maps, own = self.encode_fused(padded(self, batch))
        logits, side = self.predict_maps(maps, size)
        return self.noted(Outputs(logits, Features.of({}, size), {'side': side, **own}))

    def encode_fused(self, batch: Batch) -> tuple[list[Tensor | None], dict]:
        """The fused maps, finest first, None at a level that the decoder does not use; and what auxiliary heads need:
        ``own``, modality to its maps, of the trunk only the stem's, and ``rows``."""
        streams = Streams(self, batch)
        maps, own = [], {m: [] for m in self.modalities}
        for i, fusion in enumerate(self.fusions):
            whole = streams.advance(i)
            if self.aux and not streams.idle:
                for m, x in whole.items():
                    own[m] += [x] if m != self.trunk or i == 0 else []
            fused = fusion.merge(whole, batch.mask) if streams.zeroed else fusion(whole, batch.mask)
            streams.go_on(self.trunk, fused)
            maps.append(fused if i in self.levels else None)
            del whole, fused  # the next stage runs without what nobody needs any more
        return maps, {'own': own, 'rows': streams.rows} if self.aux and not streams.idle else {}

    def unimodal(self, outputs: Outputs) -> dict[str, Tensor] | None:
        """Logits (B, K, H, W) of each modality's auxiliary head; None without these."""
        if not self.aux or 'own' not in outputs.extras:
            return None
        own, rows = outputs.extras['own'], outputs.extras['rows'][self.trunk]
        maps = own[self.trunk]
        if len(maps) == 1:  # the trunk has gone on from fused maps
            encoder = self.encoders[self.trunk]
            state, alone = rows.take(maps[0]), list(maps)
            with untouched_statistics(encoder):
                for step in encoder.steps[1:]:
                    state = rows.run(step, state)
                    alone.append(rows.put(state))
            maps = alone
            if torch.is_grad_enabled():
                own[self.trunk] = maps  # for the next who asks
        return self.predict_alone({**own, self.trunk: maps}, outputs.features.size)

    def compilable(self) -> Iterator[nn.Module]:
        """The stages of the encoders."""
        return stages(self.encoders.values())

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of this modality's encoder, and what its fusions keep for it (`SEAdd`: its excitation)."""
        if modality not in self.encoders:
            raise unknown_name('modality', modality, self.modalities)
        yield from self.encoders[modality].parameters()
        for fusion in self.fusions:
            yield from fusion.branch(modality)


@HOSTS.register_module()
class ESANetMD(ESANet):
    """ESANet trained with missing modalities, as in the segmentation part of MMANet (Wei et al., CVPR 2023): the same
    network under a name of its own. Its configs drop modalities at random with the plugin `ModalityDropout`; the
    published runs encode dropped rows too, ``encode_on='all'``."""
