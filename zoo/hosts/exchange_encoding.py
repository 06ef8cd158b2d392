"""Encoders that exchange what they know after each stage, and all go on: what MAIL and MAIL-Seg share."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from registry import ENCODERS, FUSIONS, InputError, unknown_name
from zoo.batch import Batch
from zoo.fusion import Exchange
from zoo.fusion.fusion import keep

from .label_host import build_encoders, encoder_parameters
from .map_host import common_reductions
from .streams import Streams, stages

TAPS = (1, 2, 3, 4)
ENCODER_SIZES = {
    'mail_rn18': {'type': 'ERLAEncoder'},
    'mail_rn50': {'type': 'ERLAEncoder', 'depths': (3, 4, 6, 3)},
    'mail_m2': {'type': 'ERLAPyramid', 'model': 'mobilenetv2_100', 'out_indices': TAPS},
    'mail_m3': {'type': 'ERLAPyramid', 'model': 'mobilenetv3_large_100', 'out_indices': TAPS},
}
# what the paper prints and what its authors' code does, where they differ from each other and from the defaults
READINGS = {
    'paper': {
        'encoder': {'block': {'form': 'paper'}},
        'fusion': {'gate': False, 'dct': 'spatial'},
    },
    'official': {
        'encoder': {'block': {'descriptor': 'official', 'bias': True}, 'mc_dropout': True},
        'fusion': {'share_weights': True, 'fuse_groups': 1, 'pool': 'global', 'bias': True},
    },
}


class ExchangeEncoding:
    """Part of a host: one encoder for each modality, and behind every stage a block that refines each modality's map
    by the others' (`zoo.fusion.Exchange`). Each encoder goes on from its refined map.
    """

    def build_exchanges(
        self, encoder: str | Mapping, fusion: str | Mapping | None, feedback: bool | None, preset: str | None
    ) -> None:
        """Build encoders and blocks.

        Args:
            encoder: A name of ``ENCODER_SIZES``, or what `build_encoders` takes.
            fusion: An `Exchange`: name or config; None for none.
            feedback: Whether encoders go on from refined maps; None: where all of them can be taken stage by stage.
            preset: A name of ``READINGS``, whose arguments those given overwrite; None.

        Raises:
            InputError: Encoders whose maps differ, or that can not go on from refined maps and should; a fusion block
                of another kind.
            NameNotFound: An unknown part.
        """
        if preset is not None and preset not in READINGS:
            raise unknown_name('preset', preset, READINGS)
        reading: Mapping[str, Any] = READINGS.get(preset, {})
        self.encoders = build_encoders(_encoder(encoder, reading.get('encoder', {})), self.in_chans, 'TimmPyramid')
        self.reductions = common_reductions(self.encoders)
        widths = {m: list(e.out_channels) for m, e in self.encoders.items()}
        self.widths = next(iter(widths.values()))
        if fusion is not None and any(w != self.widths for w in widths.values()):
            raise InputError(f'{type(self).__name__} needs encoders whose maps have the same widths, got {widths}.')
        can = all(getattr(e, 'steps', None) is not None for e in self.encoders.values())
        if feedback and not can:
            raise InputError(
                f'feedback=True needs encoders that can be taken stage by stage (steps), got '
                f'{", ".join(type(e).__name__ for e in self.encoders.values())}.'
            )
        self.feedback = can if feedback is None else feedback
        self.exchanges = nn.ModuleList() if fusion is None else nn.ModuleList(self._exchanges(fusion, reading))
        if preset == 'official':  # the constants of the authors' framework
            for norm in (m for m in self.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.momentum, norm.eps = 0.01, 1e-3

    def _exchanges(self, fusion: str | Mapping, reading: Mapping[str, Any]) -> Iterator[nn.Module]:
        cfg = {'type': fusion} if isinstance(fusion, str) else dict(fusion)
        kind = FUSIONS.find(cfg.get('type', ''))
        if not issubclass(kind, Exchange):
            able = sorted(n for n, c in FUSIONS.module_dict.items() if issubclass(c, Exchange))
            raise InputError(
                f'{type(self).__name__} goes on with every modality: its fusion must give each its own features back, '
                f'as {", ".join(able)} do, got {kind.__name__}.'
            )
        if kind.__name__ == 'EMCAM':
            cfg = {**reading.get('fusion', {}), **cfg}
        return (FUSIONS.build(cfg, modalities=self.modalities, channels=c) for c in self.widths)

    def refined(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """Behind each stage the refined maps {m: (B, C_i, H / r_i, W / r_i)}, zero where absent."""
        return self._fed_back(batch) if self.feedback else self._side_by_side(batch)

    def _fed_back(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        streams = Streams(self, batch)
        drops = self.encode_on == 'all' and self.training
        for i in range(len(self.widths)):
            maps = streams.advance(i)
            refined = self._exchange(i, maps, batch, streams.zeroed)
            for (m, x), here in zip(refined.items(), batch.mask.unbind(1)):
                # what was dropped at the exchange only goes on as it is
                streams.go_on(m, x.where(here[:, None, None, None], maps[m]) if drops else x)
            del maps
            yield refined

    def _side_by_side(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        maps = {m: self.encode_modality(encoder, batch, m) for m, encoder in self.encoders.items()}
        for i in range(len(self.widths)):
            yield self._exchange(i, {m: maps[m][i] for m in self.modalities}, batch, self.encode_on != 'all')

    def _exchange(self, stage: int, maps: Mapping[str, Tensor], batch: Batch, zeroed: bool) -> dict[str, Tensor]:
        """Refine the maps of a stage, which may be zero where absent already."""
        if self.exchanges:
            block = self.exchanges[stage]
            return block.refine(maps, batch.mask) if zeroed else block.forward_each(maps, batch.mask)
        columns = zip(self.modalities, batch.mask.unbind(1))
        return {m: maps[m] if zeroed else keep(maps[m], here) for m, here in columns}

    def compilable(self) -> Iterator[nn.Module]:
        """The stages of the encoders, or these as a whole."""
        return stages(self.encoders.values()) if self.feedback else iter(self.encoders.values())

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of this modality's encoder: what exchanges is everybody's."""
        return encoder_parameters(self.encoders, modality)


def _encoder(encoder: str | Mapping, reading: Mapping[str, Any]) -> str | Mapping:
    """A description of an encoder, or one for each modality, with the arguments of a reading where it is of `ERLA`
    blocks."""
    if isinstance(encoder, Mapping) and not encoder.keys() & {'type', 'model'}:
        return {m: _encoder(e, reading) for m, e in encoder.items()}
    if isinstance(encoder, str):
        known = encoder in ENCODERS.module_dict
        encoder = ENCODER_SIZES.get(encoder, {'type': encoder} if known else {'model': encoder})
    kind = encoder.get('type')
    if kind == 'ERLAPyramid':  # has no dropout
        reading = {k: v for k, v in reading.items() if k == 'block'}
    return {**reading, **encoder} if kind in ('ERLAEncoder', 'ERLAPyramid') else encoder
