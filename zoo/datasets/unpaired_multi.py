"""Several sets of single images as one set of several modalities and tasks."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from registry import DATASETS, InputError, unknown_name

from .base import UNLABELLED, MultimodalDataset, Sample
from .splits import shuffled
from .wrapping import build_part

MODES = ('min', 'max', 'sum')


@DATASETS.register_module()
class UnpairedMulti(MultimodalDataset):
    """Zips data sets that have nothing to do with each other: each is one modality and one task.

    This is what MAIL (KDD 2026) is trained on: a sample has an image of each set, cells and skin for instance, and the
    label of each. Who is paired with whom is random and means nothing, yet a host that lets its modalities look at each
    other answers differently with another partner. Therefore evaluate over several values of ``pairing``.

    The target is a dict of task to class () int64, -1 (`UNLABELLED`) where the sample has no label of that task. The
    key of a set is the name of its modality as well as of its task, whatever the set itself calls its images.

    Args:
        datasets: Name to the config of a data set of one modality and one label.
        mode: ``'min'``: as many samples as the smallest set has, drawn at random from the others. ``'max'``: as many
            as the largest has; the others are repeated, each of their samples as often as any other, or once more.
            ``'sum'``: no pairs, each sample of each set once, in which the other modalities are absent and the other
            tasks unlabelled.
        seed: Of which samples are drawn or repeated.
        pairing: Of who is paired with whom: another number pairs the same samples differently.
        repair: Draw and pair anew in each epoch, for training.
        transforms: See `MultimodalDataset`; they act on all modalities alike, those of the sets on their own.

    Raises:
        NameNotFound: An unknown mode or data set.
        InputError: No data set, one with several modalities, or without classes.
    """

    ragged = ()

    def __init__(
        self,
        datasets: Mapping[str, Mapping[str, Any] | MultimodalDataset],
        mode: str = 'min',
        seed: int = 0,
        pairing: int = 0,
        repair: bool = False,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        if not isinstance(datasets, Mapping) or not datasets:
            raise InputError(f'UnpairedMulti: datasets is dict(name=dict(type=...), ...), got {datasets!r}.')
        if mode not in MODES:
            raise unknown_name('mode of UnpairedMulti', mode, MODES)
        if 'boxes' in datasets:
            raise InputError("UnpairedMulti: 'boxes' can not be the name of a task.")
        self.datasets = {name: build_part(cfg, 'UnpairedMulti') for name, cfg in datasets.items()}
        for name, dataset in self.datasets.items():
            kind = type(dataset).__name__
            if len(dataset.modalities) != 1:
                several = ', '.join(dataset.modalities)
                raise InputError(f'UnpairedMulti: {name} ({kind}) has the modalities {several}, choose one of them.')
            if not dataset.classes or isinstance(dataset.classes, Mapping):
                raise InputError(f'UnpairedMulti: {name} ({kind}) is no set of one label with named classes.')
        self.all_modalities = tuple(self.datasets)
        self.all_channels = {n: d.channels[d.modalities[0]] for n, d in self.datasets.items()}
        self.apart = tuple(n for n, d in self.datasets.items() if d.modalities[0] in d.apart)
        super().__init__(None, transforms)
        self.classes = {n: d.classes for n, d in self.datasets.items()}
        self.mode, self.seed, self.pairing, self.repair = mode, seed, pairing, repair
        lengths = [len(d) for d in self.datasets.values()]
        self._length = {'min': min, 'max': max, 'sum': sum}[mode](lengths)
        self._drawn = 0, self._draw(0)
        self.list = {n: getattr(d, 'list', None) for n, d in self.datasets.items()}  # by which splits are compared
        self.names = [f'{n}: {name}' for n, d in self.datasets.items() for name in getattr(d, 'names', ())]

    @property
    def num_classes(self) -> dict[str, int]:
        """Task to the number of its classes."""
        return {task: len(names) for task, names in self.classes.items()}

    def __len__(self) -> int:
        return self._length

    def parts(self, index: int) -> dict[str, int]:
        """What sample ``index`` is made of in the current epoch: name of a set to the index in it."""
        epoch = self.epoch if self.repair else 0
        if self._drawn[0] != epoch:
            self._drawn = epoch, self._draw(epoch)
        chosen = self._drawn[1][:, index].tolist()
        return {name: i for name, i in zip(self.datasets, chosen) if i >= 0}

    def source(self, index: int) -> str:
        return ' and '.join(self.datasets[name].source(i) for name, i in self.parts(index).items())

    def load(self, index: int) -> Sample:
        parts = self.parts(index)
        inputs, info, target = {}, {}, {n: torch.tensor(UNLABELLED) for n in self.datasets}
        for name, i in parts.items():
            dataset = self.datasets[name]
            dataset.epoch = self.epoch
            sample = dataset[i]
            target[name] = _label(sample.get('target'), dataset.source(i))
            inputs[name], info[name] = sample['inputs'][dataset.modalities[0]], sample.get('info', {})
        present = torch.tensor([name in inputs for name in self.datasets])
        return {'inputs': inputs, 'present': present, 'target': target, 'info': info}

    def presence(self) -> Tensor:
        """(N, M) bool: in mode ``'sum'`` each sample has one modality, else all."""
        return torch.from_numpy(self._drawn[1] >= 0).T

    def check_annotations(self) -> None:
        """Those of all sets."""
        for dataset in self.datasets.values():
            dataset.check_annotations()

    def _draw(self, epoch: int) -> np.ndarray:
        """(M, N): the index in each set of each sample, -1 where it has no part."""
        lengths = {name: len(d) for name, d in self.datasets.items()}
        drawn = np.full((len(lengths), self._length), -1)
        if self.mode == 'sum':
            stops = np.cumsum([*lengths.values()])
            for row, length, stop in zip(drawn, lengths.values(), stops):
                row[stop - length : stop] = np.arange(length)
            return drawn
        for k, (row, (name, length)) in enumerate(zip(drawn, lengths.items())):
            times, rest = divmod(self._length, length)
            more = shuffled(range(length), f'{self.seed}/{epoch}/{name}')[:rest]
            chosen = sorted([*np.tile(np.arange(length), times), *more])
            if k:  # one set may keep its order
                order = shuffled(range(self._length), f'{self.pairing}/{epoch}/{name}/pairs')
                chosen = np.asarray(chosen)[order]
            row[:] = chosen
        return drawn

    @classmethod
    def read_input(cls, name: str, file: Any, /, datasets: Mapping[str, Any], **arguments: Any) -> Tensor:
        """See `MultimodalDataset.read_input`: as the set of this name reads it."""
        if name not in datasets:
            raise unknown_name('modality of UnpairedMulti', name, datasets)
        part = dict(datasets[name])
        kind = DATASETS.find(part.pop('type'))
        own = part.get('modalities') or kind.all_modalities or (name,)
        return kind.read_input(own if isinstance(own, str) else own[0], file, **part)


def _label(target: Any, source: str) -> Tensor:
    if not isinstance(target, Tensor) or target.ndim or target.is_floating_point():
        raise InputError(f'{source}: UnpairedMulti takes one label a sample, not {type(target).__name__}.')
    return target
