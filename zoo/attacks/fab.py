"""FAB-T: the smallest perturbation that crosses a decision boundary."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from registry import ATTACKS, InputError

from .attack import Attack, check_count
from .problem import Problem
from .scores import WrongClass, tasks_of


def project_onto_plane(points: Tensor, normal: Tensor, offset: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The step of least L-infinity norm from each point to the plane ``normal . x = offset``, inside the box.

    The values that can move towards the plane all move by the same ``r`` or to their wall, so the way along the normal
    is ``sum_i |n_i| min(r, room_i)``: it grows in ``r``, and its pieces end where the sorted rooms do. Where the box
    does not reach the plane the step leads to the corner nearest to it.

    >>> point, normal = torch.zeros(1, 2), torch.tensor([[1.0, 1.0]])
    >>> low, high = torch.tensor([[-1.0, -1.0]]), torch.tensor([[1.0, 0.25]])
    >>> project_onto_plane(point, normal, torch.tensor([1.0]), low, high)
    tensor([[0.7500, 0.2500]])

    Args:
        points: (B, D), inside the box.
        normal: (B, D).
        offset: (B,).
        low: (B, D).
        high: (B, D).

    Returns:
        (B, D).
    """
    distance = offset.double() - (normal.double() * points.double()).sum(1)
    way = normal.sign() * distance.sign().to(normal.dtype)[:, None]  # of each value towards the plane
    room = torch.where(way > 0, high - points, points - low).clamp(0, 1e6).where(way != 0, 0)
    order = room.argsort(1)
    rooms = room.gather(1, order).double()
    weights = normal.abs().gather(1, order).double()
    spent = (weights * rooms).cumsum(1)  # by the values that are at their wall
    total = weights.sum(1, keepdim=True)
    moving = total - weights.cumsum(1)  # weight of those that still move
    reach = spent + rooms * moving
    need = distance.abs()[:, None]
    walls = (reach < need).sum(1, keepdim=True)  # so many have met their wall
    before = (walls - 1).clamp(min=0)
    done = spent.gather(1, before).where(walls > 0, 0)
    rest = moving.gather(1, before).where(walls > 0, total)
    r = ((need - done) / rest.clamp(min=1e-30)).where(walls < room.shape[1], rooms[:, -1:])
    return way * torch.minimum(room, r.to(room.dtype))


@ATTACKS.register_module()
class FAB(Attack):
    """The targeted fast adaptive boundary attack, FAB-T of AutoAttack (Croce & Hein, ICML 2020, "Minimally distorted
    adversarial examples with a fast adaptive boundary attack").

    For each wrong class the boundary to it is taken for the plane of its linearisation. The iterate and the clean point
    are projected onto it (`project_onto_plane`), both steps are overshot by ``eta``, and the next iterate is a mix of
    the two that leans to the nearer one. An iterate that is misclassified is kept if it is nearer than those before,
    and the next one begins on the way back to the clean point. Perturbations are measured in units of each modality's
    ``eps``; what is found counts where it is within ``eps``, else the clean inputs are returned.

    A host with several tasks is attacked in one task after the other.

    Args:
        eps: See `Attack`.
        steps: Iterations for each class.
        targets: Wrong classes to try, the most likely first; all where there are fewer.
        alpha_max: The largest share of the clean point's projection.
        eta: Overshoot.
        beta: Where on the way from the clean point, at 0, the next iterate begins.
        modalities: See `Attack`.
        bounds: See `Attack`.
        eot: See `Attack`.

    Raises:
        InputError: A value outside its range.
    """

    per_sample = True

    def __init__(
        self,
        eps: float | Mapping[str, float] = 4 / 255,
        steps: int = 100,
        targets: int = 9,
        alpha_max: float = 0.1,
        eta: float = 1.05,
        beta: float = 0.9,
        modalities: Sequence[str] | None = None,
        bounds: Any = (0, 1),
        eot: int = 1,
    ) -> None:
        super().__init__(eps, modalities, bounds, eot)
        check_count('steps', steps)
        check_count('targets', targets, 1)
        for name, value, low, high in (('alpha_max', alpha_max, 0, 1), ('eta', eta, 1, 2), ('beta', beta, 0, 1)):
            if not isinstance(value, (int, float)) or not low <= value <= high:
                raise InputError(f'{name} must be in [{low}, {high}], got {value!r}.')
        self.steps, self.targets = steps, targets
        self.alpha_max, self.eta, self.beta = alpha_max, eta, beta

    @property
    def name(self) -> str:
        """``fab-t``."""
        return 'fab-t'

    def perturb(self, problem: Problem) -> Tensor:
        """One run for each task and target class, on samples that still stand."""
        tasks = problem.tasks()
        if not tasks or any(t.logits.shape[2] > 1 or t.logits.shape[1] < 2 for t in tasks):
            raise InputError(f'FAB needs one class label for a sample, not the task of {type(problem.host).__name__}.')
        attempts = [
            lambda part, i=i, rank=rank: self.run(part, i, rank)
            for i, t in enumerate(tasks)
            for rank in range(min(self.targets, t.logits.shape[1] - 1))
        ]
        return problem.worst_of(attempts)

    def run(self, problem: Problem, index: int, rank: int) -> Tensor:
        """Towards one wrong class of task ``index``: the nearest perturbation that changes this task's prediction, or 0
        where none lies in the ball."""
        wrong = WrongClass(rank)

        def lead(host: Any, outputs: Any, batch: Any) -> Tensor:  # of the wrong class; at least 0 behind the boundary
            tasks = tasks_of(host, outputs, batch)
            return (wrong(tasks)[index] - tasks[index].score())[:, 0]

        def broken(d: Tensor) -> Tensor:
            task = tasks_of(problem.host, *problem.run(d))[index]
            return task.logits[:, :, 0].argmax(1) != task.target[:, 0]

        clean = d = problem.zeros()
        found, nearest = problem.zeros(), torch.full((len(problem),), torch.inf, device=d.device)
        for _ in range(self.steps):
            ahead, _, normal = problem.look(d, lead, count=False)
            offset = (normal.double() * d.double()).sum(1) - ahead
            both = project_onto_plane(
                torch.cat([d, clean]),
                normal.repeat(2, 1),
                offset.repeat(2),
                problem.low.repeat(2, 1),
                problem.high.repeat(2, 1),
            )
            own, direct = both.chunk(2)
            lengths = both.abs().amax(1).view(2, -1, 1)
            mix = (lengths[0] / lengths.sum(0).clamp(min=1e-30)).clamp(0, self.alpha_max)
            d = problem.within((1 - mix) * (d + self.eta * own) + mix * (clean + self.eta * direct))
            with torch.no_grad():
                wins = broken(d)
            size = d.abs().amax(1)
            nearer = wins & (size < nearest)
            found, nearest = d.where(nearer[:, None], found), size.where(nearer, nearest)
            d = torch.where(wins[:, None], self.beta * d, d)
        return found.where((nearest <= 1)[:, None], 0)
