"""Overlap and surface distance of segmented regions, a case at a time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from registry import METRICS, InputError, unknown_name
from zoo.batch import Batch, Outputs
from zoo.datasets import IGNORE

from .distributed import all_reduce_max, all_reduce_sum
from .mean_iou import class_map
from .metric import Metric

REGIONS = {'brats': {'WT': (1, 2, 3), 'TC': (1, 3), 'ET': (3,)}}  # whole tumour, tumour core, enhancing tumour
NO_REGION = 373.13  # mm: what BraTS counts where one side is empty, the diagonal of its volumes of 240x240x155


@METRICS.register_module()
class MeanDice(Metric):
    """Dice of regions, the mean over cases: ``100 * 2|A & B| / (|A| + |B|)`` of each case, 100 where both are empty.

    A region is a set of classes; those of BraTS are nested. Every class is taken from the largest logit, so that
    regions follow from one label map. Voxels of ``ignore_index`` count nowhere, whatever is predicted there. With one
    sum over all cases, as segmentation of photographs has it, large tumours would outweigh small ones.

    HD95 is computed as MONAI does it: the larger of the two 95th percentiles of the distances from one surface to the
    other, a voxel being of the surface if one of its face neighbours is not of the region. It uses scipy's exact
    distance transform, which MONAI uses as well on CPUs: scipy is required anyway, MONAI is large. 0 where both are
    empty, ``hd95_empty`` where one is. It is computed on the CPU, which makes evaluation slower.

    Args:
        regions: ``'brats'``: WT, TC, ET; a mapping of names to classes; None: each class but 0 by itself.
        hd95: Compute HD95, too.
        et_min: A case whose predicted ET has fewer voxels counts as predicted without ET, the rule of BraTS entries
            (500 in the published code, which sums over a batch; here each case by itself). 0: no such rule.
        spacing: Size of a voxel in millimetres, for HD95; one number or one for each axis.
        hd95_empty: See above, in millimetres.
        num_classes: Of predictions that are label maps; the engine says it.
        ignore_index: The label of voxels that do not count.

    Raises:
        NameNotFound: Unknown regions.
        InputError: A region without classes, ``et_min`` below 0 or without a region ET, or a ``spacing`` that is no
            size above 0.
    """

    task = 'segmentation'
    name = 'Dice'

    def __init__(
        self,
        regions: str | Mapping[str, Sequence[int]] | None = 'brats',
        hd95: bool = False,
        et_min: int = 0,
        spacing: float | Sequence[float] = 1.0,
        hd95_empty: float = NO_REGION,
        num_classes: int | None = None,
        ignore_index: int = IGNORE,
    ) -> None:
        super().__init__()
        if isinstance(regions, str):
            if regions not in REGIONS:
                raise unknown_name('regions of MeanDice', regions, REGIONS)
            regions = REGIONS[regions]
        self.regions = None if regions is None else {name: tuple(classes) for name, classes in regions.items()}
        if self.regions is not None:
            for name, classes in self.regions.items():
                if not classes or any(not isinstance(k, int) or isinstance(k, bool) or k < 0 for k in classes):
                    raise InputError(f'The region {name!r} of MeanDice is a list of classes from 0, got {classes!r}.')
            if not self.regions:
                raise InputError('MeanDice needs at least one region; None scores each class by itself.')
            self.also = tuple(f'Dice_{name}' for name in self.regions)
        if not isinstance(et_min, int) or et_min < 0 or (et_min and 'ET' not in (self.regions or ())):
            raise InputError(f'et_min is a number of voxels of at least 0 and needs a region ET, got {et_min!r}.')
        sides = spacing if isinstance(spacing, Sequence) else [spacing]
        if any(not isinstance(s, (int, float)) or isinstance(s, bool) or not 0 < s < math.inf for s in sides):
            raise InputError(f'spacing of MeanDice is a size in millimetres or one for each axis, got {spacing!r}.')
        self.hd95, self.et_min, self.spacing, self.hd95_empty = hd95, et_min, spacing, hd95_empty
        self.num_classes, self.ignore_index = num_classes, ignore_index
        # (2, N) float64: sums over cases of Dice and HD95 of each region or class
        self.register_buffer('sums', None, persistent=False)
        self.register_buffer('members', None, persistent=False)  # (N, K) float64, 1 where a class is of a region
        self.register_buffer('counts', torch.zeros(2, dtype=torch.int64), persistent=False)  # cases, wrong labels

    @property
    def settings(self) -> dict[str, Any]:
        """What the scores depend on."""
        return {'et_min': self.et_min} if self.et_min else {}

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Logits (B, K, D, H, W) or label maps (B, D, H, W); the target is int64 (B, D, H, W) or a list of (D, H, W).

        Pictures work as well, without D. Logits of another size than the target are resized to it first.

        Raises:
            InputError: The target is something else, the label maps have another size, or a region has a class that
                the logits do not have; or ``spacing`` is of another number of axes.
        """
        prediction, target = outputs.prediction, batch.target
        targets = target if isinstance(target, list) else [target]
        if not all(isinstance(t, Tensor) and t.ndim in (2, 3, 4) and not t.is_floating_point() for t in targets):
            got = f'shape {tuple(target.shape)}' if isinstance(target, Tensor) else type(target).__name__
            raise InputError(f'MeanDice scores masks: a target (B, ...) of classes or a list of such, got {got}.')
        maps = not prediction.is_floating_point()
        known = self.num_classes if maps else prediction.shape[1]
        if known is None:
            raise InputError('MeanDice needs num_classes to score label maps.')
        if self.sums is None:
            self.members = self._members(known).to(prediction.device)
            self.sums = torch.zeros(2, len(self.members), dtype=torch.float64, device=prediction.device)
        rows = (
            zip(prediction.split(1), (t[None] for t in target)) if isinstance(target, list) else [(prediction, target)]
        )
        for p, t in rows:
            if maps and p.shape != t.shape:
                raise InputError(f'The label map has the shape {tuple(p.shape)}, its target {tuple(t.shape)}.')
            self._add(p if maps else class_map(p, t.shape[1:]), t, self.members)

    def _members(self, classes: int) -> Tensor:
        regions = [(k,) for k in range(classes)] if self.regions is None else self.regions.values()
        rows = [[float(k in region) for k in range(classes)] for region in regions]
        if (highest := max(max(region) for region in regions)) >= classes:
            raise InputError(f'A region of MeanDice has the class {highest}, the prediction only 0..{classes - 1}.')
        return torch.tensor(rows, dtype=torch.float64)

    def _add(self, labels: Tensor, target: Tensor, members: Tensor) -> None:
        predicted, shared, truth, wrong = region_sizes(labels, target, members, self.ignore_index)
        dropped = torch.zeros_like(predicted, dtype=torch.bool)
        if self.et_min:
            et = list(self.regions).index('ET')
            dropped[:, et] = predicted[:, et] < self.et_min
        predicted, shared = predicted.masked_fill(dropped, 0), shared.masked_fill(dropped, 0)
        self.sums[0] += dice(predicted, shared, truth).sum(0)
        self.counts[0] += len(labels)
        self.counts[1] += wrong
        if self.hd95:
            self.sums[1] += self._distances(labels, target, members, dropped).sum(0)

    def _distances(self, labels: Tensor, target: Tensor, members: Tensor, dropped: Tensor) -> Tensor:
        """(B, N) float64, millimetres."""
        axes = target.ndim - 1
        if isinstance(self.spacing, Sequence) and len(self.spacing) != axes:
            raise InputError(f'spacing of MeanDice has {len(self.spacing)} sizes, the targets {axes} axes.')
        found = torch.zeros(dropped.shape, dtype=torch.float64)
        known = (target != self.ignore_index).cpu()
        labels, target, dropped = labels.cpu().long(), target.cpu(), dropped.cpu()
        inside = members.cpu().bool()
        for b, n in torch.cartesian_prod(torch.arange(len(labels)), torch.arange(len(members))).tolist():
            of_region = inside[n]
            truth = of_region[target[b].clamp(0, len(of_region) - 1)] & known[b]
            guess = of_region[labels[b]] & known[b] & ~dropped[b, n]
            found[b, n] = hausdorff_95(guess, truth, self.spacing, self.hd95_empty)
        return found.to(members.device)

    def compute(self) -> dict[str, Tensor]:
        """``Dice``, the mean over regions, in percent, and of each region ``Dice_<region>``; without regions ``Dice``
        is the mean over the classes but 0 and ``Dice_class`` (K,) has all. With ``hd95`` the same with ``HD95``, in
        millimetres.

        Everything is NaN without a case.

        Raises:
            InputError: Labels that are neither classes nor ``ignore_index``.
        """
        seen = 0 if self.sums is None else self.sums.shape[1]
        n = int(all_reduce_max(torch.tensor(seen, device=self.counts.device)))
        n = n or len(self.regions or ())
        sums = self.sums
        if sums is None:
            sums = torch.zeros(2, n, dtype=torch.float64, device=self.counts.device)
        sums, (cases, wrong) = all_reduce_sum(sums.clone()), all_reduce_sum(self.counts.clone())
        if wrong:
            raise InputError(
                f'{int(wrong)} voxels have labels that are neither classes of the prediction nor '
                f'ignore_index={self.ignore_index}.'
            )
        values = sums / cases
        result = {}
        for name, row in zip(('Dice', 'HD95') if self.hd95 else ('Dice',), values):
            if self.regions is None:
                result |= {name: row[1:].mean(), f'{name}_class': row}
            else:
                result |= {name: row.mean(), **{f'{name}_{r}': v for r, v in zip(self.regions, row)}}
        return result


def region_sizes(
    labels: Tensor, target: Tensor, members: Tensor, ignore_index: int = IGNORE
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How many voxels of each case are predicted in each region, in both, and truly; and how many have wrong labels.

    Args:
        labels: (B, ...) integers in 0..K-1.
        target: (B, ...) integers.
        members: (N, K) float64, 1 where a class is of a region.
        ignore_index: The label of voxels that do not count.

    Returns:
        predicted, shared, truth: (B, N) float64.
        wrong: (), int64.
    """
    b, k = len(labels), members.shape[1]
    row = target.long().clamp(-1, k).masked_fill(target == ignore_index, k + 1) + 1  # 0 and k + 1 for wrong labels
    first = torch.arange(b, device=labels.device).view(-1, *[1] * (labels.ndim - 1)) * (k + 3)
    cell = ((row + first) * k + labels).flatten()
    counts = torch.zeros(b * (k + 3) * k, dtype=torch.int64, device=labels.device)
    # not `bincount`, which waits for a GPU to learn the largest value
    counts.index_add_(0, cell, counts.new_ones(()).expand(len(cell)))
    counts = counts.view(b, k + 3, k)
    confusion = counts[:, 1 : k + 1].double()  # true class, predicted class
    truth = torch.einsum('nk,bkj->bn', members, confusion)
    predicted = torch.einsum('nj,bkj->bn', members, confusion)
    shared = torch.einsum('nk,bkj,nj->bn', members, confusion, members)
    return predicted, shared, truth, counts[:, [0, k + 1]].sum()


def dice(predicted: Tensor, shared: Tensor, truth: Tensor) -> Tensor:
    """Dice in percent of numbers of voxels, 100 where there are none.

    >>> dice(torch.tensor([4., 0., 0.]), torch.tensor([3., 0., 0.]), torch.tensor([6., 0., 2.]))
    tensor([ 60., 100.,   0.])
    """
    both = predicted + truth
    return torch.where(both > 0, 200 * shared / both, 100.0)


def hausdorff_95(
    guess: Tensor, truth: Tensor, spacing: float | Sequence[float] = 1.0, empty: float = NO_REGION
) -> float:
    """The larger of the two 95th percentiles of surface distances, see `MeanDice`.

    >>> line = torch.arange(9)[None] < 4
    >>> round(hausdorff_95(line, line.roll(2, 1)), 2)
    1.85

    Args:
        guess: (D, H, W) or (H, W) bool, on the CPU.
        truth: The same.
        spacing: Size of a voxel, one number or one for each axis.
        empty: The value where one of both is empty.
    """
    import numpy as np
    from scipy.ndimage import binary_erosion, distance_transform_edt

    guess, truth = guess.numpy(), truth.numpy()
    if not guess.any() or not truth.any():
        return 0.0 if guess.any() == truth.any() else float(empty)
    either = guess | truth
    spans = [
        np.flatnonzero(either.any(tuple(a for a in range(either.ndim) if a != axis))) for axis in range(either.ndim)
    ]
    box = tuple(slice(span[0], span[-1] + 1) for span in spans)  # no surface lies outside
    edges = [part & ~binary_erosion(part) for part in (guess[box], truth[box])]
    sampling = [spacing] * guess.ndim if isinstance(spacing, (int, float)) else list(spacing)
    distances = [distance_transform_edt(~edge, sampling=sampling) for edge in edges]
    return float(max(np.percentile(distances[1][edges[0]], 95), np.percentile(distances[0][edges[1]], 95)))
