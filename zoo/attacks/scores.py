"""What attacks raise: losses of class logits, for each sample; and the share of its labels that a host gets right.

A task is logits (B, K, ...) with class indices (B, ...); a host may have several, as a mapping by name. Dense tasks are
averaged over the labelled places of a sample, tasks are added up.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from registry import InputError
from zoo.batch import Batch, Outputs
from zoo.host import MultimodalHost


class Task(NamedTuple):
    """Logits and labels of one task, places in one dimension: 1 for a class of the whole sample."""

    logits: Tensor  # (B, K, N), float32
    target: Tensor  # (B, N), 0 where there is no label
    labelled: Tensor  # (B, N) bool

    def mean(self, values: Tensor) -> Tensor:
        """(B, N) -> (B,), over the labelled places; 0 where there are none."""
        return values.where(self.labelled, 0).sum(1) / self.labelled.sum(1).clamp(min=1)

    def score(self) -> Tensor:
        """The true class's logit, (B, N)."""
        return self.logits.gather(1, self.target[:, None])[:, 0]

    def others(self) -> Tensor:
        """The logits without the true class's, which is -inf: (B, K, N)."""
        return self.logits.scatter(1, self.target[:, None], -torch.inf)


Loss = Callable[[MultimodalHost, Outputs, Batch], Tensor]


def tasks_of(host: MultimodalHost, outputs: Outputs, batch: Batch) -> list[Task]:
    """The tasks with class logits; none of a detector."""
    return _tasks(outputs.prediction, batch.target, getattr(host, 'ignore_index', -100))


def _tasks(prediction: Any, target: Any, ignore_index: int) -> list[Task]:
    if isinstance(prediction, Mapping) and isinstance(target, Mapping):
        pairs = [(prediction[k], target[k]) for k in prediction if k in target]
        return [task for z, t in pairs for task in _tasks(z, t, ignore_index)]
    if not isinstance(prediction, Tensor) or not isinstance(target, Tensor) or target.is_floating_point():
        return []
    if prediction.ndim < 2 or target.shape != (*prediction.shape[:1], *prediction.shape[2:]):
        return []
    target = target.reshape(len(target), -1)
    labelled = (target != ignore_index) & (target >= 0)
    return [Task(prediction.float().reshape(*prediction.shape[:2], -1), target.where(labelled, 0), labelled)]


def hits(host: MultimodalHost, outputs: Outputs, batch: Batch) -> Tensor:
    """(B,): the share of a sample's labels that the prediction gets right, 0 where it has none; 1 for tasks without
    class logits, which can be neither right nor wrong."""
    tasks = tasks_of(host, outputs, batch)
    if not tasks:
        return torch.ones(len(batch), device=batch.device)
    return sum(t.mean((t.logits.argmax(1) == t.target).float()) for t in tasks) / len(tasks)


def cross_entropy(host: MultimodalHost, outputs: Outputs, batch: Batch) -> Tensor:
    """The host's own loss: of each sample, (B,), where it says so; else the sum over the batch, ()."""
    if 'sample_losses' in host.offers:
        return host.sample_losses(outputs, batch).float()
    losses = host.losses(outputs, batch)
    return sum(v.sum() for k, v in losses.items() if 'loss' in k).float()


def minus_margin(host: MultimodalHost, outputs: Outputs, batch: Batch) -> Tensor:
    """(B,): how far the best wrong class is ahead of the true one; above 0 where the prediction is wrong."""
    return sum(t.mean(t.others().amax(1) - t.score()) for t in _class_tasks(host, outputs, batch, 2, 'The margin'))


def dlr(host: MultimodalHost, outputs: Outputs, batch: Batch) -> Tensor:
    """(B,): the difference of logits ratio (Croce & Hein, ICML 2020, Eq. 6), which rescaling the logits can not mask.

    ``(max_{j != y} z_j - z_y) / (z_(1) - z_(3))``, with z sorted downwards.
    """
    total = 0
    for t in _class_tasks(host, outputs, batch, 3, 'DLR'):
        top = t.logits.topk(3, dim=1).values
        total = total + t.mean((t.others().amax(1) - t.score()) / (top[:, 0] - top[:, 2] + 1e-12))
    return total


def targeted_dlr(rank: int) -> Loss:
    """The targeted DLR (Croce & Hein, ICML 2020, Eq. 7), towards the classes that `WrongClass` names.

    ``(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)``.
    """
    wrong = WrongClass(rank)

    def loss(host: MultimodalHost, outputs: Outputs, batch: Batch) -> Tensor:
        tasks = _class_tasks(host, outputs, batch, 4, 'The targeted DLR')
        total = 0
        for t, z in zip(tasks, wrong(tasks)):
            top = t.logits.topk(4, dim=1).values
            total = total + t.mean((z - t.score()) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12))
        return total

    return loss


class WrongClass:
    """The logit of one wrong class of each task: the ``rank``-th most likely one, from 0, when it is first asked; a
    task with fewer takes its last."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.chosen: list[Tensor] = []

    def __call__(self, tasks: list[Task]) -> list[Tensor]:
        """(B, N) of each task."""
        if not self.chosen:
            for t in tasks:
                order = t.others().argsort(1, descending=True)
                self.chosen.append(order[:, min(self.rank, order.shape[1] - 2)])
        return [t.logits.gather(1, index[:, None])[:, 0] for t, index in zip(tasks, self.chosen)]


def _class_tasks(host: MultimodalHost, outputs: Outputs, batch: Batch, least: int, what: str) -> list[Task]:
    tasks = tasks_of(host, outputs, batch)
    if not tasks:
        raise InputError(f'{what} needs class logits, which {type(host).__name__} does not give.')
    if (fewest := min(t.logits.shape[1] for t in tasks)) < least:
        raise InputError(f'{what} needs at least {least} classes, this {type(host).__name__} has {fewest}.')
    return tasks


LOSSES: dict[str, Loss] = {'ce': cross_entropy, 'margin': minus_margin, 'dlr': dlr}
