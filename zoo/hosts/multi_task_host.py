"""Hosts that classify for one task or for several."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from registry import InputError, unknown_name
from zoo.batch import Batch, Outputs
from zoo.host import check_key

from .label_host import LabelHost, over

Logits = Tensor | dict[str, Tensor]


class MultiTaskHost(LabelHost):
    """A host whose prediction is logits (B, K) and whose target is class indices (B,), or a dict of these by task.

    With several tasks a label below 0 says that a sample has none for that task: it counts in no loss. What other hosts
    give of their one task (`sample_losses`, `unimodal_loss`) is the weighted sum over the tasks.

    Args:
        modalities: Names of the inputs.
        num_classes: K; or, for several tasks, task to K.
        in_chans: Channels of each modality's input; one number for all, or a mapping.
        loss: A loss of (logits, class indices): name or config.
        task_weights: Task to the weight of its loss; 1 over their number by default.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Attributes:
        tasks: Task to K; one task alone is called ``'task'``.
        several: Whether predictions and targets are dicts.

    Raises:
        InputError: No task, one without classes, or a weight that is negative, missing or none.
        NameNotFound: A weight of an unknown task.
    """

    task = 'classification'

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int | Mapping[str, int],
        in_chans: int | Mapping[str, int],
        loss: str | Mapping,
        task_weights: Mapping[str, float] | None,
        data_preprocessor: nn.Module | Mapping | None,
        encode_on: str,
    ) -> None:
        several = isinstance(num_classes, Mapping)
        tasks = dict(num_classes) if several else {'task': num_classes}
        for name, count in tasks.items():
            check_key('task', name)
            if not isinstance(count, int) or count < 1:
                raise InputError(f'num_classes of {name} must be an integer of at least 1, got {count!r}.')
        if not tasks:
            raise InputError('num_classes names no task.')
        super().__init__(modalities, max(tasks.values()), in_chans, loss, data_preprocessor, encode_on)
        self.several, self.tasks = several, tasks
        if several:
            self.num_classes = tasks
        self.task_weights = _weights(task_weights, tasks)

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """``loss_<task>``, weighted; zero, with a gradient path, for a task of which no sample has a label."""
        predictions, losses = self.by_task(outputs.prediction), {}
        for task, target in self.targets(batch).items():
            sums, counts = self._loss_sums(predictions[task], target)
            losses[f'loss_{task}'] = self.task_weights[task] * (sums.sum() / over(counts.sum()))
        return losses

    def unimodal_loss(self, prediction: Logits, batch: Batch, rows: Tensor) -> Tensor:
        """See `LabelHost`; the weighted sum over the tasks."""
        of = super().unimodal_loss
        return sum(w * of(z, part, rows) for w, z, part in self._parts(prediction, batch))

    def sample_losses(self, outputs: Outputs, batch: Batch) -> Tensor:
        """(B,): the loss of each sample, as if it were the batch; the weighted sum over the tasks."""
        of = super().sample_losses
        return sum(w * of(outputs._replace(prediction=z), b) for w, z, b in self._parts(outputs.prediction, batch))

    def true_class_probability(self, prediction: Logits, batch: Batch) -> Tensor:
        """Softmax of the true class (B,), the mean over the tasks of which a sample has a label; NaN without any."""
        of = super().true_class_probability
        return torch.stack([of(z, part) for _, z, part in self._parts(prediction, batch)]).nanmean(0)

    def divergence(self, reference: Logits, prediction: Logits, batch: Batch, weight: Tensor | None = None) -> Tensor:
        """See `LabelHost`; the weighted sum over the tasks, whether a sample has labels or not."""
        of, first, second = super().divergence, self.by_task(reference), self.by_task(prediction)
        batch = batch.replace(target=None)
        return sum(w * of(first[t], second[t], batch, weight) for t, w in self.task_weights.items())

    def by_task(self, prediction: Logits) -> dict[str, Tensor]:
        """The logits (B, K) of each task."""
        return prediction if self.several else {'task': prediction}

    def joined(self, predictions: Mapping[str, Tensor]) -> Logits:
        """What `by_task` takes apart."""
        return dict(predictions) if self.several else predictions['task']

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """The class indices (B,) of each task, ``ignore_index`` where a sample has none.

        Raises:
            InputError: The target is not what the tasks need.
        """
        target: Any = batch.target
        if not self.several:
            return {'task': target}
        if not isinstance(target, Mapping) or (missing := [t for t in self.tasks if t not in target]):
            found = f'lacks {", ".join(missing)}' if isinstance(target, Mapping) else f'is {type(target).__name__}'
            raise InputError(f'The target must be a dict with labels of {", ".join(self.tasks)}; it {found}.')
        labels = {}
        for task, count in self.tasks.items():
            y = target[task]
            if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != (len(batch),):
                got = f'{y.dtype} {tuple(y.shape)}' if isinstance(y, Tensor) else type(y).__name__
                raise InputError(f'The labels of {task} must be int64 (B,) = ({len(batch)},), got {got}.')
            if y.device.type == 'cpu' and not torch.compiler.is_compiling():  # where looking costs nothing
                self._look_at(task, y, count)
            labels[task] = y.where(y >= 0, self.ignore_index)
        return labels

    def _look_at(self, task: str, labels: Tensor, count: int) -> None:
        if (largest := int(labels.max())) >= count:
            raise InputError(f'A label of {task} is {largest}, out of range: expected 0..{count - 1}, or below 0.')
        if largest < 0:
            warnings.warn(f'A batch has no label for the task {task}: its loss there is 0.', stacklevel=2)

    def _parts(self, prediction: Logits, batch: Batch) -> Iterator[tuple[float, Tensor, Batch]]:
        """Of each task its weight, its logits, and the batch with its labels."""
        predictions = self.by_task(prediction)
        for task, target in self.targets(batch).items():
            yield self.task_weights[task], predictions[task], batch.replace(target=target)


def check_weights(given: Any, where: str) -> None:
    """Refuse what is no mapping of names to numbers of at least 0, or to such mappings.

    Raises:
        InputError: See above.
    """
    if not isinstance(given, Mapping):
        raise InputError(f'{where} maps names to numbers, got {given!r}.')
    for name, w in given.items():
        if isinstance(w, Mapping):
            check_weights(w, f'{where} of {name}')
        elif isinstance(w, bool) or not isinstance(w, (int, float)) or not 0 <= w < float('inf'):
            raise InputError(f'{where} needs a number of at least 0 for {name}, got {w!r}.')


def _weights(given: Mapping[str, float] | None, tasks: Mapping[str, int]) -> dict[str, float]:
    if given is None:
        return dict.fromkeys(tasks, 1 / len(tasks))
    for task in given:
        if task not in tasks:
            raise unknown_name('task (in task_weights)', task, tasks)
    own = {task: given.get(task) for task in tasks}
    check_weights(own, 'task_weights')
    return {task: float(w) for task, w in own.items()}
