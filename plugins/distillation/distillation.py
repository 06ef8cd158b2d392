"""What plugins share that distil what a teacher knows into a host: pairs of branches, features, logits, rows."""

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from registry import InputError, unknown_name
from zoo.batch import Batch, Outputs
from zoo.host import MultimodalHost
from zoo.precision import full_precision, widened
from zoo.rows import Rows

from ..taught import Source, Taught
from .places import Place


@dataclass
class Knowledge:
    """What a network knows of the rows that count, in single precision at least.

    Attributes:
        features: (b, D), (b, D, L) or (b, D, H, W), or a list of these; None where nobody asked for them.
        logits: (b, K, ...); None where nobody asked for them.
        task: What the network is trained on already, `Knowledge` of a peer only: losses by name.
    """

    features: Tensor | None = None
    logits: Tensor | None = None
    task: dict[str, Tensor] | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> 'Knowledge':
        """The same with each tensor of features and logits changed."""
        features, logits = (tree_map_only(Tensor, function, x) for x in (self.features, self.logits))
        return replace(self, features=features, logits=logits)


@dataclass
class Pair:
    """Who teaches whom; None stands for all modalities of a host."""

    teacher: str | None
    student: str | None
    key: str
    teacher_place: Place | None = None
    student_place: Place | None = None

    @property
    def name(self) -> str:
        """Of what learns along."""
        return self.student or 'fused'


class Distillation(Taught):
    """Base of plugins that distil; a subclass defines `terms`, and `make_parts` where it learns something itself.

    The student is the host, or one modality of it. The teacher is a host of its own (`Taught`), frozen and seen without
    gradient; or, without ``teacher``, another modality of the same host, whose features and unimodal predictions then
    teach as they are in this step, detached: that is ours, as is ``mutual``.

    Only samples count that have the teacher's modalities delivered and the student's present; a teacher's pass takes
    these rows alone. Without any, all terms are zero, and so are their gradients. Everything is computed in single
    precision at least, whatever autocast says.

    Args:
        teacher: See `Taught`; None for a modality of the host itself.
        checkpoint: See `Taught`.
        weight: What the terms are multiplied by.
        teacher_modality: Which modality teaches. A teacher of several sees this one alone; None for all that it has.
        student_modality: Which modality of the host learns: its features, and its unimodal predictions where the host
            has others. None for its only one, else for what is fused and the prediction of all.
        features: Where the student's features are read, see `Place`.
        teacher_features: The same of the teacher; None for the student's.
        mutual: Without a teacher: each of the two modalities also teaches the other.
        name: See `Plugin`.

    Raises:
        InputError: A weight out of range, or modalities that are missing or should not be there.
    """

    reads: frozenset[str] = frozenset({'features'})  # of 'features' and 'logits'

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__signature__ = whole_signature(cls)

    def __init__(
        self,
        teacher: Source | None = None,
        checkpoint: str | None = None,
        weight: float = 1.0,
        teacher_modality: str | None = None,
        student_modality: str | None = None,
        features: str | None = None,
        teacher_features: str | None = None,
        mutual: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(teacher, checkpoint, name)
        self.weight = check_weight('weight', weight)
        if teacher is None and (teacher_modality is None or student_modality is None):
            raise InputError(
                f'{self.name} needs a teacher (config and checkpoint), or else the teacher_modality and the '
                'student_modality of the host itself.'
            )
        if mutual and (teacher is not None or self.trains_teacher):
            raise InputError(
                f'{self.name}: mutual=True is for two modalities of one host, without a teacher, and for methods that '
                'do not teach both ways anyway.'
            )
        if teacher is None and teacher_modality == student_modality:
            raise InputError(f'{self.name}: {student_modality} can not teach itself.')
        self.teacher_modality, self.student_modality = teacher_modality, student_modality
        self.place, self.teacher_place, self.mutual = features, teacher_features or features, mutual
        if 'logits' in self.reads:
            alone = {'unimodal'} if teacher is None else set()
            self.needs = frozenset({'sample_losses', *alone})

    # ---- what a subclass defines

    def make_parts(self, student: int, teacher: int, classes: int) -> nn.Module | None:
        """What learns along, for features of these widths (0 where none are read) and K classes (0 without any).

        Raises:
            InputError: The method does not work with these.
        """
        return None

    def make_place(self, host: MultimodalHost, modality: str | None, name: str | None, who: str) -> Any:
        """Where features are read: a `Place`, or something with its ``width``, ``encoded`` and ``read``."""
        return Place(host, modality, name, who)

    def terms(self, parts: nn.Module | None, student: Knowledge, teacher: Knowledge, target: Any) -> dict[str, Tensor]:
        """Losses by name, finite for any rows.

        Args:
            parts: What `make_parts` made.
            student: What is trained.
            teacher: The same rows, detached unless the teacher is trained along.
            target: Of these rows.
        """
        raise NotImplementedError

    # ---- how it works

    def attach(self, host: MultimodalHost) -> None:
        """Build the teacher, find what is read, make what learns along.

        Raises:
            InputError: Teacher and host do not fit: classes, modalities, features.
        """
        super().attach(host)
        self.ignore_index = getattr(host, 'ignore_index', -100)
        student = self.student_modality or (host.modalities[0] if len(host.modalities) == 1 else None)
        teaching = host if self.source is None else self.teacher
        pairs = [(self.teacher_modality, student)]
        if self.source is not None and self.teacher_modality is None and len(teaching.modalities) == 1:
            pairs = [(teaching.modalities[0], student)]
        for who, m, one in (('teacher', pairs[0][0], teaching), ('student', student, host)):
            if m is not None and m not in one.modalities:
                raise unknown_name(f'modality of the {who} ({who}_modality)', m, one.modalities)
        classes = self._classes(host, teaching)
        alone = student is not None and len(host.modalities) > 1
        if 'logits' in self.reads and alone and 'unimodal' not in host.offers:
            how = host.offers_with.get('unimodal')
            raise InputError(
                f'{self.name}: {student} has no predictions of its own in this {type(host).__name__}'
                f'{f"; it would with {how}" if how else ""}.'
            )
        self.alone = alone
        self.pairs = []
        for a, b in [*pairs, *(pairs[0][::-1],) * self.mutual]:
            pair = Pair(a, b, f'_{b}' if self.mutual else '')
            if 'features' in self.reads:
                pair.student_place = self.make_place(host, b, self.place, 'student')
                pair.teacher_place = self.make_place(teaching, a, self.teacher_place, 'teacher')
            self.pairs.append(pair)
        self.parts = nn.ModuleDict()
        for pair in self.pairs:
            widths = [p.width if p else 0 for p in (pair.student_place, pair.teacher_place)]
            if (part := self.make_parts(*widths, classes)) is not None:
                self.parts[pair.name] = part

    def keep_teacher(self, teacher: MultimodalHost) -> None:
        """Hold the teacher, frozen; a peer is trained, and saved until training ends."""
        if self.trains_teacher:
            self.add_module('teacher', teacher)  # past the check that keeps a plugin from storing its own host
        else:
            super().keep_teacher(teacher)

    def on_losses(
        self, host: MultimodalHost, batch: Batch, outputs: Outputs, losses: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Add the terms of each pair."""
        losses = dict(losses)
        for pair in self.pairs:
            valid = self._valid(host, batch, pair)
            rows = Rows(valid, batch.device)
            student = self._student(host, outputs, pair.student, pair.student_place, rows)
            if self.source is None:
                teacher = self._student(host, outputs, pair.teacher, pair.teacher_place, rows)
            else:
                teacher = self._taught(host, batch, valid, pair)
            if not self.trains_teacher:
                teacher = teacher.map(torch.detach)
            target = take_target(batch.target, rows)
            with full_precision(batch.device):
                terms = self.terms(
                    dict(self.parts.items()).get(pair.name), student.map(widened), teacher.map(widened), target
                )
            terms = {k: self.weight * v for k, v in terms.items()}
            for k, v in {**terms, **(teacher.task or {})}.items():
                key = f'{k}{pair.key}'
                key = f'{key}_{self.name}' if key in losses else key  # another distillation has it
                losses[key] = v if rows.count else 0 * v
        return losses

    def _classes(self, host: MultimodalHost, teacher: MultimodalHost) -> int:
        """K of host and teacher; 0 where the host has no single number of classes."""
        own = getattr(host, 'num_classes', None)
        own = own if isinstance(own, int) else 0
        if 'logits' in self.reads:
            theirs = getattr(teacher, 'num_classes', None)
            if not own:
                raise InputError(
                    f'{self.name} distils the logits of one task, which {type(host).__name__} does not have.'
                )
            if host.task != teacher.task:
                raise InputError(f'{self.name}: the teacher does {teacher.task}, the student {host.task}.')
            if theirs != own:
                raise InputError(
                    f'{self.name}: the teacher, {type(teacher).__name__}, knows {theirs} classes, the student {own}.'
                )
        return own

    def _valid(self, host: MultimodalHost, batch: Batch, pair: Pair) -> Tensor:
        """(B,) bool on the CPU: the rows that count."""
        present = batch.view(host.modalities).present
        valid = torch.ones(len(batch), dtype=torch.bool)
        if pair.student is not None:
            valid = valid & present[:, host.modalities.index(pair.student)]
        if self.source is None:
            return valid & present[:, host.modalities.index(pair.teacher)]
        return valid & batch.view(self.seen_modalities).available.all(1)

    @property
    def seen_modalities(self) -> Sequence[str]:
        """The modalities that a teacher of its own gets."""
        return self.teacher.modalities if self.teacher_modality is None else (self.teacher_modality,)

    def _student(
        self, host: MultimodalHost, outputs: Outputs, modality: str | None, place: Place | None, rows: Rows
    ) -> Knowledge:
        """What the host knows of the rows, as one modality or as a whole."""
        known = Knowledge()
        if place is not None:
            known.features = tree_map_only(Tensor, rows.take, place.read(outputs))
        if 'logits' in self.reads:
            logits = host.unimodal(outputs)[modality] if self.alone else outputs.prediction
            known.logits = rows.take(logits)
        return known

    def _taught(self, host: MultimodalHost, batch: Batch, valid: Tensor, pair: Pair) -> Knowledge:
        """What the teacher knows of the rows; where none count, of a row of zeros."""
        some, seen = bool(valid.any()), self.seen_modalities
        if not valid.all():
            batch = batch.select(valid if some else torch.tensor([0]))
        if not some:
            inputs = {m: batch.inputs[m] if m in batch.inputs else self.teacher.blank(m, batch) for m in seen}
            zeros = {m: x.where(x.new_zeros((), dtype=torch.bool), x.new_zeros(())) for m, x in inputs.items()}
            ones = torch.ones(1, len(seen), dtype=torch.bool)
            batch = Batch(zeros, ones, tuple(seen), batch.target, info=batch.info)
        batch = batch.view(seen)
        batch = self.teacher.own(self.for_teacher(host, batch))
        place = pair.teacher_place
        enough = self.reads == {'features'} and not self.trains_teacher and place.encoded and self.teacher.separable
        with nullcontext() if self.trains_teacher else torch.no_grad():
            if enough:  # nothing needs to be fused
                outputs = Outputs(None, self.teacher.features(batch), {})
            else:
                outputs = self.teacher.run(batch)
            task = self.teacher.losses(outputs, batch) if self.trains_teacher else {}
        return Knowledge(
            None if place is None else place.read(outputs),
            outputs.prediction if 'logits' in self.reads else None,
            {f'{k}_teacher': v for k, v in task.items()},
        )


def whole_signature(cls: type) -> inspect.Signature:
    """What a class takes whose constructor passes keywords on to its parent's: its own arguments and those."""
    found: dict[str, inspect.Parameter] = {}
    for c in (c for c in cls.__mro__ if '__init__' in vars(c)):
        parameters = list(inspect.signature(vars(c)['__init__']).parameters.values())[1:]
        own = {p.name: p for p in parameters if p.kind is not p.VAR_KEYWORD}
        found = {**own, **found}
        if len(own) == len(parameters):
            break
    return inspect.Signature(sorted(found.values(), key=lambda p: p.kind))


def check_weight(name: str, value: Any, least: float = 0.0) -> float:
    """A finite number of at least ``least``.

    Raises:
        InputError: It is none.
    """
    if not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise InputError(f'{name} must be a finite number of at least {least:g}, got {value!r}.')
    return value


def take_target(target: Any, rows: Rows) -> Any:
    """The rows of a target (B, ...); anything else is None: no method reads it."""
    return rows.take(target) if isinstance(target, Tensor) else None


def counted(target: Tensor, ignore_index: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A target with 0 where it is to be ignored, and the weight of each element: 0 there, else 1."""
    counts = target != ignore_index
    return target.where(counts, 0), counts.to(dtype)


def alike(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Features of one shape but for the width: the teacher's map is brought to the size of the student's (bilinear);
    tokens of different number, and maps beside vectors, are averaged. Tokens that are all zero are padding.

    Raises:
        InputError: Unequal batches.
    """
    if len(student) != len(teacher):
        raise InputError(f'Student and teacher have batches of {len(student)} and {len(teacher)}.')
    if student.ndim == teacher.ndim and student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    if student.ndim == teacher.ndim > 3:
        mode = 'bilinear' if student.ndim == 4 else 'trilinear'
        return student, F.interpolate(teacher, student.shape[2:], mode=mode, align_corners=False)
    return averaged(student), averaged(teacher)


def averaged(x: Tensor) -> Tensor:
    """(B, D, ...) -> (B, D): the mean over all places, or over the tokens (B, D, L) that are not all zero."""
    if x.ndim != 3:
        return x.flatten(2).mean(2) if x.ndim > 2 else x
    real = x.detach().ne(0).any(1, keepdim=True)
    return (x * real).sum(2) / real.sum(2).clamp(min=1)


def as_rows(logits: Tensor) -> Tensor:
    """Logits (b, K, ...) as rows (N, K): one for each sample, pixel or voxel."""
    return logits.movedim(1, -1).reshape(-1, logits.shape[1])


def mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean of values (N,), weighted by ``weights`` (N,); 0 where these are all 0."""
    if weights is None:
        return values.mean()
    total = weights.sum()
    return (values * weights).sum() / total.where(total > 0, 1)
