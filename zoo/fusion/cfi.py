"""CFI: attention across modalities, and a gate between it and their sum."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import FUSIONS, InputError

from ..layers import CONVOLUTIONS, conv_norm_leaky
from ..precision import widened
from .attention_maps import present_columns
from .fusion import Fusion, Pointwise, keep

POOLS = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


@FUSIONS.register_module()
class CFI(Fusion):
    """The cross-modal feature integration of ISFuse (arXiv:2603.23272): where a learnt gate G in (0, 1) says so the
    result is what the modalities find in each other, elsewhere it is their sum.

    The queries of each modality look at keys and values of the others, each pooled to a small grid behind its
    projection, so that the cost is linear in the number of places. What all of them find is added up to Theta_c, the
    features themselves to Theta_l, and the result is ``refine(G * Theta_c + (1 - G) * Theta_l)``.

    Of two modalities, G of two layers, and the refining convolution are the authors' code; the paper has a gate of one
    layer and no refinement. It is ours that there can be any number of modalities and that some may be absent: a
    modality looks at all the others that are present, at once. In a sample with fewer than two, Theta_c and G are 0.
    A block of one modality has nothing but the refinement.

    Args:
        modalities: Names.
        channels: Width of the features; a pointwise layer without bias brings a modality of another width to
            ``out_channels``.
        out_channels: Width of the result, C; the largest of the features' by default.
        pool: Side of the grid of keys and values; small maps repeat their places.
        dims: 1 of sequences (B, C, T), 2 of maps, 3 of volumes. Vectors are taken for maps of one place.

    Raises:
        InputError: ``pool`` is below 1, or there are no such ``dims``.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        channels: int | Mapping[str, int],
        out_channels: int | None = None,
        pool: int = 8,
        dims: int = 2,
    ) -> None:
        super().__init__(modalities, channels, out_channels)
        if not isinstance(pool, int) or pool < 1 or dims not in (1, 2, 3):
            raise InputError(f'CFI takes pool of at least 1 and dims of 1, 2 or 3, got pool={pool!r}, dims={dims!r}.')
        width = self.out_channels
        self.pool, self.dims = pool, dims
        self.projections = nn.ModuleDict(
            {m: Pointwise(c, width, bias=False) for m, c in self.channels.items() if c != width}
        )
        pairs = self.modalities if len(self.modalities) > 1 else ()
        self.queries, self.keys, self.values = (
            nn.ModuleDict({m: Pointwise(width, width) for m in pairs}) for _ in range(3)
        )
        hidden = max(1, width // 2)
        self.gate = None
        if pairs:
            last = CONVOLUTIONS[dims - 1](hidden, 1, 1)
            self.gate = nn.Sequential(conv_norm_leaky(width, hidden, dims=dims), last)
        self.gates = nn.Identity()  # where they can be tapped
        self.refine = conv_norm_leaky(width, width, dims=dims)

    def forward_with_gate(self, features: Mapping[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse, and say where attention was believed.

        Args:
            features: Modality to (B, C_m) or (B, C_m, ...); what an absent sample holds has no influence.
            mask: (B, M) bool on the same device.

        Returns:
            fused: (B, out_channels, ...).
            gate: (B, 1, ...) in [0, 1], in single precision at least.

        Raises:
            InputError: Features of other dimensions than ``dims``, or of different sizes.
        """
        return self.merge_with_gate(
            {m: keep(features[m], here) for m, here in zip(self.modalities, mask.unbind(1))}, mask
        )

    def merge(self, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, out_channels, ...)."""
        return self.merge_with_gate(features, mask)[0]

    def merge_with_gate(self, features: Mapping[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """`forward_with_gate` of features that are already zero where absent."""
        x = {m: self.projections[m](features[m]) if m in self.projections else features[m] for m in self.modalities}
        shapes = {m: tuple(f.shape) for m, f in x.items()}
        first = next(iter(x.values()))
        if first.ndim not in (2, 2 + self.dims) or len(set(shapes.values())) > 1:
            raise InputError(
                f'CFI(dims={self.dims}) takes vectors (B, C) or features with {self.dims} more dimensions, of one size '
                f'in all modalities, got {", ".join(f"{m} {shape}" for m, shape in shapes.items())}.'
            )
        if first.ndim == 2:
            places = {m: f.view(*f.shape, *[1] * self.dims) for m, f in x.items()}
            fused, gate = self._merge(places, mask)
            return fused.flatten(1), gate.flatten(1)
        return self._merge(x, mask)

    def _merge(self, x: dict[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        first, *others = x.values()
        local = sum(others, first)
        if self.gate is None:
            return self.refine(local), local.new_zeros(len(local), 1, *local.shape[2:])
        columns = present_columns(mask)
        cross = self.attended(x, columns)
        gate = widened(self.gate(cross)).sigmoid()
        if columns[0] is not None:
            gate = keep(gate, mask.sum(1) > 1)
        gate = self.gates(gate)
        return self.refine(torch.lerp(local, cross.to(local.dtype), gate.to(local.dtype))), gate

    def attended(self, x: Mapping[str, Tensor], columns: Sequence[Tensor | None]) -> Tensor:
        """What each modality finds in the others, added up: Theta_c.

        Args:
            x: Modality to (B, C, ...), zero where absent.
            columns: For each modality, (B,) bool, whether a sample has it; None for each where all are present.

        Returns:
            (B, C, ...), 0 in samples with fewer than two modalities.
        """
        names, cells = list(x), self.pool**self.dims
        pooled = {m: [self._pooled(layer[m](f)) for layer in (self.keys, self.values)] for m, f in x.items()}
        total = None
        for m, here in zip(names, columns):
            others = [i for i, n in enumerate(names) if n != m]
            keys, values = (torch.cat([pooled[names[i]][part] for i in others], 2) for part in (0, 1))
            mask = found = None
            if here is not None:
                seen = torch.stack([columns[i] for i in others], 1)
                found = here & seen.any(1)
                # rows with nothing to find look anywhere, and are discarded below: no softmax of an empty row
                mask = (seen | ~found[:, None]).repeat_interleave(cells, 1)[:, None, None]
            queries = _tokens(self.queries[m](x[m]))
            term = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
            term = term if found is None else keep(term, found)
            total = term if total is None else total + term
        first = next(iter(x.values()))
        return total.squeeze(1).mT.reshape(first.shape)

    def _pooled(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, 1, cells, C)."""
        return _tokens(POOLS[self.dims - 1](x, self.pool))


def _tokens(x: Tensor) -> Tensor:
    """(B, C, ...) -> (B, 1, places, C), contiguous as fast attention kernels want it: no copy of channels-last maps."""
    x = x.flatten(2).mT.contiguous()
    return x.view(len(x), 1, *x.shape[1:])  # a new view: of one place the stride would be 1, which no GPU kernel takes
