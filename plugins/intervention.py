"""Intervention: predictions are to stay where inputs are masked, and to suffer where a modality is taken away."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from registry import PLUGINS, InputError, unknown_name
from zoo.batch import Batch, Features, Outputs, is_words
from zoo.fusion import CFI
from zoo.host import MultimodalHost
from zoo.precision import full_precision, widened
from zoo.rows import statistics_of_its_own

from .masks import OVERLAPS, check_blocks, complementary_masks, intervention_masks, random_masks
from .plugin import Plugin

__all__ = ['Intervention', 'complementary_masks', 'gate_regulariser', 'random_masks']

MASKED = ('complementary', 'random')
NECESSITY = ('margin', 'pull', 'none')
PASSES = ('auto', 'sequential', 'batched')
STATISTICS = ('freeze_running', 'update')
FILLS = ('mean', 'zero')
GATE = 'gates of'  # the start of a key of `MultimodalHost.tap`


def gate_regulariser(gates: Tensor, eta: float = 0.3, entropy_sign: int = -1) -> Tensor:
    """``|mean - eta|`` of the gates of each sample, averaged, plus ``entropy_sign`` times their mean binary entropy in
    nats (ISFuse, Eq. 11).

    With -1, as it is published and trained, entropy is maximised: gates spread towards 1/2, and what is selective comes
    from the loss that they weigh. +1 makes gates binary, as the text describes.

    >>> gate_regulariser(torch.full((1, 1, 2, 2), 0.3))
    tensor(-0.6109)

    Args:
        gates: (B, 1, ...) in (0, 1).
        eta: The share that is to be open.
        entropy_sign: -1 or +1.
    """
    with full_precision(gates.device):
        g = widened(gates).clamp(1e-6, 1 - 1e-6)
        entropy = -(g * g.log() + (1 - g) * (1 - g).log()).mean()
        return (widened(gates).flatten(1).mean(1) - eta).abs().mean() + entropy_sign * entropy


@PLUGINS.register_module()
class Intervention(Plugin):
    """Adds ``loss_intervention``, how far predictions move where inputs are masked, and ``loss_necessity``, for what is
    lost with a modality (ISFuse, CVPR 2026, Eq. 11 and 12; for hosts other than its own the generalisation is ours).

    Variants of the clean batch run beside it: blocks hidden in different places of each modality (complementary),
    blocks hidden in the same places of all (random), and each modality taken away in turn (dropout). The batch of the
    task's loss stays as it is, and no plugin acts in a variant's pass. A step costs three passes; a host whose encoders
    do not see each other fuses what it has encoded for the rest, any other takes a pass more for each modality.

    The distance of two predictions is the host's (`MultimodalHost.divergence`): for class logits the divergence of
    their probabilities. Of a host with gates (``outputs.extras['gates']``, or blocks of `CFI` anywhere in it) it is
    weighed by them, those of the masked pass, and their regulariser is added.

    What a missing modality should do is a question with two answers. ``'margin'`` asks the clean prediction to be
    better than that without a modality, by ``margin`` times what this modality knows by itself; the worse one is
    detached, so nothing is gained by making it worse. ``'pull'`` asks both to be alike: that is what the published code
    minimises under the name of necessity.

    Args:
        alpha: Weight of ``loss_intervention``.
        beta: Weight of ``loss_necessity``.
        block: See `complementary_masks`, as for the next four.
        count: The fewest and the most blocks of a modality.
        ratio: The largest share that may be hidden of a modality.
        overlap: Whose is a place that several modalities would hide.
        disks: The share of blocks that are disks; 0.3 in the published code.
        fill: What hidden places hold: ``'mean'``, 0 after normalisation, or ``'zero'``, what 0 is on the data's scale.
        necessity: ``'margin'``, ``'pull'``, or ``'none'`` for no dropout variants.
        margin: How much better, times what a modality knows, in units of the task's loss.
        detach_dropped: With ``'margin'``: no gradient through passes without a modality.
        detach_clean: No gradient through the clean prediction where others are compared with it.
        dropped: How many modalities are taken away in a step, drawn anew; None for each in turn.
        alone: Also run each modality by itself, to know what it knows, where there are more than two; else each counts
            in full. With two the dropout variants are these passes.
        passes: ``'batched'``: all variants in one pass, ``'sequential'``: one after the other; ``'auto'``: batched
            where no layer takes statistics of the batch, in which variants would mix.
        statistics: ``'freeze_running'``: variants leave running statistics alone; ``'update'``: as published.
        eta: See `gate_regulariser`.
        entropy_sign: See `gate_regulariser`.
        name: See `Plugin`.

    Raises:
        InputError: A value out of range.
        NameNotFound: An unknown choice.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 0.05,
        block: int = 16,
        count: Sequence[int] = (1, 6),
        ratio: float = 0.5,
        overlap: str = 'priority',
        disks: float = 0.0,
        fill: str = 'mean',
        necessity: str = 'margin',
        margin: float = 0.1,
        detach_dropped: bool = True,
        detach_clean: bool = True,
        dropped: int | None = None,
        alone: bool = False,
        passes: str = 'auto',
        statistics: str = 'freeze_running',
        eta: float = 0.3,
        entropy_sign: int = -1,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        for kind, value, known in (
            ('way to resolve overlaps (overlap)', overlap, OVERLAPS),
            ('fill', fill, FILLS),
            ('necessity', necessity, NECESSITY),
            ('way to run variants (passes)', passes, PASSES),
            ('way with statistics', statistics, STATISTICS),
        ):
            if value not in known:
                raise unknown_name(kind, value, known)
        check_blocks(block, count, ratio, disks)
        for key, value in (('alpha', alpha), ('beta', beta), ('margin', margin)):
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise InputError(f'{key} must be a finite number of at least 0, got {value!r}.')
        if not isinstance(eta, (int, float)) or not 0 < eta < 1:
            raise InputError(f'eta must be in (0, 1), got {eta!r}.')
        if entropy_sign not in (-1, 1):
            raise InputError(f'entropy_sign must be -1 or 1, got {entropy_sign!r}.')
        if dropped is not None and (not isinstance(dropped, int) or dropped < 1):
            raise InputError(f'dropped must be an integer of at least 1, got {dropped!r}.')
        self.alpha, self.beta, self.fill = alpha, beta, fill
        self.masks = {'block': block, 'count': tuple(count), 'ratio': ratio, 'overlap': overlap, 'disks': disks}
        self.necessity, self.margin, self.dropped, self.alone = necessity, margin, dropped, alone
        self.detach_dropped, self.detach_clean = detach_dropped, detach_clean
        self.passes, self.statistics = passes, statistics
        self.eta, self.entropy_sign = eta, entropy_sign

    def attach(self, host: MultimodalHost) -> None:
        """Tap the gates of the host's fusion blocks."""
        super().attach(host)
        blocks = {name: m for name, m in host.named_modules() if isinstance(m, CFI) and m.gate is not None}
        for name, block in blocks.items():
            host.tap(f'{GATE} {name}', block.gates, output=True)

    def on_losses(
        self, host: MultimodalHost, batch: Batch, outputs: Outputs, losses: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Run the variants, add both losses."""
        own = host.own(batch)
        taken = self._taken(host) if self.necessity != 'none' else []
        with host.aside(update_statistics=self.statistics == 'update'):
            hidden = self._run(host, {kind: self.masked(host, own, kind) for kind in MASKED})
            with torch.no_grad() if self.necessity == 'margin' and self.detach_dropped else nullcontext():
                without = self._fused(host, own, outputs, {m: drop(own, m) for m in taken})
            only = self._only(host, own, outputs, without)
        stay = 0.0
        for kind, variant in hidden.items():
            gates = joint_gates(variant)
            moved = self._distance(host, own, outputs.prediction, variant, gates)
            self.log(**{f'moved_{kind}': moved.detach().mean()})
            stay = stay + moved.mean() / len(MASKED)
            if gates is not None:
                stay = stay + gate_regulariser(gates, self.eta, self.entropy_sign) / len(MASKED)
        losses = {**losses, 'loss_intervention': self.alpha * stay}
        if taken:
            losses['loss_necessity'] = self.beta * self._needed(host, own, outputs, without, only)
        return losses

    def masked(self, host: MultimodalHost, batch: Batch, kind: str) -> Batch:
        """The batch with blocks hidden: ``'complementary'`` or ``'random'`` ones. Texts and vectors have no places, and
        stay."""
        generator = self.generator(host, batch.device, purpose=kind)
        return masked(host, batch, kind, generator, self.fill, **self.masks)

    def _taken(self, host: MultimodalHost) -> list[str]:
        """The modalities that are taken away in this step."""
        if self.dropped is None or self.dropped >= len(host.modalities):
            return list(host.modalities)
        generator = self.generator(host, shared=True, purpose='dropout')
        chosen = torch.randperm(len(host.modalities), generator=generator)[: self.dropped].tolist()
        return [m for i, m in enumerate(host.modalities) if i in chosen]

    def _run(self, host: MultimodalHost, variants: dict[str, Batch]) -> dict[str, Outputs]:
        """The outputs of each variant."""
        apart = statistics_of_its_own if self.statistics == 'update' else nullcontext
        if len(variants) > 1 and self._batches(host):
            with apart(host):
                return run_together(host, variants)
        ran = {}
        for name, v in variants.items():
            with apart(host):
                ran[name] = host.run(v)
        return ran

    def _fused(
        self, host: MultimodalHost, batch: Batch, outputs: Outputs, variants: dict[str, Batch]
    ) -> dict[str, Outputs]:
        """The outputs of variants that differ in ``present`` only: what is encoded already is fused anew, unless
        statistics are to follow whole passes."""
        if not variants or not host.separable or self.statistics == 'update':
            return self._run(host, variants)
        masks = torch.stack([v.present for v in variants.values()])
        return dict(zip(variants, host.run_subsets(batch, masks, outputs.features)))

    def _batches(self, host: MultimodalHost) -> bool:
        if self.passes == 'auto':
            return not any(isinstance(m, _BatchNorm) and m.training for m in host.modules())
        return self.passes == 'batched'

    def _distance(
        self, host: MultimodalHost, batch: Batch, clean: Any, variant: Outputs, gates: Tensor | None = None
    ) -> Tensor:
        """(B,): how far a variant is from the clean prediction."""
        if self.detach_clean:
            clean = tree_map_only(Tensor, torch.detach, clean)
        return host.divergence(clean, variant.prediction, batch, gates)

    def _only(
        self, host: MultimodalHost, batch: Batch, outputs: Outputs, without: dict[str, Outputs]
    ) -> dict[str, Outputs]:
        """What each modality says by itself; with two it is the pass without the other."""
        names = host.modalities
        if self.necessity != 'margin':
            return {}
        if len(names) == 2:
            return {m: without[o] for m, o in zip(names, names[::-1]) if o in without}
        if not self.alone:
            return {}
        masks = torch.eye(len(names), dtype=torch.bool)
        kept = {m: keep_one(batch, row) for m, row in zip(names, masks)}
        with torch.no_grad():
            return self._fused(host, batch, outputs, kept)

    def _needed(
        self,
        host: MultimodalHost,
        batch: Batch,
        outputs: Outputs,
        without: dict[str, Outputs],
        only: dict[str, Outputs],
    ) -> Tensor:
        """The scalar L_nec."""
        several = batch.present.sum(1) > 1
        total = 0.0
        clean = self._losses(host, outputs, batch) if self.necessity == 'margin' else None
        for m, lost in without.items():
            column = host.modalities.index(m)
            counts = (batch.present[:, column] & several).to(batch.device, non_blocking=True)
            if self.necessity == 'pull':
                moved = self._distance(host, batch, outputs.prediction, lost)
                total = total + moved.masked_fill(~counts, 0).mean()
                continue
            worse = self._losses(host, lost, batch)
            worse = worse.detach() if self.detach_dropped else worse
            knows = self._knows(host, only[m], batch) if m in only else 1.0
            short = (clean - worse + self.margin * knows).relu()
            if short.ndim == 0:  # a loss of the whole batch
                short = short.expand(len(counts))
            total = total + short.masked_fill(~counts, 0).mean() / len(without)
            self.log(**{f'lost_without_{m}': (worse - clean.detach()).mean()})
        return total

    def _losses(self, host: MultimodalHost, outputs: Outputs, batch: Batch) -> Tensor:
        """(B,); of a host without losses of single samples the loss of the batch, ()."""
        if 'sample_losses' in host.offers:
            return widened(host.sample_losses(outputs, batch))
        return widened(sum(v for k, v in host.losses(outputs, batch).items() if 'loss' in k))

    def _knows(self, host: MultimodalHost, outputs: Outputs, batch: Batch) -> Tensor | float:
        """(B,) in [0, 1]: one minus the loss of a modality by itself over that of a guess; 1 without classes."""
        classes = getattr(host, 'num_classes', None)
        if not isinstance(classes, int) or classes < 2 or 'sample_losses' not in host.offers:
            return 1.0
        return (1 - self._losses(host, outputs, batch).detach() / math.log(classes)).clamp(0, 1)


def masked(
    host: MultimodalHost, batch: Batch, kind: str, generator: torch.Generator, fill: str = 'mean', **masks: Any
) -> Batch:
    """A batch with blocks hidden; ``masks`` are the other arguments of `intervention_masks`."""
    sizes = {m: () if is_words(x) else tuple(x.shape[2:]) for m, x in batch.inputs.items()}
    sizes = {m: sizes[m] for m in host.modalities}
    kept = intervention_masks(sizes, batch.present, generator, kind=kind, **masks)
    inputs = {m: hide(host, m, x, kept[m], fill) if m in kept else x for m, x in batch.inputs.items()}
    return batch.replace(inputs=inputs)


def hide(host: MultimodalHost, modality: str, x: Tensor, kept: Tensor, fill: str = 'mean') -> Tensor:
    """An input (B, C, ...) with other places than those that are kept, (B, 1, ...) bool, filled: see `Intervention`."""
    value: Any = x.new_zeros(())
    if fill == 'zero':
        value = host.data_preprocessor.standardise(modality, torch.zeros_like(x[:1]))
    return torch.where(kept, x, value)


def drop(batch: Batch, modality: str) -> Batch:
    """The batch without a modality, but for samples that have nothing else."""
    column = batch.modalities.index(modality)
    present = batch.present.clone()
    present[:, column] &= batch.present.sum(1) == 1
    return batch.replace(present=present)


def keep_one(batch: Batch, mask: Tensor) -> Batch:
    """The batch with the modality of ``mask`` (M,) alone, where a sample has it; others keep what they have."""
    has = (batch.present & mask).any(1, keepdim=True)
    return batch.replace(present=torch.where(has, batch.present & mask, batch.present))


def joint_gates(outputs: Outputs) -> Tensor | None:
    """The mean of a host's gates at the size of its prediction, (B, 1, ...), in single precision; where the prediction
    has no such places their mean over all of them, (B, 1, 1, ...). None without gates."""
    gates = outputs.extras.get('gates') or [
        g for key, g in getattr(outputs.features, 'tapped', {}).items() if key.startswith(GATE)
    ]
    if not gates:
        return None
    size = getattr(outputs.prediction, 'shape', ())[2:]
    mode = {1: 'linear', 2: 'bilinear', 3: 'trilinear'}.get(len(size))

    def resized(gate: Tensor) -> Tensor:
        if gate.ndim != len(size) + 2:
            return gate.flatten(1).mean(1).view(-1, 1, *[1] * len(size))
        return gate if gate.shape[2:] == size else F.interpolate(gate, size, mode=mode, align_corners=False)

    each = [resized(widened(g)) for g in gates]
    return sum(each[1:], each[0]) / len(each)


def run_together(host: MultimodalHost, variants: dict[str, Batch]) -> dict[str, Outputs]:
    """Run variants of one batch, differing in inputs and ``present``, in a single pass."""
    batches = list(variants.values())
    n = len(batches[0])
    joined = (
        batches[0]
        .repeat(len(batches))
        .replace(
            inputs={m: torch.cat([b.inputs[m] for b in batches]) for m in batches[0].inputs},
            present=torch.cat([b.present for b in batches]),
            available=torch.cat([b.available for b in batches]),
        )
    )
    outputs = host.run(joined)

    def part(i: int) -> Any:
        def take(x: Tensor) -> Tensor:
            return x[i * n : (i + 1) * n] if x.ndim and len(x) == n * len(batches) else x

        tapped = Features()
        tapped.tapped = tree_map_only(Tensor, take, getattr(outputs.features, 'tapped', {}))
        return tree_map_only(Tensor, take, outputs._replace(features={}))._replace(features=tapped)

    return {name: part(i) for i, name in enumerate(variants)}
