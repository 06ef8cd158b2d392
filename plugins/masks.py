"""Random masks of images, volumes and sequences, made on the device without a loop over samples, blocks or places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from registry import InputError, unknown_name

OVERLAPS = ('priority', 'pixel')
Size = tuple[int, ...]


def complementary_masks(
    batch_size: int,
    modalities: int,
    size: Sequence[int],
    block: int = 16,
    count: tuple[int, int] = (1, 6),
    generator: torch.Generator | None = None,
    *,
    ratio: float = 0.5,
    overlap: str = 'priority',
    disks: float = 0.0,
    present: Tensor | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Masks of blocks of which no place is hidden in two modalities.

    >>> masks = complementary_masks(4, 3, (64, 96), generator=torch.Generator().manual_seed(0))
    >>> masks.shape, bool(((~masks).sum(1) <= 1).all())
    (torch.Size([4, 3, 64, 96]), True)

    Args:
        batch_size: B.
        modalities: M, at least 2.
        size: (H, W), (D, H, W) or (L,).
        block: Side of a block; along an axis shorter than two of them half the axis.
        count: The fewest and the most blocks of a modality, drawn alike. Blocks lie anywhere and may overlap.
        generator: Of all draws; its device is that of the masks.
        ratio: The largest share that may be hidden of one modality, in [0, 1]; it bounds ``count``.
        overlap: Whose is a place that the blocks of several modalities hit: ``'priority'``, that of the modality which
            comes first in a random order of each sample; ``'pixel'``, drawn for each place.
        disks: Probability, in [0, 1], that a block is a disk of its diameter instead.
        present: (B, M) bool: blocks of an absent modality take no place from the others.
        device: Where to make them, where there is no generator.

    Returns:
        (B, M, *size) bool, True where a place is kept.

    Raises:
        InputError: Fewer than two modalities, a ``present`` of another form, or a value out of range.
        NameNotFound: Another ``overlap``.
    """
    if not isinstance(modalities, int) or modalities < 2:
        raise InputError(f'Complementary masks need a number of at least 2 modalities, got {modalities!r}.')
    if present is not None and (present.dtype != torch.bool or present.shape != (batch_size, modalities)):
        raise InputError(
            f'present must be bool of shape (B, M) = ({batch_size}, {modalities}), '
            f'got {present.dtype} of shape {tuple(present.shape)}.'
        )
    blocks = Blocks.draw(batch_size, modalities, size, block, count, ratio, disks, generator, device)
    order = _order(batch_size, modalities, generator, blocks.device)
    return ~exclusive(blocks.hits(size), order, overlap, present, generator)


def random_masks(
    batch_size: int,
    size: Sequence[int],
    block: int = 16,
    count: tuple[int, int] = (1, 6),
    generator: torch.Generator | None = None,
    *,
    ratio: float = 0.5,
    disks: float = 0.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Masks of blocks that hide the same places of all modalities: (B, 1, *size) bool, True where a place is kept.

    The arguments are those of `complementary_masks`.
    """
    return ~Blocks.draw(batch_size, 1, size, block, count, ratio, disks, generator, device).hits(size)


@dataclass(frozen=True)
class Blocks:
    """Blocks of each sample and modality, on a grid of a size of reference.

    Attributes:
        size: Of reference.
        extent: Of each block, along each axis.
        corners: (B, M, K) for each axis: where blocks begin.
        used: (B, M, K) bool: how many there are.
        round: (B, M, K) bool: which are disks; None where none can be.
    """

    size: Size
    extent: Size
    corners: tuple[Tensor, ...]
    used: Tensor
    round: Tensor | None = None

    @classmethod
    def draw(
        cls,
        batch_size: int,
        modalities: int,
        size: Sequence[int],
        block: int,
        count: tuple[int, int],
        ratio: float,
        disks: float,
        generator: torch.Generator | None,
        device: torch.device | str | None,
        step: Sequence[int] | None = None,
    ) -> 'Blocks':
        """See `complementary_masks`; ``step``, along each axis, is what corners and extents are multiples of."""
        check_blocks(block, count, ratio, disks)
        device = generator.device if generator is not None else torch.device(device or 'cpu')
        if not isinstance(batch_size, int) or batch_size < 0:
            raise InputError(f'batch_size must be an integer of at least 0, got {batch_size!r}.')
        if not isinstance(size, Sequence) or not size or not all(isinstance(s, int) and s >= 1 for s in size):
            raise InputError(f'size must hold integers of at least 1, as (64, 96) does, got {size!r}.')
        size = tuple(size)
        step = tuple(step or (1,) * len(size))
        extent = tuple(max(q, min(block, max(1, s // 2)) // q * q) for s, q in zip(size, step))
        whole, one = 1, 1
        for s, b in zip(size, extent):
            whole, one = whole * s, one * b
        most = min(count[1], int(ratio * whole / one + 1e-9))
        least = min(count[0], most)
        shape = (batch_size, modalities, most)

        def integers(low: int, high: int, shape: tuple[int, ...]) -> Tensor:
            return torch.randint(low, high + 1, shape, generator=generator, device=device)

        number = integers(least, most, (batch_size, modalities, 1))
        corners = tuple(q * integers(0, (s - b) // q, shape) for s, b, q in zip(size, extent, step))
        used = torch.arange(most, device=device) < number
        rounded = torch.rand(shape, generator=generator, device=device) < disks if disks else None
        return cls(size, extent, corners, used, rounded)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.used.device

    def hits(self, size: Sequence[int]) -> Tensor:
        """(B, M, *size) bool: the places of a grid whose centres lie in a block. A grid of another size than that of
        reference covers the same extent."""
        centres = [
            (torch.arange(n, device=self.device) + 0.5) * (reference / n) for n, reference in zip(size, self.size)
        ]
        inside = [
            (c >= low[..., None]) & (c < low[..., None] + b) for c, low, b in zip(centres, self.corners, self.extent)
        ]
        *outer, last = inside
        rows = (self.used if self.round is None else self.used & ~self.round)[..., None]
        for axis in outer:  # (B, M, K, places so far)
            rows = (rows[..., None] & axis[..., None, :]).flatten(3)
        found = (rows.float().mT @ last.float() > 0).view(*self.used.shape[:2], *size)
        return found if self.round is None else found | self._disks(centres, size)

    def _disks(self, centres: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        distance: Tensor | float = 0.0
        radius = min(self.extent) / 2
        for i, (c, low, b) in enumerate(zip(centres, self.corners, self.extent)):
            apart = (c - (low[..., None] + b / 2)).square()
            distance = distance + apart.view(*apart.shape[:3], *[1] * i, len(c), *[1] * (len(size) - i - 1))
        chosen = (self.used & self.round).view(*self.used.shape, *[1] * len(size))
        return (chosen & (distance <= radius**2)).any(2)


def check_blocks(block: int, count: Sequence[int], ratio: float, disks: float) -> None:
    """Refuse values out of range.

    Raises:
        InputError: Names the first.
    """
    if not isinstance(block, int) or block < 1:
        raise InputError(f'block must be an integer of at least 1, got {block!r}.')
    pair = isinstance(count, Sequence) and len(count) == 2 and all(isinstance(n, int) for n in count)
    if not pair or not 0 <= count[0] <= count[1]:
        raise InputError(f'count must be two integers, 0 <= fewest <= most, got {count!r}.')
    for name, value in (('ratio', ratio), ('disks', disks)):
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise InputError(f'{name} must be in [0, 1], got {value!r}.')


def exclusive(
    hits: Tensor, order: Tensor, overlap: str, present: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    """Give each place that several modalities hit to one of them.

    Args:
        hits: (B, M, *size) bool.
        order: (B, M): the modalities of each sample, the first one first.
        overlap: See `complementary_masks`.
        present: (B, M) bool.
        generator: Of ``'pixel'``.
    """
    if overlap not in OVERLAPS:
        raise unknown_name('way to resolve overlaps (overlap)', overlap, OVERLAPS)
    places = [1] * (hits.ndim - 2)
    if present is not None:
        hits = hits & present.to(hits.device, non_blocking=True).view(*hits.shape[:2], *places)
    if overlap == 'pixel':
        lots = torch.rand(hits.shape, generator=generator, device=hits.device).masked_fill(~hits, -1)
        return hits & (lots == lots.amax(1, keepdim=True))
    index = order.view(*order.shape, *places).expand_as(hits)
    ordered = hits.gather(1, index)
    first = ordered & (ordered.int().cumsum(1) == 1)
    return torch.zeros_like(hits).scatter(1, index, first)


def _order(batch_size: int, modalities: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    return torch.rand(batch_size, modalities, generator=generator, device=device).argsort(1)


def intervention_masks(
    sizes: Mapping[str, Size],
    present: Tensor,
    generator: torch.Generator,
    block: int,
    count: tuple[int, int],
    ratio: float,
    overlap: str,
    disks: float,
    kind: str,
) -> dict[str, Tensor]:
    """Masks for inputs of any sizes: blocks are drawn on the finest grid of each kind (sequences, images, volumes), in
    steps of a place of the coarsest, and laid over the others: where sizes divide, and places that several hit go by
    ``'priority'``, blocks that are no disks are disjoint across grids too; else on each of them.

    Args:
        sizes: Modality to the size of its input; one without any, a vector, has no places and is left out.
        present: (B, M) bool, columns in the order of ``sizes``.
        generator: Of all draws.
        block: See `complementary_masks`, as for the next four; a block of a sequence is a sixteenth of it.
        count: The fewest and the most blocks.
        ratio: The largest hidden share.
        overlap: Whose is a place that several hit.
        disks: The share of disks.
        kind: ``'complementary'`` or ``'random'``.

    Returns:
        Modality to (B, 1, *size) bool, True where a place is kept.
    """
    names, masks = list(sizes), {}
    for dims in sorted({len(s) for s in sizes.values()} - {0}):
        group = [m for m in names if len(sizes[m]) == dims]
        finest = tuple(max(sizes[m][i] for m in group) for i in range(dims))
        step = [-(-finest[i] // min(sizes[m][i] for m in group)) for i in range(dims)]
        side = max(1, round(finest[0] / 16)) if dims == 1 else block
        alone = kind == 'random'
        several = 1 if alone else len(group)
        drawn = Blocks.draw(len(present), several, finest, side, count, ratio, disks, generator, None, step)
        order = _order(len(present), len(group), generator, generator.device)
        here = present[:, [names.index(m) for m in group]]
        for size in dict.fromkeys(sizes[m] for m in group):
            hits = drawn.hits(size)
            if not alone:
                hits = exclusive(hits, order, overlap, here, generator)
            for i, m in enumerate(group):
                if sizes[m] == size:
                    masks[m] = ~hits[:, :1] if alone else ~hits[:, i : i + 1]
    return masks
