"""Attacks that follow the sign of the gradient with a fixed step: FGSM, BIM, PGD and MIM."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from registry import ATTACKS, InputError, PluginWarning, unknown_name

from .attack import Attack, check_count, check_positive
from .problem import Problem
from .scores import LOSSES

PROTOCOLS = ('paper',)


@ATTACKS.register_module()
class PGD(Attack):
    """Projected gradient descent from a random start (Madry et al., ICLR 2018): ``steps`` times
    ``x <- clip(x + alpha * sign(gradient))``, back into the ball and the range after each.

    Args:
        eps: See `Attack`.
        steps: Gradient steps; 0 returns the clean inputs.
        alpha: Length of a step on the scale of ``eps``: one number or one for each modality. By default a quarter of
            ``eps``, of more than ten steps ``2.5 / steps`` of it.
        random_start: Begin uniformly in the ball; else at the clean inputs.
        loss: ``'ce'``, the host's own loss; ``'margin'`` or ``'dlr'`` of class logits.
        protocol: ``'paper'``: the step of 10/255 that the MAIL paper prints for ``eps`` of 4/255, which most likely is
            a misprint of 1/255. It lands on a corner of the ball at every step.
        modalities: See `Attack`.
        bounds: See `Attack`.
        eot: See `Attack`.

    Raises:
        InputError: A value outside its range.
        NameNotFound: Another loss or protocol.
    """

    def __init__(
        self,
        eps: float | Mapping[str, float] = 4 / 255,
        steps: int = 10,
        alpha: float | Mapping[str, float] | None = None,
        random_start: bool = True,
        loss: str = 'ce',
        protocol: str | None = None,
        modalities: Sequence[str] | None = None,
        bounds: Any = (0, 1),
        eot: int = 1,
    ) -> None:
        super().__init__(eps, modalities, bounds, eot)
        check_count('steps', steps)
        if loss not in LOSSES:
            raise unknown_name('loss of attacks', loss, LOSSES)
        if protocol is not None:
            if protocol not in PROTOCOLS:
                raise unknown_name('protocol', protocol, PROTOCOLS)
            if alpha is not None:
                raise InputError(f"protocol='paper' sets alpha to 10/255, got alpha={alpha!r} too: leave one out.")
            alpha = 10 / 255
        for value in alpha.values() if isinstance(alpha, Mapping) else [] if alpha is None else [alpha]:
            check_positive('alpha', value)
        self.steps, self.random_start, self.loss, self.protocol = steps, random_start, loss, protocol
        self.alpha = dict(alpha) if isinstance(alpha, Mapping) else alpha
        names = next((v for v in (self.eps, self.alpha) if isinstance(v, dict)), [''])
        for m in names:
            e = self.eps[m] if isinstance(self.eps, dict) else self.eps
            length = self._alpha(m, e)
            if steps and e and length > e:
                of = f' of {m}' if m else ''
                warnings.warn(
                    f'{type(self).__name__}: alpha{of}, {length:.4g}, is larger than eps, {e:.4g}: after one step '
                    'every value is at the edge of the ball.',
                    PluginWarning,
                    stacklevel=2,
                )

    def by_modality(self) -> dict[str, Any]:
        """Also ``alpha``."""
        return {**super().by_modality(), 'alpha': self.alpha}

    def perturb(self, problem: Problem) -> Tensor:
        """The last iterate."""
        d = problem.zeros()
        if self.random_start and self.steps:
            d = problem.project(2 * problem.uniform() - 1)
        step = problem.spread({m: self._alpha(m, e) / e for m, e in problem.eps.items()})
        for _ in range(self.steps):
            d = problem.project(d + step * self.direction(problem, d).sign())
        return d

    def direction(self, problem: Problem, d: Tensor) -> Tensor:
        """Whose sign is followed at ``d``."""
        return problem.look(d, LOSSES[self.loss], count=False).gradient

    def _alpha(self, modality: str, eps: float) -> float:
        own = self.alpha.get(modality) if isinstance(self.alpha, dict) else self.alpha
        return eps * min(0.25, 2.5 / max(self.steps, 1)) if own is None else own


@ATTACKS.register_module()
class BIM(PGD):
    """The basic iterative method (Kurakin et al., 2017): `PGD` from the clean inputs.

    Args:
        eps: See `Attack`.
        steps: See `PGD`.
        alpha: See `PGD`.
        loss: See `PGD`.
        protocol: See `PGD`.
        modalities: See `Attack`.
        bounds: See `Attack`.
        eot: See `Attack`.
    """

    def __init__(
        self,
        eps: float | Mapping[str, float] = 4 / 255,
        steps: int = 10,
        alpha: float | Mapping[str, float] | None = None,
        loss: str = 'ce',
        protocol: str | None = None,
        modalities: Sequence[str] | None = None,
        bounds: Any = (0, 1),
        eot: int = 1,
    ) -> None:
        super().__init__(eps, steps, alpha, False, loss, protocol, modalities, bounds, eot)


@ATTACKS.register_module()
class FGSM(PGD):
    """The fast gradient sign method (Goodfellow et al., ICLR 2015): one step of ``eps`` from the clean inputs.

    Args:
        eps: See `Attack`.
        loss: See `PGD`.
        modalities: See `Attack`.
        bounds: See `Attack`.
        eot: See `Attack`.
    """

    def __init__(
        self,
        eps: float | Mapping[str, float] = 4 / 255,
        loss: str = 'ce',
        modalities: Sequence[str] | None = None,
        bounds: Any = (0, 1),
        eot: int = 1,
    ) -> None:
        super().__init__(eps, 1, None, False, loss, None, modalities, bounds, eot)

    def _alpha(self, modality: str, eps: float) -> float:
        return eps


@ATTACKS.register_module()
class MIM(BIM):
    """The momentum iterative method (Dong et al., CVPR 2018): `BIM` along
    ``g <- decay * g + gradient / mean|gradient|``, with a mean for each sample and modality.

    Args:
        eps: See `Attack`.
        steps: See `PGD`.
        alpha: See `PGD`.
        decay: Of the momentum.
        loss: See `PGD`.
        modalities: See `Attack`.
        bounds: See `Attack`.
        eot: See `Attack`.
    """

    def __init__(
        self,
        eps: float | Mapping[str, float] = 4 / 255,
        steps: int = 10,
        alpha: float | Mapping[str, float] | None = None,
        decay: float = 1.0,
        loss: str = 'ce',
        modalities: Sequence[str] | None = None,
        bounds: Any = (0, 1),
        eot: int = 1,
    ) -> None:
        super().__init__(eps, steps, alpha, loss, None, modalities, bounds, eot)
        if not isinstance(decay, (int, float)) or not 0 <= decay <= 1:
            raise InputError(f'decay must be in [0, 1], got {decay!r}.')
        self.decay = decay

    def perturb(self, problem: Problem) -> Tensor:
        """The last iterate; the momentum begins at zero."""
        d = momentum = problem.zeros()
        step = problem.spread({m: self._alpha(m, e) / e for m, e in problem.eps.items()})
        for _ in range(self.steps):
            slopes = problem.split(self.direction(problem, d))
            sizes = {m: x.flatten(1).abs().mean(1).clamp(min=torch.finfo(x.dtype).tiny) for m, x in slopes.items()}
            momentum = self.decay * momentum + problem.join(
                {m: x.flatten(1) / sizes[m][:, None] for m, x in slopes.items()}
            )
            d = problem.project(d + step * momentum.sign())
        return d
