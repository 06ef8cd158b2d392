"""EMCAM: attention from frequencies and places, side by side."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from registry import FUSIONS, InputError, unknown_name

from ..blocks import Site
from .attention_maps import enlarged
from .emsca import EMSCA
from .exchange import Exchange
from .mfifa import MFIFA

MODES = ('parallel', 'cascade')


@FUSIONS.register_module()
class EMCAM(Exchange):
    """Efficient multimodal cross-attention module of MAIL (Dhar et al., KDD 2026, Eq. 5 and 13): the maps of `MFIFA`
    and `EMSCA`, each weighted by a learnt number, are added up; a sigmoid makes the one map by which every modality is
    multiplied, and each of its channels is then scaled by a learnt number of its own.

    With the defaults it has the published size. In an absent modality's rows its terms leave both sums, its partner
    pairs with itself, and its result is zero.

    Args:
        modalities: Names; their order makes partners, see `EMSCA`.
        channels: Width of the features.
        out_channels: See `Exchange`.
        reduce: See `Exchange`.
        mode: ``'parallel'``, or ``'cascade'``: features are multiplied by the map of `MFIFA`, and the result by the map
            that `EMSCA` makes of it.
        use_mfifa: Have the map from frequencies.
        use_emsca: Have the map from places.
        share_weights: One linear layer and one `MSGDC` for all modalities.
        dct: See `MFIFA`.
        invert: See `MFIFA`.
        gate: See `MFIFA`.
        pool: See `EMSCA`.
        pairing: See `EMSCA`.
        spatial_sigmoid: See `EMSCA`.
        groups: See `MSGDC`.
        fuse_groups: See `MSGDC`.
        bias: See `MSGDC`.
        rescale: Multiply sums over the modalities that are present by M over their number.

    Raises:
        InputError: Neither map, or a cascade of one.
        NameNotFound: An unknown mode, transform, pool, pairing or way to reduce.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int | Mapping[str, int],
        out_channels: int | None = None,
        reduce: str = 'sum',
        mode: str = 'parallel',
        use_mfifa: bool = True,
        use_emsca: bool = True,
        share_weights: bool = False,
        dct: str = 'channel',
        invert: bool = False,
        gate: bool = True,
        pool: str = 'local',
        pairing: str = 'mirror',
        spatial_sigmoid: bool = True,
        groups: int = 16,
        fuse_groups: int = 2,
        bias: bool = False,
        rescale: bool = False,
    ) -> None:
        super().__init__(modalities, channels, out_channels, reduce)
        if mode not in MODES:
            raise unknown_name('mode of EMCAM', mode, MODES)
        self.cascade = mode == 'cascade'
        if use_mfifa + use_emsca < 1 + self.cascade:
            raise InputError(
                f'EMCAM needs use_mfifa or use_emsca, a cascade both; got mode={mode!r}, use_mfifa={use_mfifa}, '
                f'use_emsca={use_emsca}.'
            )
        common = {'share_weights': share_weights, 'rescale': rescale}
        self.mfifa = self.emsca = None
        if use_mfifa:
            self.mfifa = MFIFA(self.modalities, self.width, dct=dct, invert=invert, gate=gate, **common)
        if use_emsca:
            self.emsca = EMSCA(
                self.modalities,
                self.width,
                pool=pool,
                pairing=pairing,
                spatial_sigmoid=spatial_sigmoid,
                groups=groups,
                fuse_groups=fuse_groups,
                bias=bias,
                **common,
            )
        if not self.cascade:
            # what each map counts; one alone keeps its number, as the published ablation has it
            self.weights = nn.ParameterDict(
                {k: nn.Parameter(torch.ones(())) for k, on in (('mfifa', use_mfifa), ('emsca', use_emsca)) if on}
            )
            self.site = Site(self.width)
        self.scales = nn.ParameterDict({m: nn.Parameter(torch.ones(self.width)) for m in self.modalities})

    def exchange(self, features: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """{m: (B, C, H, W)} -> {m: (B, C, H, W)}."""
        if self.cascade:
            features = self.emsca.exchange(self.mfifa.exchange(features, mask), mask)
        else:
            attention = self.attention(features, mask)
            features = {m: enlarged(torch.mul, x, attention.to(x.dtype)) for m, x in features.items()}
        return {m: x * self.scales[m].to(x.dtype)[:, None, None] for m, x in features.items()}

    def attention(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """The map (B, C, H, W), in (0, 1) and in single precision, of features that are zero where absent; without
        `MFIFA` of the pooled size."""
        if self.emsca is not None:
            total = self.weights['emsca'] * self.emsca.attention(features, mask)
        if self.mfifa is not None:
            frequencies = self.weights['mfifa'] * self.mfifa.attention(features, mask)
            total = frequencies if self.emsca is None else enlarged(torch.add, frequencies, total)
        return self.site(total).sigmoid()
