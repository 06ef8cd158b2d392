"""How far predictions move when a modality is taken away, or places of the inputs are hidden."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from plugins.intervention import hide, masked
from plugins.masks import intervention_masks
from registry import InputError
from zoo.batch import Batch, is_words, map_target
from zoo.host import MultimodalHost

MASKED = ('random', 'complementary')
MASKS = {'count': (1, 6), 'ratio': 0.5, 'overlap': 'priority', 'disks': 0.0}  # those of `Intervention`


def default_block(host: MultimodalHost, batch: Batch) -> int:
    """The side of a block: an eighth of the shorter side of the finest image or volume, at least 2."""
    sides = [min(x.shape[-2:]) for x in batch.view(host.modalities).inputs.values() if x.ndim > 3]
    return max(2, max(sides, default=0) // 8)


def movements(
    host: MultimodalHost, batch: Batch, generator: torch.Generator, block: int | None = None, again: bool = False
) -> dict[str, Tensor]:
    """How far the prediction of each sample is from the one on the whole sample, by `MultimodalHost.divergence`.

    Args:
        host: In eval mode.
        batch: Each sample has a modality of the host's.
        generator: Of the masks.
        block: See `complementary_masks`; see `default_block` when None.
        again: Also run the whole batch a second time: what a host that draws at random does by itself.

    Returns:
        (B,) on the CPU: ``'without <modality>'`` of each, NaN where a sample lacks it or has nothing else; ``'random
        masks'``, the same blocks hidden in all modalities; ``'complementary masks'``, blocks in different places of
        each; and ``'another draw'``.
    """
    batch = host.own(batch)
    names, present = host.modalities, batch.present
    counts = present & (present.sum(1, keepdim=True) > 1)
    others = ~torch.eye(len(names), dtype=torch.bool)
    without = counts.T[..., None] & others[:, None]  # (M, B, M): of samples that do not count nothing is left, nor run
    results = host.run_subsets(batch, torch.cat([torch.ones_like(without[:1]), without]))
    clean = next(results).prediction
    found = {}
    for m, rows, outputs in zip(names, counts.T, results):
        found[f'without {m}'] = apart = torch.full((len(batch),), torch.nan)
        if outputs is not None:
            part, reference = batch.select(rows), _select(clean, rows, batch.device)
            apart[rows] = _distance(host, reference, outputs.prediction, part)
    block = block or default_block(host, batch)
    for kind in MASKED:
        variant = masked(host, batch, kind, generator, block=block, **MASKS)
        found[f'{kind} masks'] = _distance(host, clean, host.run(variant).prediction, batch)
    if again:
        found['another draw'] = _distance(host, clean, host.run(batch).prediction, batch)
    return found


def region_maps(
    host: MultimodalHost,
    sample: Batch,
    draws: int,
    generator: torch.Generator,
    block: int | None = None,
    batch_size: int = 16,
) -> dict[str, Tensor]:
    """Which places of each modality the prediction of one sample leans on.

    Blocks, up to a tenth of the places, are hidden in one modality at a time, the same ones in each. A place's value is
    the mean movement of the prediction over the draws that hide it, minus that over all draws, cut at 0. One more draw
    of average movement is counted for each place: what was hidden once, beside others, is no peak. Hiding in several
    modalities at once would take fewer passes, but what one of them moves would show in the places of the others.

    Args:
        host: In eval mode.
        sample: A batch of one.
        draws: How many masks; one pass for each and each modality.
        generator: Of the masks.
        block: See `movements`.
        batch_size: Passes that run together.

    Returns:
        Modality to (H, W) or (D, H, W) on the CPU, at the size of its input: of those that the sample has. Sequences,
        texts and vectors have no such places. Where no draw hid a place it is 0.
    """
    sample = host.own(sample)
    here = [m for m, there in zip(host.modalities, sample.present[0].tolist()) if there]
    sizes = {m: tuple(x.shape[2:]) for m in here if (x := sample.inputs[m]).ndim > 3 and not is_words(x)}
    if not sizes:
        return {}
    block = block or default_block(host, sample)
    clean = host.run(sample).prediction
    sums = {m: [sample.inputs[m].new_zeros(size) for _ in range(2)] for m, size in sizes.items()}
    total = dict.fromkeys(sizes, 0.0)
    kinds = [{m: size for m, size in sizes.items() if len(size) == dims} for dims in (2, 3)]
    groups = [(group, _most(group.values(), block)) for group in kinds if group]
    for begin in range(0, draws, batch_size):
        n = min(batch_size, draws - begin)
        masks = {}
        for group, count in groups:
            everywhere = torch.ones(n, len(group), dtype=torch.bool)
            masks |= intervention_masks(
                group, everywhere, generator, block, kind='random', **{**MASKS, 'count': (1, count)}
            )
        repeated = sample.repeat(n)
        reference = _select(clean, torch.zeros(n, dtype=torch.int64), sample.device)
        for m, kept in masks.items():
            inputs = {**repeated.inputs, m: hide(host, m, repeated.inputs[m], kept)}
            moved = host.run(repeated.replace(inputs=inputs)).prediction
            apart = _distance(host, reference, moved, repeated)
            total[m] += float(apart.sum())  # on the CPU: it is there already
            hidden = ~kept[:, 0]
            weighted, count = sums[m]
            weighted += torch.tensordot(apart.to(sample.device), hidden.to(apart.dtype), 1)
            count += hidden.sum(0)
    maps = {m: (weighted - count * total[m] / draws) / (count + 1) for m, (weighted, count) in sums.items()}
    return {m: x.clamp(min=0).cpu() for m, x in maps.items()}


def _most(sizes: Collection[Sequence[int]], block: int) -> int:
    """The most blocks of a mask: a tenth of those that tile the finest grid, so that masks hide as much of long images
    and of volumes as six blocks of an eighth hide of a square."""
    places = max(math.prod(size) for size in sizes)
    return max(MASKS['count'][1], round(places / block ** len(next(iter(sizes))) / 10))


def _distance(host: MultimodalHost, reference: Any, prediction: Any, batch: Batch) -> Tensor:
    """(B,) on the CPU; below 0 is what rounding leaves of 0.

    Raises:
        InputError: A prediction is not finite.
    """
    apart = host.divergence(reference, prediction, batch).float().clamp(min=0).cpu()
    if not apart.isfinite().all():
        raise InputError(f'{type(host).__name__} gives predictions that are not finite: they can not be compared.')
    return apart


def _select(prediction: Any, rows: Tensor, device: torch.device) -> Any:
    """The rows, a bool mask or indices on the CPU, of a prediction."""
    index = (rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows).tolist()
    moved = torch.tensor(index, dtype=torch.int64, device=device)
    return map_target(prediction, lambda x: x[moved], lambda items: [items[i] for i in index])
