"""What plugins share that train a host with a teacher: where it comes from, and which it was."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry import HOSTS, InputError, PluginWarning
from zoo.batch import Batch
from zoo.digest import weights_digest
from zoo.host import MultimodalHost

from .plugin import Plugin

Source = str | Mapping | nn.Module | Callable[[MultimodalHost], nn.Module]


class Taught(Plugin):
    """Keeps a frozen teacher: in eval mode, outside the module tree, so that it is neither trained nor saved.

    It needs the modalities of the data, not those of the host, and gets inputs as its own preprocessor normalises them.

    Args:
        teacher: A config file or the ``model`` part of one (`HOSTS`); a host; or a function that makes one from the
            trained host.
        checkpoint: The teacher's weights: ``best.pth`` or ``iter_<n>.pth``. Needed with a config.
        name: See `Plugin`.

    Raises:
        InputError: A teacher without weights, or one that can not be read.
    """

    min_modalities = 1
    needs_checkpoint = True  # a teacher that is described only
    trains_teacher = False  # the teacher is a peer: trained along, from its checkpoint where there is one

    def __init__(self, teacher: Source | None, checkpoint: str | None = None, name: str | None = None) -> None:
        super().__init__(name)
        if isinstance(teacher, (str, Mapping)) and not checkpoint and self.needs_checkpoint:
            raise InputError(f'{self.name} needs the checkpoint of its teacher: a random one teaches nothing.')
        if checkpoint and teacher is None:
            raise InputError(f'{self.name} has the checkpoint of a teacher, but no teacher: give its config.')
        object.__setattr__(self, 'source', teacher)  # a module would become part of the student
        self.checkpoint = checkpoint
        self.digest = ''
        self.classes: list[str] = []  # of the teacher's data, where its checkpoint names them

    def attach(self, host: MultimodalHost) -> None:
        """Build, load and freeze the teacher.

        Raises:
            InputError: The teacher is no host, or the host itself, or its checkpoint does not fit it.
        """
        super().attach(host)
        if self.source is None:
            return
        teacher = self._build(host)
        if not isinstance(teacher, MultimodalHost) or teacher is host:
            raise InputError(f'The teacher of {self.name} must be a host of its own, got {type(teacher).__name__}.')
        shared = [p.name for p in host.plugins.values() if getattr(p, 'teacher', None) is teacher]
        if shared and (self.trains_teacher or any(host.plugins[name].trains_teacher for name in shared)):
            raise InputError(f'{self.name} and {shared[0]} have the same teacher, which one trains and one freezes.')
        self.digest = weights_digest(teacher)
        self.keep_teacher(teacher)
        self.other_statistics = [m for m in teacher.modalities if not _same_statistics(host, teacher, m)]

    def keep_teacher(self, teacher: MultimodalHost) -> None:
        """Hold the teacher, frozen."""
        self.hold(teacher=teacher)

    @property
    def seen_modalities(self) -> Sequence[str]:
        """The modalities that the teacher gets."""
        return self.teacher.modalities

    def on_inputs(self, host: MultimodalHost, batch: Batch) -> Batch:
        """Nothing but a check: in a loop without a runner nobody may have called `prepare`.

        Raises:
            InputError: The batch has not even a name for a modality of the teacher, which would teach nothing.
        """
        if self.source is not None and (missing := [m for m in self.seen_modalities if m not in batch.modalities]):
            columns = [*batch.modalities, *missing]
            raise InputError(
                f'The teacher of {self.name} needs {", ".join(missing)}, the batch has {", ".join(batch.modalities)}: '
                f'call the host with all inputs and modalities={columns}.'
            )
        return batch

    def for_teacher(self, host: MultimodalHost, batch: Batch) -> Batch:
        """The batch with all that the data set delivered, normalised as the teacher's data were."""
        inputs = dict(batch.inputs)
        for m in self.other_statistics:
            if m in inputs:
                raw = host.data_preprocessor.restore(m, inputs[m])
                inputs[m] = self.teacher.data_preprocessor.standardise(m, raw)
        return batch.replace(inputs=inputs, present=batch.available)

    def prepare(self, dataset: Any) -> None:
        """Compare the training data with what the teacher needs and knows; a runner calls it before training.

        Raises:
            InputError: They lack a modality, or have other classes than those that the teacher was trained on.
        """
        if self.source is None:
            return
        delivered = getattr(dataset, 'modalities', None)
        if delivered and (missing := [m for m in self.seen_modalities if m not in delivered]):
            raise InputError(
                f'The teacher of {self.name} needs {", ".join(missing)}, the training data deliver '
                f'{", ".join(delivered)}.'
            )
        own = list(getattr(dataset, 'classes', None) or ())
        if self.classes and own and own != self.classes:
            place, theirs, ours = next(
                (i, a, b) for i, (a, b) in enumerate(zip([*self.classes, None], [*own, None])) if a != b
            )
            raise InputError(
                f'The teacher of {self.name} ({self.checkpoint}) was trained on other classes: class {place} was '
                f'{theirs!r} there and is {ours!r} here ({len(self.classes)} and {len(own)} classes).'
            )

    def get_extra_state(self) -> dict[str, Any]:
        """Which teacher it is: the name of its file, and a digest of its weights."""
        return {'checkpoint': Path(self.checkpoint).name if self.checkpoint else None, 'digest': self.digest}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Warn where training goes on with another teacher."""
        if state['digest'] != self.digest:
            warnings.warn(
                f'{self.name}: the weights of the teacher ({self.checkpoint}) are not those that training began with '
                f'({state["checkpoint"]}).',
                PluginWarning,
                stacklevel=2,
            )

    def _build(self, host: MultimodalHost) -> nn.Module:
        from zoo.engine import checkpoint as ckpt  # what follows leans on all of mmengine: only training needs it
        from zoo.engine.config import keep_structural, load_config
        from zoo.engine.cost import without_weights
        from zoo.engine.evaluate import build_host

        if self.checkpoint and not Path(self.checkpoint).is_file():
            described = f' with {self.source}' if isinstance(self.source, str) else ''
            raise InputError(
                f'No checkpoint {self.checkpoint!r} of the teacher of {self.name}: train it first{described}.'
            )
        saved = ckpt.load(self.checkpoint) if self.checkpoint else {}
        if isinstance(self.source, str):
            cfg = load_config(self.source)
            cfg.model = without_weights(cfg.model)
            keep_structural(cfg)
            teacher = build_host(cfg)
        elif isinstance(self.source, Mapping):
            teacher = HOSTS.build(without_weights(self.source))
        else:
            teacher = self.source if isinstance(self.source, nn.Module) else self.source(host)
        if self.checkpoint:
            ckpt.load_weights(teacher, saved, self.checkpoint)
            self.classes = list(saved.get('meta', {}).get('classes') or ())
        return teacher


def _same_statistics(host: MultimodalHost, teacher: MultimodalHost, modality: str) -> bool:
    """Whether both preprocessors do the same to a modality."""
    probe = torch.tensor([0.0, 1.0])[:, None].to(host.device)  # of one channel
    sizes = {len(v) for h in (host, teacher) for k, v in h.data_preprocessor.named_buffers() if k.endswith(modality)}
    probe = probe.expand(2, max(sizes, default=1))
    found = [h.data_preprocessor.to(host.device).standardise(modality, probe) for h in (host, teacher)]
    return torch.equal(*found)
