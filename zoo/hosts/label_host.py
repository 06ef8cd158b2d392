"""What all hosts share that give class logits: for a sample, a pixel or a voxel."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import LOSSES, InputError, unknown_name
from zoo.batch import Batch, Outputs
from zoo.datasets import wrong_label
from zoo.encoders.build import build_encoder
from zoo.host import MultimodalHost
from zoo.precision import widened


class LabelHost(MultimodalHost):
    """A host whose prediction is logits (B, K, ...) and whose target class indices (B, ...).

    Auxiliary heads (``self.aux``, modality to module) and side outputs (``outputs.extras['side']``: logits of deep
    supervision, of any size) are trained with the same loss. Subclasses define the road from inputs to logits.

    Args:
        modalities: Names of the inputs.
        num_classes: K.
        in_chans: Channels of each modality's input; one number for all, or a mapping.
        loss: A loss of (logits, class indices): name or config.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.
    """

    ignore_index = -100  # the target that neither losses nor scores count; what torch's losses ignore

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        in_chans: int | Mapping[str, int],
        loss: str | Mapping,
        data_preprocessor: nn.Module | Mapping | None,
        encode_on: str,
    ) -> None:
        super().__init__(modalities, data_preprocessor, encode_on)
        if not isinstance(num_classes, int) or num_classes < 1:
            raise InputError(f'num_classes must be an integer of at least 1, got {num_classes!r}.')
        self.in_chans = for_each(in_chans, self.modalities, 'in_chans')
        self.num_classes = num_classes
        self.criterion = LOSSES.build(loss)
        self.aux = nn.ModuleDict()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """See `MultimodalHost`.

        Raises:
            InputError: A label that is no class, in a target on the CPU: on a GPU to look would be to wait. The loaders
                of a runner have looked before it gets there.
        """
        self._check_labels(batch.target)
        return super().loss(batch)

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """``loss_task``; ``loss_side_<n>`` of side outputs of 1/n of the input's height; and ``loss_aux_<modality>``
        over the samples that have it, where there are auxiliary heads."""
        target = batch.target
        losses = {'loss_task': self.criterion(outputs.prediction, target)}
        for z in outputs.extras.get('side', ()):
            whole = self.side_target(target)
            scale = round(whole.shape[1] / z.shape[2])
            losses[f'loss_side_{scale}'] = self.criterion(z, nearest_labels(whole, z.shape[2:]))
        if self.aux:
            batch = batch.view(self.modalities)
            for (m, z), rows in zip((self.unimodal(outputs) or {}).items(), batch.present.unbind(1)):
                losses[f'loss_aux_{m}'] = self.unimodal_loss(z, batch, rows)
        return losses

    def side_target(self, target: Tensor) -> Tensor:
        """The target of what side outputs cover."""
        return target

    def unimodal_loss(self, prediction: Tensor, batch: Batch, rows: Tensor) -> Tensor:
        """The loss of logits (B, K, ...) over ``rows`` (B,), as if they were the batch."""
        rows = rows.to(prediction.device, non_blocking=True)
        sums, weights = self._loss_sums(prediction, batch.target)
        return sums.masked_fill(~rows, 0).sum() / over(weights.masked_fill(~rows, 0).sum())

    def sample_losses(self, outputs: Outputs, batch: Batch) -> Tensor:
        """(B,): the loss of each sample, as if it were the batch."""
        sums, weights = self._loss_sums(outputs.prediction, batch.target)
        return sums / over(weights)

    def true_class_probability(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Softmax of the true class, averaged over the valid elements of each sample: (B,); NaN where it has none."""
        valid = batch.target != self.ignore_index
        each = F.cross_entropy(prediction.float(), batch.target.where(valid, 0), reduction='none')
        probability = (-each).exp()
        valid = valid.view(len(valid), -1)
        return probability.view_as(valid).masked_fill(~valid, 0).sum(1) / valid.sum(1)

    def divergence(self, reference: Tensor, prediction: Tensor, batch: Batch, weight: Tensor | None = None) -> Tensor:
        """KL(reference || prediction) of the class probabilities, averaged over the elements of a sample that are not
        to be ignored: (B,), in nats."""
        p, q = (F.log_softmax(widened(z), 1) for z in (reference, prediction))
        each = (p.exp() * (p - q)).sum(1)
        if weight is not None:
            each = each * weight[:, 0]
        counts = torch.ones_like(each)
        if isinstance(batch.target, Tensor) and batch.target.shape == each.shape:
            counts = (batch.target != self.ignore_index).to(each.dtype)
        each, counts = each.view(len(each), -1), counts.view(len(each), -1)
        return (each * counts).sum(1) / over(counts.sum(1))

    def training_only(self) -> Iterator[nn.Parameter]:
        """The auxiliary heads."""
        return self.aux.parameters()

    def _check_labels(self, target: Any) -> None:
        single = self.num_classes != 1 and isinstance(self.num_classes, int)  # one logit is no choice among classes
        if not single or not isinstance(target, Tensor) or target.device.type != 'cpu' or torch.compiler.is_compiling():
            return
        ignored = {self.ignore_index, getattr(self.criterion, 'ignore_index', None)} - {None}
        if (wrong := wrong_label(target, self.num_classes, ignored)) is not None:
            raise InputError(
                f'Label {wrong} is out of range, expected 0..{self.num_classes - 1}, or {self.ignore_index} for none.'
            )

    def _loss_sums(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """For each sample the sum of its elements' losses, and of what they count in the mean: (B,), (B,)."""
        reduction = getattr(self.criterion, 'reduction', None)
        if reduction is None:  # a loss of a set of elements, as Dice is: each sample is a set
            each = torch.stack([self.criterion(z, t) for z, t in zip(logits.split(1), target.split(1))])
            return each, torch.ones_like(each)
        self.criterion.reduction = 'none'
        try:
            losses = self.criterion(logits, target)
        finally:
            self.criterion.reduction = reduction
        counts = target != self.ignore_index
        if (weight := getattr(self.criterion, 'weight', None)) is not None:
            counts = weight[target.where(counts, 0)] * counts
        if losses.shape != target.shape:  # a loss of other targets than class indices
            counts = torch.ones_like(losses)
        return losses.view(len(losses), -1).sum(1), counts.view(len(counts), -1).sum(1)


def over(x: Tensor) -> Tensor:
    """A divisor that is 1 where ``x`` is 0."""
    return x.where(x > 0, 1)


def nearest_labels(target: Tensor, size: Sequence[int]) -> Tensor:
    """Shrink labels (B, H, W) to ``size``, as 'nearest' interpolation does: to the pixel above and to the left."""
    for dim, (large, small) in enumerate(zip(target.shape[1:], size), start=1):
        target = target.index_select(dim, torch.arange(small, device=target.device) * large // small)
    return target


def build_encoders(encoder: str | Mapping, in_chans: Mapping[str, int], default: str = 'TimmEncoder') -> nn.ModuleDict:
    """One encoder for each modality: from one description, or from a mapping of modality to its own."""
    own = isinstance(encoder, Mapping) and 'type' not in encoder and 'model' not in encoder
    encoders = for_each(encoder if own else dict.fromkeys(in_chans, encoder), tuple(in_chans), 'encoder')
    return nn.ModuleDict({m: build_encoder(encoders[m], c, default) for m, c in in_chans.items()})


def encoder_parameters(encoders: nn.ModuleDict, modality: str) -> Iterator[nn.Parameter]:
    """The parameters of one modality's encoder.

    Raises:
        NameNotFound: There is no such modality.
    """
    if modality not in encoders:
        raise unknown_name('modality', modality, list(encoders))
    return encoders[modality].parameters()


def for_each(value: Any, modalities: Sequence[str], name: str) -> dict[str, Any]:
    """One value for each modality: the same, or the entries of a mapping.

    Raises:
        NameNotFound: The mapping names something else.
        InputError: It lacks a modality.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(modalities, value)
    for m in value:
        if m not in modalities:
            raise unknown_name(f'modality (in {name})', m, modalities)
    if missing := [m for m in modalities if m not in value]:
        raise InputError(f'{name} names no value for {", ".join(missing)}; it has {dict(value)}.')
    return {m: value[m] for m in modalities}
