"""Attention from places: the other half of EMCAM."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import FUSIONS, unknown_name

from ..blocks import MSGDC, Site
from ..precision import widened
from ..rows import Rows
from .attention_maps import accumulate, enlarged, present_columns, present_rows, rescaled
from .exchange import Exchange

POOLS = ('local', 'global', 'same')
PAIRINGS = ('mirror', 'ring', 'mean')


@FUSIONS.register_module()
class EMSCA(Exchange):
    """Efficient multimodal spatial-domain cross attention of MAIL (Dhar et al., KDD 2026, Eq. 10 to 12): each modality
    is multiplied by one map of all of them.

    S, convolutions of several sizes (`MSGDC`) whose result is pooled by mean and by maximum, is applied to a modality
    and again to what comes out. Each modality adds S of itself, S of its partner, and S of S of itself, weighted by
    channel; a sigmoid makes the map. All of this happens at the pooled size: to enlarge to the nearest and to take a
    sigmoid commute.

    Args:
        modalities: Names; their order makes partners.
        channels: Width of the features.
        out_channels: See `Exchange`.
        reduce: See `Exchange`.
        pool: ``'local'``, halves both sides; ``'same'``, keeps them; or ``'global'``, as the authors' code: the map
            then is one weight for each channel.
        pairing: Whose S a modality adds: ``'mirror'``, the first and the last are partners, and so on, a middle one is
            its own; ``'ring'``, that of the next; ``'mean'``, the mean over the others. One without a partner that is
            present pairs with itself.
        spatial_sigmoid: False leaves the last sigmoid out, as Eq. 12 does.
        share_weights: One `MSGDC` for all modalities.
        groups: See `MSGDC`.
        fuse_groups: See `MSGDC`.
        bias: See `MSGDC`.
        rescale: Multiply the sum over the modalities that are present by M over their number.

    Raises:
        NameNotFound: An unknown pool, pairing or way to reduce.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int | Mapping[str, int],
        out_channels: int | None = None,
        reduce: str = 'sum',
        pool: str = 'local',
        pairing: str = 'mirror',
        spatial_sigmoid: bool = True,
        share_weights: bool = False,
        groups: int = 16,
        fuse_groups: int = 2,
        bias: bool = False,
        rescale: bool = False,
    ) -> None:
        super().__init__(modalities, channels, out_channels, reduce)
        if pool not in POOLS:
            raise unknown_name('pool', pool, POOLS)
        if pairing not in PAIRINGS:
            raise unknown_name('pairing', pairing, PAIRINGS)
        self.pool, self.pairing = pool, pairing
        self.spatial_sigmoid, self.rescale = spatial_sigmoid, rescale

        def scales() -> MSGDC:
            return MSGDC(self.width, groups=groups, fuse_groups=fuse_groups, shuffle=False, bias=bias)

        shared = scales() if share_weights else None
        self.scales = nn.ModuleDict({m: shared or scales() for m in self.modalities})
        self.modulation = nn.ParameterDict({m: nn.Parameter(torch.ones(self.width)) for m in self.modalities})
        self.sites = nn.ModuleDict({m: Site(self.width) for m in self.modalities})

    def exchange(self, features: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """{m: (B, C, H, W)} -> {m: (B, C, H, W)}."""
        attention = self.attention(features, mask)
        return {m: enlarged(torch.mul, x, attention.to(x.dtype)) for m, x in features.items()}

    def attention(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """The map (B, C, h, w), of the pooled size and in single precision, of features that are zero where absent."""
        columns, rows = present_columns(mask), present_rows(mask)
        # only the rows that are there, so that no others count in norms that a plugin may have put into an `MSGDC`
        taken = [self._compress(m, own.take(x), own) for (m, x), own in zip(features.items(), rows)]
        base = [own.put(x) for x, own in zip(taken, rows)]
        total = None
        for i, (m, partner, here) in enumerate(zip(features, self._partners(base, columns), columns)):
            again = rows[i].put(self._compress(m, taken[i], rows[i]))
            term = widened(enlarged(torch.add, base[i] + partner, again))
            total = accumulate(total, self.sites[m](widened(self.modulation[m])[:, None, None] * term), here)
        if self.rescale:
            total = rescaled(total, mask)
        return total.sigmoid() if self.spatial_sigmoid else total

    def _compress(self, modality: str, x: Tensor, rows: Rows) -> Tensor:
        """S: (b, C, H, W) -> (b, C, h, w)."""
        x = rows.run(self.scales[modality], x)
        if self.pool == 'global':
            return x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True)
        if self.pool == 'same':
            return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) + F.max_pool2d(x, 3, 1, 1)
        return F.avg_pool2d(x, 2, ceil_mode=True) + F.max_pool2d(x, 2, ceil_mode=True)

    def _partners(self, base: list[Tensor], columns: list[Tensor | None]) -> list[Tensor]:
        """What each modality adds of the others: b_j of its partner, or its own where that is absent."""
        count = len(base)
        if self.pairing == 'mean' and count > 1:
            return self._means(base, columns)
        ring = self.pairing == 'ring'
        partners = [(i + 1) % count if ring else count - 1 - i for i in range(count)]
        return [base[j] if columns[j] is None else _choose(columns[j], base[j], b) for b, j in zip(base, partners)]

    def _means(self, base: list[Tensor], columns: list[Tensor | None]) -> list[Tensor]:
        if columns[0] is None:
            total = sum(base[1:], base[0])
            return [(total - b) / (len(base) - 1) for b in base]
        kept = [_choose(here, b, torch.zeros_like(b)) for b, here in zip(base, columns)]
        total = sum(kept[1:], kept[0])
        count = torch.stack(columns).sum(0)
        means = []
        for b, own, here in zip(base, kept, columns):
            others = count - here.long()
            mean = (total - own) / others.clamp(min=1).view(-1, 1, 1, 1)
            means.append(_choose(others > 0, mean, b))
        return means


def _choose(rows: Tensor, x: Tensor, other: Tensor) -> Tensor:
    return x.where(rows.view(-1, 1, 1, 1), other)
