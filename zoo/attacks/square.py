"""Square attack: random search without gradients."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from registry import ATTACKS, unknown_name

from .attack import Attack, check_count, check_positive
from .problem import Problem
from .scores import LOSSES

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries


@ATTACKS.register_module()
class Square(Attack):
    """The L-infinity Square attack (Andriushchenko et al., ECCV 2020): squares of ``+-eps`` at random places, kept
    where they lower the margin. It asks for predictions only, and stops asking for a sample that is broken.

    It begins with vertical stripes of ``+-eps``, which are the first query. A square covers a share ``p`` of the image,
    at the same relative place in every modality, with a sign for each channel. Inputs without height and width are
    images of one row.

    Args:
        eps: See `Attack`.
        queries: Predictions of a sample that it may ask for; 0 returns the clean inputs.
        p_init: The share at first; it is halved when the query, rescaled to a budget of 10,000, passes 10, 50, 200,
            500, 1000, 2000, 4000, 6000 and 8000.
        loss: ``'margin'``, ``'dlr'``, or ``'ce'``, the host's own loss.
        modalities: See `Attack`.
        bounds: See `Attack`.

    Raises:
        InputError: A value outside its range.
        NameNotFound: Another loss.
    """

    per_sample = True

    def __init__(
        self,
        eps: float | Mapping[str, float] = 4 / 255,
        queries: int = 5000,
        p_init: float = 0.8,
        loss: str = 'margin',
        modalities: Sequence[str] | None = None,
        bounds: Any = (0, 1),
    ) -> None:
        super().__init__(eps, modalities, bounds)
        check_count('queries', queries)
        check_positive('p_init', p_init)
        if loss not in LOSSES:
            raise unknown_name('loss of attacks', loss, LOSSES)
        self.queries, self.p_init, self.loss = queries, min(p_init, 1.0), loss

    def perturb(self, problem: Problem) -> Tensor:
        """The perturbation with the largest loss that was found."""
        found = problem.zeros()
        if not self.queries:
            return found
        best = problem.project(self.stripes(problem))
        found[:] = best
        rows = torch.arange(len(problem))
        value, hits, _ = problem.look(best, LOSSES[self.loss], gradient=False)
        for query in range(1, self.queries):
            if not (standing := hits > 0).all():
                keep = standing.nonzero().squeeze(1)
                rows, best, value, hits = rows[keep.cpu()], best[keep], value[keep], hits[keep]
                problem = problem.select(keep.cpu())
                if not len(rows):
                    break
            tried = problem.project(self.with_square(problem, best, query))
            new, hit, _ = problem.look(tried, LOSSES[self.loss], gradient=False)
            better = (new > value) | (hit < hits)
            best, value, hits = tried.where(better[:, None], best), new.where(better, value), hit.where(better, hits)
            found[rows.to(found.device)] = best
        return found

    def stripes(self, problem: Problem) -> Tensor:
        """Columns of one sign for each sample and channel, (B, D)."""
        parts = {}
        for m, shape in problem.shapes.items():
            c, _, w = folded(shape)
            parts[m] = problem.signs(len(problem), c, 1, w).expand(-1, -1, folded(shape)[1], -1)
        return problem.join(parts)

    def with_square(self, problem: Problem, d: Tensor, query: int) -> Tensor:
        """``d`` with a square of new signs at a random place of each sample."""
        p = share(self.p_init, query, self.queries)
        place = problem.uniform(2, len(problem), 1)
        parts = {}
        for m, x in problem.split(d).items():
            c, h, w = folded(problem.shapes[m])
            side = min(max(round((p * h * w) ** 0.5), 1), h, w)
            inside = []
            for length, where in zip((h, w), place):
                start = (where * (length - side + 1)).long()
                at = torch.arange(length, device=d.device)
                inside.append((at >= start) & (at < start + side))
            window = inside[0][:, None, :, None] & inside[1][:, None, None, :]
            parts[m] = problem.signs(len(problem), c, 1, 1).where(window, x.reshape(len(x), c, h, w))
        return problem.join(parts)


def share(p_init: float, query: int, queries: int) -> float:
    """The share of an image that a square covers.

    >>> [share(0.8, i, 5000) for i in (5, 6, 30, 4999)]
    [0.8, 0.4, 0.2, 0.0015625]
    """
    passed = query / queries * 10_000
    return p_init / 2 ** sum(passed > mark for mark in HALVINGS)


def folded(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """An input (C, ..., H, W) as (channels, H, W)."""
    h, w = shape[-2:] if len(shape) > 2 else (1, shape[-1])
    size = 1
    for n in shape:
        size *= n
    return size // (h * w), h, w
