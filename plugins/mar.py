"""MAR: modality-aware regularisation, an extra loss on the combinations of modalities on which a host is weakest."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from registry import PLUGINS, InputError, unknown_name
from zoo.batch import Batch, Outputs
from zoo.host import MultimodalHost
from zoo.metrics.distributed import all_reduce_sum

from .plugin import Plugin

CANDIDATES = ('leave_one_out', 'proper')

Subset = tuple[str, ...]


def prediction_shift(histograms: Tensor, reference: Tensor) -> Tensor:
    """How far predictions on subsets of the modalities are from those on all: ``KL(p_subset || p_complete)``.

    >>> prediction_shift(torch.tensor([[8., 8.], [16., 0.]]), torch.tensor([8., 8.])).round(decimals=3)
    tensor([0.0000, 0.4790], dtype=torch.float64)

    Args:
        histograms: (S, K) how often each class was predicted on each subset.
        reference: (K,) the same on all modalities.

    Returns:
        (S,) float64, in nats. One count is added to each class, so that all values are finite.
    """

    def log_share(counts: Tensor) -> Tensor:
        counts = counts.double() + 1
        return counts.log() - counts.sum(-1, keepdim=True).log()

    subsets, complete = log_share(histograms), log_share(reference)
    return (subsets.exp() * (subsets - complete)).sum(-1)


def modality_aware_loss(losses: Tensor, weak: Tensor) -> Tensor:
    """MAR: the sum of the losses (B,) of the samples that ``weak`` (B,) marks, over B; 0 without any."""
    return losses.masked_fill(~weak, 0).sum() / len(losses)


@PLUGINS.register_module()
class MAR(Plugin):
    """Adds ``loss_mar``: the auxiliary loss of those samples of a batch that have a weak combination of modalities left
    (MMANet, CVPR 2023, Sec. 3.3).

    Weak is the combination whose predicted classes are distributed least like those on all modalities
    (`prediction_shift`), and every part of it: of rgb, depth and ir the pair, and each of its two. Which one is counted
    during warm-up epochs and never changes afterwards; or it is given.

    The loss is the host's own (`MultimodalHost.sample_losses`), of the logits ``outputs.extras['aux']`` where the host
    has them (`MMANet`: its auxiliary trunk), else of its prediction. Which samples lack what is `ModalityDropout`'s
    work; without it only samples that the data set delivers incomplete can count.

    Differences to the official code:

    * it mines on the validation list, which on NYUv2 is the test split: here the training batches of the warm-up are
      counted, those samples of them that have all modalities, in extra passes in eval mode without a trace. A host of
      separable branches encodes once for all combinations. Predictions on training data are surer than on others;
    * counts are pooled over the warm-up and compared once as shares; there a softmax of the counts themselves, nearly
      one-hot, is compared after each epoch, and the values are added up;
    * combinations of all modalities but one compete, for any number of modalities (there: the three pairs of three);
      ``candidates='proper'`` lets every incomplete one compete;
    * the auxiliary logits are computed once. There the same tensor is computed three times, and for segmentation only
      if the batch holds a sample with depth alone.

    Args:
        beta: Weight of the loss; the published 0.5 is for classification, 0.2 for segmentation.
        start_epoch: The first epoch, from 0, with the loss; after five epochs in the published recipe.
        mine: The epochs [first, last), from 0, whose training batches are counted.
        candidates: ``'leave_one_out'`` or ``'proper'``.
        weak: Fixes the weak combinations, as lists of modalities, instead of mining: exactly these count.
        name: See `Plugin`.

    Raises:
        InputError: A value outside its range, or epochs that end after ``start_epoch``.
        NameNotFound: ``weak`` names a modality that the host has not.
    """

    needs = frozenset({'sample_losses'})

    def __init__(
        self,
        beta: float = 0.5,
        start_epoch: int = 5,
        mine: Sequence[int] = (1, 4),
        candidates: str = 'leave_one_out',
        weak: Iterable[Sequence[str]] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not 0 <= beta < math.inf:
            raise InputError(f'beta must be finite and not negative, got {beta!r}.')
        if not isinstance(start_epoch, int) or start_epoch < 0:
            raise InputError(f'start_epoch must be an integer of at least 0, got {start_epoch!r}.')
        pair = isinstance(mine, Sequence) and len(mine) == 2 and all(isinstance(e, int) for e in mine)
        if not pair or (weak is None and not 0 <= mine[0] < mine[1] <= start_epoch):
            raise InputError(
                f'mine must be two epochs (first, last), 0 <= first < last <= start_epoch = {start_epoch}, '
                f'got {mine!r}.'
            )
        if candidates not in CANDIDATES:
            raise unknown_name('set of candidates', candidates, CANDIDATES)
        self.beta, self.start_epoch, self.mine, self.candidates = beta, start_epoch, tuple(mine), candidates
        self.weak = None if weak is None else [(s,) if isinstance(s, str) else tuple(s) for s in weak]
        self._window: Tensor | None = None  # (S + 1, K) of this rank since the last step

    def attach(self, host: MultimodalHost) -> None:
        """Make the counts: one histogram for each candidate, and one for all modalities."""
        super().attach(host)
        if not isinstance(getattr(host, 'num_classes', None), int):
            raise InputError(f'{self.name} counts predicted classes of one task, which {type(host).__name__} has not.')
        self.names = names = sorted(host.modalities)  # a state does not depend on their order in a config
        for m in itertools.chain.from_iterable(self.weak or ()):
            if m not in names:
                raise unknown_name('modality (in weak)', m, host.modalities)
        if self.weak is None:
            sizes = [len(names) - 1] if self.candidates == 'leave_one_out' else range(1, len(names))
            self.subsets = [s for n in sizes for s in itertools.combinations(names, n)]
            weak = [[part for n in range(1, len(s) + 1) for part in itertools.combinations(s, n)] for s in self.subsets]
        else:
            self.subsets, weak = [], [self.weak]
        table = torch.zeros(len(weak), 2 ** len(names), dtype=torch.bool)
        for row, parts in zip(table, weak):
            for part in parts:
                row[sum(2 ** names.index(m) for m in set(part))] = True
        masks = [[m in s for m in host.modalities] for s in [*self.subsets, names]]
        self.masks = torch.tensor(masks, dtype=torch.bool)  # (S + 1, M), on the CPU
        self.powers = torch.tensor([2 ** names.index(m) for m in host.modalities])
        self.register_buffer('table', table, persistent=False)  # (S, 2^M): weak combinations if this candidate wins
        if self.weak is None:
            counts = torch.zeros(len(self.masks), host.num_classes, dtype=torch.float64)
            self.register_buffer('counts', counts)  # (S + 1, K) predicted classes; the last row: all modalities

    def on_losses(
        self, host: MultimodalHost, batch: Batch, outputs: Outputs, losses: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Count in the warm-up; add ``loss_mar`` from ``start_epoch`` on."""
        batch = batch.view(host.modalities)
        epoch = host.clock.epoch
        if self.weak is None and self.mine[0] <= epoch < self.mine[1]:
            self._count(host, batch)
        if epoch < self.start_epoch:
            return losses
        codes = (batch.present * self.powers).sum(1).to(outputs.prediction.device, non_blocking=True)
        weak = self._weak_table()[codes]
        judged = outputs._replace(prediction=outputs.extras.get('aux', outputs.prediction))
        loss = modality_aware_loss(host.sample_losses(judged, batch), weak)
        self.log(weak_share=weak.float().mean())
        return {**losses, 'loss_mar': self.beta * loss}

    @torch.no_grad()
    def on_gradients(self, host: MultimodalHost, optimizer: Optimizer) -> None:
        """Commit the counts of all processes."""
        if self._window is not None:
            self.counts += all_reduce_sum(self._window)
            self._window = None

    def weak_subsets(self) -> list[Subset]:
        """The combinations that count as weak now, smallest first; reads the counts back from the device."""
        codes = self._weak_table().nonzero().squeeze(1).tolist()
        found = [tuple(m for i, m in enumerate(self.names) if code >> i & 1) for code in codes]
        return sorted(found, key=lambda s: (len(s), s))

    def before_train_epoch(self, runner: Any) -> None:
        """Say which combinations are weak, once they are known."""
        if runner.epoch == self.start_epoch:
            listed = ', '.join('+'.join(s) for s in self.weak_subsets()) or 'none: no complete sample was counted'
            runner.logger.info(f'{self.name}: weak combinations of modalities: {listed}.')

    def _weak_table(self) -> Tensor:
        """(2^M,) bool: whether the combination with this code is weak."""
        if self.weak is not None:
            return self.table[0]
        shifts = prediction_shift(self.counts[:-1], self.counts[-1])
        return self.table.index_select(0, shifts.argmax()[None])[0] & (self.counts.sum() > 0)

    @torch.no_grad()
    def _count(self, host: MultimodalHost, batch: Batch) -> None:
        """Add the classes that the host predicts for the complete samples of a batch, from each combination."""
        if self._window is None:  # also without a complete sample: every process takes part in the sum
            self._window = torch.zeros_like(self.counts)
        rows = batch.available.all(1)
        if not rows.any():
            return
        complete = batch.replace(present=batch.available)
        with host.aside(training=False):
            for row, outputs in zip(self._window, host.run_subsets(complete.select(rows), self.masks)):
                classes = outputs.prediction.argmax(1).flatten()
                row.index_add_(0, classes, row.new_ones(()).expand(len(classes)))
