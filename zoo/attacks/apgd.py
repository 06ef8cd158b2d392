"""APGD: gradient ascent that chooses its step size by itself."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from registry import ATTACKS, unknown_name

from .attack import Attack, check_count
from .problem import Problem
from .scores import LOSSES, Loss, targeted_dlr

TARGETED = 'targeted'


def checkpoints(steps: int) -> list[int]:
    """The iterations after which `APGD` looks at its step size: shares 0, 0.22 of them, then gaps that shrink by 0.03
    down to 0.06.

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    marks = (math.ceil(round(s * steps, 9)) for s in shares[1:])
    return sorted({w for w in marks if w <= steps})


@ATTACKS.register_module()
class APGD(Attack):
    """Auto-PGD (Croce & Hein, ICML 2020, Alg. 1): steps with momentum, of ``2 eps`` at first. At `checkpoints` a sample
    whose loss rose in less than 75% of the steps, or whose best loss and step did not change, halves its step and
    restarts from its best point.

    It returns of each sample the point with the fewest hits (`zoo.attacks.scores.hits`), and of these the one with the
    largest loss.

    Args:
        eps: See `Attack`.
        steps: Gradient steps.
        loss: ``'ce'``, the host's own loss; ``'dlr'``; ``'margin'``; or ``'targeted'``: the targeted DLR towards one
            wrong class after the other, on samples that still stand (APGD-T).
        targets: Wrong classes that ``'targeted'`` tries, the most likely first; all where there are fewer.
        restarts: Runs from other random starts, on samples that still stand.
        modalities: See `Attack`.
        bounds: See `Attack`.
        eot: See `Attack`.

    Raises:
        InputError: A value outside its range.
        NameNotFound: Another loss.
    """

    per_sample = True

    def __init__(
        self,
        eps: float | Mapping[str, float] = 4 / 255,
        steps: int = 100,
        loss: str = 'ce',
        targets: int = 9,
        restarts: int = 1,
        modalities: Sequence[str] | None = None,
        bounds: Any = (0, 1),
        eot: int = 1,
    ) -> None:
        super().__init__(eps, modalities, bounds, eot)
        if loss not in (*LOSSES, TARGETED):
            raise unknown_name('loss of APGD', loss, [*LOSSES, TARGETED])
        check_count('steps', steps)
        check_count('targets', targets, 1)
        check_count('restarts', restarts, 1)
        self.steps, self.loss, self.targets, self.restarts = steps, loss, targets, restarts

    @property
    def name(self) -> str:
        """With its loss: ``apgd-ce``, ``apgd-t``."""
        return f'apgd-{"t" if self.loss == TARGETED else self.loss}'

    def perturb(self, problem: Problem) -> Tensor:
        """One run for each restart and target class."""
        if self.steps == 0:
            return problem.zeros()
        losses = [partial(LOSSES.__getitem__, self.loss)]
        if self.loss == TARGETED:
            most = max((t.logits.shape[1] for t in problem.tasks()), default=2)
            losses = [partial(targeted_dlr, rank) for rank in range(min(self.targets, most - 1))]
        attempts = [lambda part, loss=loss: self.climb(part, loss()) for _ in range(self.restarts) for loss in losses]
        return attempts[0](problem) if len(attempts) == 1 else problem.worst_of(attempts)

    def climb(self, problem: Problem, loss: Loss) -> Tensor:
        """One run."""
        d = previous = problem.project(2 * problem.uniform() - 1)
        value, hits, slope = problem.look(d, loss)
        found, fewest, largest = d, hits, value  # what is returned
        best, best_value, best_slope = d, value, slope  # where restarts begin
        step = torch.full_like(value[:, None], 2.0)
        rises = torch.zeros_like(value)
        halved, mark, mark_value = torch.ones_like(value, dtype=torch.bool), 0, value
        marks = checkpoints(self.steps)
        for i in range(1, self.steps + 1):
            ahead = problem.project(d + step * slope.sign())
            share = 0.75 if i > 1 else 1.0
            moved = problem.project(d + share * (ahead - d) + (1 - share) * (d - previous))
            last = value
            previous, d = d, moved
            value, hits, slope = problem.look(d, loss)
            rises += value > last
            higher = value > best_value
            best, best_slope = d.where(higher[:, None], best), slope.where(higher[:, None], best_slope)
            best_value = value.where(higher, best_value)
            worse = (hits < fewest) | ((hits == fewest) & (value > largest))
            found, fewest, largest = (
                d.where(worse[:, None], found),
                hits.where(worse, fewest),
                value.where(worse, largest),
            )
            if i in marks:
                stuck = ~halved & (best_value <= mark_value)
                halved = (rises < 0.75 * (i - mark)) | stuck
                step = torch.where(halved[:, None], step / 2, step)
                d, slope = best.where(halved[:, None], d), best_slope.where(halved[:, None], slope)
                value = best_value.where(halved, value)
                rises, mark, mark_value = torch.zeros_like(rises), i, best_value
        return found
