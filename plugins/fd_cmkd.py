"""FD-CMKD: cross-modal distillation with low and high frequencies of features apart (Liu et al., AAAI 2026)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import PLUGINS, InputError, unknown_name
from zoo.fusion import Pointwise
from zoo.host import MultimodalHost
from zoo.precision import full_precision, widened

from .distillation import Distillation
from .distillation.distillation import Knowledge, alike, averaged, check_weight, counted, mean

AXES = ('channel', 'spatial')
DC = ('drop', 'low')
REDUCTIONS = ('mean', 'row_sum')
HEADS = ('own', 'shared', 'none')
PROJECTIONS = ('student', 'none')
CONSTANT = 1e-6  # a vector that is shorter than this behind its mean has no direction


def cut(width: int, threshold: float = 0.5) -> int:
    """The last low bin of the ``width // 2`` that are not the mean: the share ``threshold`` of them, at least one and
    not all.

    >>> cut(512), cut(512, 1 / 4), cut(512, 1 / 3)
    (128, 64, 85)
    """
    bins = width // 2
    return min(max(math.floor(bins * threshold + 1e-9), 1), bins - 1)


def frequency_split(
    x: Tensor, threshold: float = 0.5, dc: str = 'drop', dim: int | Sequence[int] = -1
) -> tuple[Tensor, Tensor]:
    """The parts of low and of high frequency of real vectors (Eq. 1 to 3).

    Along one dimension these are the bins 1 to `cut` of its real Fourier transform and those above, up to and with
    Nyquist's. The first half of the bins of a full transform, read literally, is not real, and its real part separates
    nothing. Frequency along channels depends on their order, which is arbitrary.

    >>> low, high = frequency_split(torch.randn(2, 7))
    >>> low.shape, high.shape
    (torch.Size([2, 7]), torch.Size([2, 7]))

    Args:
        x: Real, of any shape; half precision is computed in single.
        threshold: In (0, 1): the share of the frequencies that is low.
        dc: ``'drop'``: the mean is in neither part, and they add up to ``x - mean``; ``'low'``: it is in the low one.
        dim: Along which dimension, of at least 4 entries; or two, height and width, whose low part has both
            frequencies at ``threshold / 2`` cycles for each place at most: that is no variant of the paper's.

    Returns:
        Low and high, each of the shape of ``x``.

    Raises:
        InputError: Another threshold, integers or complex numbers, or fewer than 4 entries (2 of each of two).
        NameNotFound: Another ``dc``.
    """
    _check(x, threshold, dc, dim)
    with full_precision(x.device):
        x = widened(x)
        low = _low(x, threshold, dim)
        return (low - x.mean(dim, keepdim=True) if dc == 'drop' else low), x - low


def _check(x: Tensor, threshold: float, dc: str, dim: int | Sequence[int]) -> None:
    if not isinstance(threshold, (int, float)) or not 0 < threshold < 1:
        raise InputError(f'threshold must be in (0, 1), got {threshold!r}.')
    if dc not in DC:
        raise unknown_name('place of the mean (dc)', dc, DC)
    if not x.is_floating_point():
        raise InputError(f'Features must be real floating point numbers, got {x.dtype} of shape {tuple(x.shape)}.')
    sizes, least = ([x.shape[dim]], 4) if isinstance(dim, int) else ([x.shape[d] for d in dim], 2)
    if min(sizes) < least:
        raise InputError(
            f'To split frequencies takes at least {least} entries along dimension {dim}, got shape {tuple(x.shape)}.'
        )


def _low(x: Tensor, threshold: float, dim: int | Sequence[int]) -> Tensor:
    """The low part with the mean."""
    if isinstance(dim, int):
        spectrum = torch.fft.rfft(x, dim=dim).narrow(dim, 0, cut(x.shape[dim], threshold) + 1)
        return torch.fft.irfft(spectrum, n=x.shape[dim], dim=dim)  # the bins that are not there are zero
    dim, size = tuple(dim), [x.shape[d] for d in dim]
    vertical, horizontal = torch.fft.fftfreq(size[0]), torch.fft.rfftfreq(size[1])
    near = torch.maximum(vertical.abs()[:, None], horizontal[None]) <= threshold / 2 + 1e-9
    spectrum = torch.fft.rfft2(x.movedim(dim, (-2, -1))) * near.to(x.device, non_blocking=True)
    return torch.fft.irfft2(spectrum, s=size).movedim((-2, -1), dim)


def standardise(x: Tensor, dim: int | Sequence[int] = -1) -> Tensor:
    """Vectors less their mean, of length 1 (Eq. 4): (..., D) -> (..., D). Those that do not vary are zero, without
    gradient.

    Args:
        x: Real.
        dim: Along which dimensions a vector lies.
    """
    x = x - x.mean(dim, keepdim=True)
    length = x.detach().square().sum(dim, keepdim=True).sqrt()
    x = torch.where(length >= CONSTANT, x, 0)
    # the mask comes first: the root has no slope at 0
    return x / torch.where(length >= CONSTANT, x, 1).square().sum(dim, keepdim=True).sqrt()


def log_compress(x: Tensor) -> Tensor:
    """``sign(x) ln(1 + |x|)``, with slope ``1 / (1 + |x|)`` (Eq. 5).

    >>> log_compress(torch.tensor([-3.0, 0.0, 1.0]))
    tensor([-1.3863,  0.0000,  0.6931])
    """
    return x.sign() * x.abs().log1p()


def band_loss(
    student: Tensor,
    teacher: Tensor,
    scale: bool = True,
    log: bool = False,
    reduction: str = 'mean',
    dim: int | Sequence[int] = -1,
) -> Tensor:
    """The mean squared difference of one band of two features (Eq. 6).

    Vectors that do not vary, or hold a value that is not finite, in one of both count with a difference of zero.

    Args:
        student: Of any shape.
        teacher: Of the same shape.
        scale: `standardise` both first.
        log: `log_compress` both then.
        reduction: ``'mean'``, over all entries, or ``'row_sum'``: the sum of each vector, averaged.
        dim: Along which dimensions a vector lies.
    """
    with torch.no_grad():
        lengths = [(x - x.mean(dim, keepdim=True)).square().sum(dim, keepdim=True) for x in (student, teacher)]
        least = CONSTANT**2 if scale else -1.0
        counts = torch.logical_and(*((n >= least) & n.isfinite() for n in lengths))
    student, teacher = (torch.where(counts, x, 0) for x in (student, teacher))
    if scale:
        student, teacher = standardise(student, dim), standardise(teacher, dim)
    if log:
        student, teacher = log_compress(student), log_compress(teacher)
    loss = (student - teacher).square().mean()
    return loss if reduction == 'mean' else loss * math.prod(student.shape[d] for d in _dims(dim))


def _dims(dim: int | Sequence[int]) -> Sequence[int]:
    return (dim,) if isinstance(dim, int) else dim


def low_frequency_loss(
    student: Tensor,
    teacher: Tensor,
    threshold: float = 0.5,
    dc: str = 'drop',
    scale: bool = True,
    log: bool = False,
    reduction: str = 'mean',
    dim: int | Sequence[int] = -1,
) -> Tensor:
    """The mean squared difference of the standardised low frequencies of two features (Eq. 6).

    It does not change with scale and shift of either feature; for each row it is at most ``4 / D``.

    Args:
        student: (..., D), raw.
        teacher: Of the same shape.
        threshold: See `frequency_split`.
        dc: See `frequency_split`; without ``scale`` the mean always belongs to the low part.
        scale: See `band_loss`.
        log: See `band_loss`.
        reduction: See `band_loss`.
        dim: See `frequency_split`.

    Raises:
        InputError: Features of different shape; see `frequency_split`.
    """
    return _loss(0, student, teacher, threshold, dc, scale, log, reduction, dim)


def high_frequency_loss(
    student: Tensor,
    teacher: Tensor,
    threshold: float = 0.5,
    dc: str = 'drop',
    scale: bool = True,
    log: bool = True,
    reduction: str = 'mean',
    dim: int | Sequence[int] = -1,
) -> Tensor:
    """The same of the high frequencies, whose logarithm is compared (Eq. 6). See `low_frequency_loss`."""
    return _loss(1, student, teacher, threshold, dc, scale, log, reduction, dim)


def _loss(band: int, student: Tensor, teacher: Tensor, threshold: float, dc: str, scale: bool, *rest: Any) -> Tensor:
    log, reduction, dim = rest
    if student.shape != teacher.shape:
        raise InputError(
            f'Student and teacher need features of one shape, got {tuple(student.shape)} and {tuple(teacher.shape)}.'
        )
    if reduction not in REDUCTIONS:
        raise unknown_name('reduction', reduction, REDUCTIONS)
    s, t = (frequency_split(x, threshold, dc if scale else 'low', dim)[band] for x in (student, teacher))
    with full_precision(s.device):
        return band_loss(s, t, scale, log, reduction, dim)


class Heads(nn.Module):
    """What FD-CMKD learns beside the student: a layer to the teacher's width, and classifiers of the bands.

    Args:
        student: Width of the student's features.
        teacher: Width of the teacher's, which the bands have.
        classes: K; 0 for no classifiers.
        bands: Their names.
        align: Whether there are classifiers that teacher and student share.
        own: Whether the student has some of its own.
    """

    def __init__(self, student: int, teacher: int, classes: int, bands: Sequence[str], align: bool, own: bool) -> None:
        super().__init__()
        self.project = Pointwise(student, teacher) if student != teacher else nn.Identity()
        self.shared = nn.ModuleDict({b: nn.Linear(teacher, classes) for b in bands if align})
        self.own = nn.ModuleDict({b: nn.Linear(teacher, classes) for b in bands if own})


@PLUGINS.register_module()
class FDCMKD(Distillation):
    """Frequency-decoupled cross-modal distillation (Liu et al., AAAI 2026).

    Features of teacher and student, from before their last rectifier, are split along the channels into low and high
    frequencies, standardised and compared: ``loss_low``, ``loss_high`` (logarithms). Classifiers that both share align
    their spaces (``loss_align``, Eq. 7), classifiers of the student's bands train these (``loss_task_low``,
    ``loss_task_high``, Eq. 8). The host's own ``loss_task`` is the first part of Eq. 8. Inference uses none of it.

    Per vector of D channels a band's term is at most ``4 / D``, beside cross-entropies of the order of ``ln K``:
    ``lambda_low``, ``lambda_high`` and ``reduction`` are there to change that; nothing is rescaled in silence. See
    docs/distillation.md for what the frequencies of channels can mean and what not.

    Args:
        threshold: See `frequency_split`.
        dc: See `frequency_split`.
        lambda_low: Weight of ``loss_low``.
        lambda_high: Weight of ``loss_high``.
        frequency: False compares the features unsplit (``loss_features``), with one shared classifier: an ablation.
        scale: Standardise; False is an ablation.
        log: Compare logarithms of the high frequencies; False is an ablation.
        align: Add ``loss_align``; None: on hosts that give each sample one class. On these features of maps are
            averaged over places for all classifiers.
        task_heads: Who classifies the student's bands: ``'own'`` classifiers, those ``'shared'`` with the teacher
            (whose terms then count twice), or ``'none'``. Without ``align`` on a host that labels places, none.
        rectify: A ReLU in front of the classifiers.
        axis: ``'channel'``, or ``'spatial'``, of maps only: see `frequency_split`.
        projection: Where widths differ: a linear layer on the ``'student'`` side, or ``'none'``, which refuses.
        reduction: See `band_loss`.
        pool: Maps are averaged to this (H, W) first; None leaves them.
        teaching: See `Distillation`.

    Raises:
        InputError: A value out of range, features that are too narrow, widths that differ; see `Distillation`.
        NameNotFound: An unknown choice.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        dc: str = 'drop',
        lambda_low: float = 1.0,
        lambda_high: float = 1.0,
        frequency: bool = True,
        scale: bool = True,
        log: bool = True,
        align: bool | None = None,
        task_heads: str = 'own',
        rectify: bool = True,
        axis: str = 'channel',
        projection: str = 'student',
        reduction: str = 'mean',
        pool: Sequence[int] | None = None,
        **teaching: Any,
    ) -> None:
        super().__init__(**teaching)
        for kind, value, known in (
            ('place of the mean (dc)', dc, DC),
            ('kind of classifiers (task_heads)', task_heads, HEADS),
            ('axis', axis, AXES),
            ('projection', projection, PROJECTIONS),
            ('reduction', reduction, REDUCTIONS),
        ):
            if value not in known:
                raise unknown_name(kind, value, known)
        if not isinstance(threshold, (int, float)) or not 0 < threshold < 1:
            raise InputError(f'threshold must be in (0, 1), got {threshold!r}.')
        self.threshold, self.dc, self.scale, self.log_high = threshold, dc, scale, log
        self.lambdas = {'low': check_weight('lambda_low', lambda_low), 'high': check_weight('lambda_high', lambda_high)}
        self.frequency, self.align, self.task_heads = frequency, align, task_heads
        self.rectify, self.projection, self.reduction = rectify, projection, reduction
        self.dim: int | tuple[int, ...] = 1 if axis == 'channel' else (2, 3)
        pair = isinstance(pool, Sequence) and len(pool) == 2 and all(isinstance(n, int) and n > 0 for n in pool)
        if pool is not None and not pair:
            raise InputError(f'pool must be two integers (H, W) of at least 1, got {pool!r}.')
        self.size = None if pool is None else tuple(pool)

    def attach(self, host: MultimodalHost) -> None:
        """See `Distillation`.

        Raises:
            InputError: ``align`` on a host that does not give each sample one class.
        """
        single = host.task == 'classification' and isinstance(getattr(host, 'num_classes', None), int)
        if self.align and not single:
            raise InputError(
                f'{self.name}: align=True needs a host that gives each sample one class, as {type(host).__name__} does '
                'not.'
            )
        self.aligns = single if self.align is None else self.align
        self.classifies = single and self.frequency and self.task_heads != 'none'
        super().attach(host)

    def make_parts(self, student: int, teacher: int, classes: int) -> nn.Module:
        """The layer to the teacher's width, the classifiers."""
        if student != teacher and self.projection == 'none':
            raise InputError(
                f"{self.name}: the student's features are {student} wide, the teacher's {teacher}; "
                "projection='student' learns a layer between."
            )
        if self.dim == 1 and teacher < 4:
            raise InputError(f'{self.name} needs features of at least 4 channels, the teacher gives {teacher}.')
        bands = tuple(self.lambdas) if self.frequency else ('features',)
        shared = self.aligns or (self.classifies and self.task_heads == 'shared')
        return Heads(student, teacher, classes, bands, shared, self.classifies and self.task_heads == 'own')

    def terms(self, parts: Heads, student: Knowledge, teacher: Knowledge, target: Tensor | None) -> dict[str, Tensor]:
        """Losses of bands, of shared classifiers and of the student's."""
        s, t = alike(parts.project(student.features), teacher.features)
        if self.dim != 1 and s.ndim != 4:
            raise InputError(f"{self.name}: axis='spatial' takes maps, the features are {tuple(s.shape)}.")
        finite = torch.stack([x.detach().flatten(1).isfinite().all(1) for x in (s, t)]).all(0)
        self.log(skipped=(~finite).sum().float())
        s, t = (torch.where(finite.view(-1, *[1] * (x.ndim - 1)), x, 0) for x in (s, t))
        if self.size and s.ndim == 4:
            s, t = (F.adaptive_avg_pool2d(x, self.size) for x in (s, t))
        terms = {}
        if not self.frequency:
            bands = {'features': (s, t)}
            terms['loss_features'] = self._band('features', s, t)
        else:
            split = [frequency_split(x, self.threshold, self.dc, self.dim) for x in (s, t)]
            bands = {name: (a, b) for name, a, b in zip(self.lambdas, *split)}
            compared = bands
            if not self.scale and self.dc == 'drop':  # the mean is part of the scale
                means = [x.mean(self.dim, keepdim=True) for x in (s, t)]
                low = tuple(x + m for x, m in zip(bands['low'], means))
                compared = {**bands, 'low': low}
            for name, (a, b) in compared.items():
                terms[f'loss_{name}'] = self.lambdas[name] * self._band(name, a, b)
        if self.aligns:
            pairs = ((parts.shared[name], x) for name, both in bands.items() for x in both)
            terms['loss_align'] = sum(self._classify(head, x, target, finite) for head, x in pairs)
        if self.classifies:
            heads = parts.shared if self.task_heads == 'shared' else parts.own
            for name, (x, _) in bands.items():
                terms[f'loss_task_{name}'] = self._classify(heads[name], x, target, finite)
        return terms

    def _band(self, name: str, student: Tensor, teacher: Tensor) -> Tensor:
        return band_loss(student, teacher, self.scale, name == 'high' and self.log_high, self.reduction, self.dim)

    def _classify(self, head: nn.Module, x: Tensor, target: Tensor, finite: Tensor) -> Tensor:
        """Cross-entropy over the rows that have a label and finite features."""
        x = averaged(x)
        logits = head(x.relu() if self.rectify else x)
        target, counts = counted(target, self.ignore_index, logits.dtype)
        return mean(F.cross_entropy(logits, target, reduction='none'), counts * finite)
