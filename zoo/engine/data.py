"""From a data set to batches: sampling that can start anywhere, seeded samples, and collation."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from registry import DATASETS, InputError
from zoo.datasets import IGNORE, UNLABELLED, MultimodalDataset, check_inputs, wrong_label
from zoo.datasets.base import check_boxes, check_types


class EpochSampler(Sampler):
    """Yields (epoch, index) in an order that is a function of (seed, epoch), this rank's share of it.

    Args:
        size: Number of samples.
        shuffle: Draw a new order in each epoch.
        seed: Of the order.
        rank: This process.
        world_size: Number of processes.
        round_up: Repeat a few samples so that all ranks have equally many; evaluation does not.
    """

    def __init__(
        self, size: int, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1, round_up: bool = False
    ) -> None:
        self.size, self.shuffle, self.seed = size, shuffle, seed
        self.rank, self.world_size, self.round_up = rank, world_size, round_up
        self.epoch = self.start = 0

    def set_position(self, epoch: int, start: int = 0) -> None:
        """Continue in ``epoch`` after ``start`` samples of this rank."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Samples of this rank in a whole epoch."""
        if self.round_up:
            return math.ceil(self.size / self.world_size)
        return len(range(self.rank, self.size, self.world_size))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.size)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        if self.round_up:
            order = np.resize(order, len(self) * self.world_size)
        for index in order[self.rank :: self.world_size][self.start :].tolist():
            yield self.epoch, index


class SeededDataset(Dataset):
    """Makes the randomness of a sample a function of (seed, epoch, index): the number of workers, prefetching and
    resuming then change nothing. The states of Python, numpy and torch are put back after each sample.

    A data set with an attribute ``epoch`` is told the epoch before each sample. Samples of a data set that is not of
    the zoo's own base class, which checks them itself, are checked here.
    """

    def __init__(self, dataset: Dataset, seed: int, num_classes: int | Mapping[str, int] | None = None) -> None:
        self.dataset, self.seed, self.num_classes = dataset, seed, num_classes
        self.foreign = not isinstance(dataset, MultimodalDataset)
        self.knows_epoch = hasattr(dataset, 'epoch')

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        seed = int(np.random.SeedSequence([self.seed, epoch, index]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # users' data sets draw from the legacy state
        torch.default_generator.manual_seed(seed)
        try:
            if self.knows_epoch:
                self.dataset.epoch = epoch
            sample = self.dataset[index]
            if self.foreign:
                source = f'{type(self.dataset).__name__}[{index}]'
                size = check_inputs(sample['inputs'], sample['present'], self.dataset.modalities, source)
                _check_labels(sample.get('target'), size, self.num_classes, source)
            return sample
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])


def _check_labels(target: Any, size: tuple[int, ...], num_classes: int | Mapping[str, int] | None, source: str) -> None:
    """Refuse boxes that do not fit the image, and a class that the host does not have; -100, which torch's losses
    ignore, is none, and neither is `UNLABELLED` among several tasks."""
    labels = []
    if isinstance(target, Mapping) and {'boxes', 'labels'} <= target.keys():
        check_boxes(target, size, source)
        labels = target['labels'].tolist()
    elif isinstance(num_classes, Mapping):
        if not isinstance(target, Mapping) or (missing := [t for t in num_classes if t not in target]):
            got = f'lacks {missing[0]!r}' if isinstance(target, Mapping) else f'is {target!r}'
            raise InputError(f'{source}: the host has the tasks {", ".join(num_classes)}, but the target {got}.')
        for task, number in num_classes.items():
            if _class(target[task]) != UNLABELLED:
                _check_labels(target[task], size, number, f'{source}, task {task}')
    elif (label := _class(target)) is not None and label != -100:
        labels = [label]
    elif isinstance(target, Tensor) and target.ndim > 1 and (num_classes or 0) > 1:  # a mask; of one logit any kind
        wrong = wrong_label(target, num_classes, (IGNORE, -100))
        labels = [] if wrong is None else [wrong]
    for label in labels:
        if num_classes and not 0 <= label < num_classes:
            raise InputError(f'{source}: label {label} is out of range, expected 0..{num_classes - 1}.')


def _class(target: Any) -> int | None:
    """A target that is a single class, as a number."""
    is_class = isinstance(target, Tensor) and not target.ndim and not target.is_floating_point()
    return int(target) if is_class or isinstance(target, int) else None


class Collate:
    """Stacks samples to what a host's ``forward`` takes.

    A sample is ``{'inputs': {modality: tensor}, 'present': bool (M,), 'target': ...}`` with an optional ``'info'``
    dict. A modality that a sample lacks is filled with zeros; one that none has is left out. Targets are stacked where
    they are tensors of one shape, and listed otherwise; the ``ragged`` entries of a dict are listed always, so that
    their type does not hang on whether the numbers of boxes happen to agree.

    Args:
        modalities: Names of the columns of ``present``.
        ragged: Entries of a target whose length differs between samples.
    """

    def __init__(self, modalities: Sequence[str], ragged: Sequence[str] = ('boxes', 'labels')) -> None:
        self.modalities = tuple(modalities)
        self.ragged = frozenset(ragged)

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        inputs = {}
        for m in self.modalities:
            tensors = [s['inputs'].get(m) for s in samples]
            if (like := next((t for t in tensors if t is not None), None)) is not None:
                inputs[m] = _stack([like.new_zeros(like.shape) if t is None else t for t in tensors], m)
        batch = {
            'inputs': inputs,
            'present': torch.stack([torch.as_tensor(s['present'], dtype=torch.bool) for s in samples]),
            'target': self._collate_target([s.get('target') for s in samples]),
            'modalities': self.modalities,
        }
        if any('info' in s for s in samples):
            batch['info'] = [s.get('info', {}) for s in samples]
        return batch

    def _collate_target(self, targets: list[Any]) -> Any:
        first = targets[0]
        if isinstance(first, Mapping):
            if any(t.keys() != first.keys() for t in targets):
                listed = ', '.join(sorted({repr(sorted(t)) for t in targets}))
                raise InputError(f'The targets of a batch differ in what they hold: {listed}.')
            columns = {k: [t[k] for t in targets] for k in first}
            return {k: c if k in self.ragged else self._collate_target(c) for k, c in columns.items()}
        if isinstance(first, Tensor) and all(t.shape == first.shape for t in targets):
            return torch.stack(targets)
        if isinstance(first, (int, float, np.number)):
            return torch.as_tensor(targets)
        return None if first is None else targets


def _stack(tensors: list[Tensor], modality: str) -> Tensor:
    if len(shapes := {tuple(t.shape) for t in tensors}) > 1:
        raise InputError(
            f'Samples of a batch differ in the shape of {modality!r}: {sorted(shapes)}. Resize or crop them.'
        )
    check_types(tensors, modality, 'The samples of a batch')
    return torch.stack(tensors)


def build_dataset(cfg: Mapping[str, Any] | Dataset) -> Dataset:
    """A data set from its config, refused when empty or without modalities."""
    dataset = DATASETS.build(cfg) if isinstance(cfg, (Mapping, str)) else cfg
    if not hasattr(dataset, 'modalities'):
        raise InputError(
            f'The data set {type(dataset).__name__} has no attribute "modalities", the names of its inputs.'
        )
    if len(dataset) == 0:
        raise InputError(
            f'The data set {type(dataset).__name__} is empty: {dict(cfg) if isinstance(cfg, Mapping) else cfg}.'
        )
    return dataset


def build_dataloader(
    cfg: Mapping[str, Any],
    training: bool,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    cuda: bool = False,
    num_classes: int | Mapping[str, int] | None = None,
) -> DataLoader:
    """A loader from ``dict(dataset=..., batch_size=..., ...)``; the other keys are DataLoader's arguments.

    Args:
        cfg: Its config. ``shuffle`` and ``drop_last`` default to True and False in training, and are refused elsewhere:
            evaluation drops no sample.
        training: Whether it is for training.
        seed: Of the order and of each sample's randomness.
        rank: This process.
        world_size: Number of processes; ``batch_size`` is for each.
        cuda: Pin memory, so that copies to the GPU overlap.
        num_classes: Of the host; labels of data sets that do not check them are held against it.
    """
    cfg = dict(cfg)
    if 'dataset' not in cfg:
        raise InputError(f'A data loader needs "dataset", got {sorted(cfg)}.')
    dataset = build_dataset(cfg.pop('dataset'))
    if not training and (cfg.get('shuffle') or cfg.get('drop_last')):
        raise InputError('Evaluation neither shuffles nor drops samples: remove shuffle and drop_last from its loader.')
    shuffle = cfg.pop('shuffle', training)
    sampler = EpochSampler(len(dataset), shuffle, seed, rank, world_size, round_up=training)
    workers = cfg.get('num_workers', 0)
    defaults = dict(
        pin_memory=cuda,
        persistent_workers=workers > 0,
        collate_fn=Collate(dataset.modalities, getattr(dataset, 'ragged', ('boxes', 'labels'))),
        generator=torch.Generator().manual_seed(seed),  # else every `iter` would draw from the global state
    )
    try:
        loader = DataLoader(SeededDataset(dataset, seed, num_classes), sampler=sampler, **{**defaults, **cfg})
    except (TypeError, ValueError) as error:
        raise InputError(f'The data loader can not be built: {error}') from None
    if len(loader) == 0:
        raise InputError(f'drop_last leaves no batch: {len(sampler)} samples, batch_size={cfg.get("batch_size", 1)}.')
    return loader
