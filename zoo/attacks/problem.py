"""A host and a batch as a function of one flat perturbation: what all attacks work on."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor

from registry import InputError
from zoo.batch import Batch, Outputs
from zoo.host import MultimodalHost

from .scores import Loss, Task, hits, tasks_of


class Look(NamedTuple):
    """What one perturbation does."""

    loss: Tensor  # (B,), or () of a host without losses of single samples
    hits: Tensor | None  # (B,), see `zoo.attacks.scores.hits`; None where they were not counted
    gradient: Tensor | None  # (B, D) of the sum of the losses


class Problem:
    """The attacked inputs of a sample side by side, as one row of (B, D), measured in units of eps.

    ``x* = x + scale * d``: the ball is ``|d| <= 1`` whatever eps and the preprocessor's scale of each modality, and
    ``d = 0`` is the clean input bit for bit. Of an absent modality, and where nothing was measured, only ``d = 0`` is
    allowed.

    Args:
        host: In eval mode.
        batch: Columns are the host's.
        eps: Modality to its largest change as a share of its range, above 0; only those that the batch carries.
        bounds: Modality to the range of its values on the scale of the data, or to None.
        generator: Of the attack's draws, on the batch's device.
        draws: Passes over which losses and gradients are averaged, of a host that draws at random.
    """

    def __init__(
        self,
        host: MultimodalHost,
        batch: Batch,
        eps: Mapping[str, float],
        bounds: Mapping[str, Sequence[float] | None],
        generator: torch.Generator,
        draws: int = 1,
    ) -> None:
        self.host, self.generator, self.draws = host, generator, draws
        self.names = tuple(eps)
        self.eps = dict(eps)
        self.shapes = {m: tuple(batch.inputs[m].shape[1:]) for m in self.names}
        self.sizes = [batch.inputs[m][0].numel() for m in self.names]
        clean, scale, low, high = [], [], [], []
        self.ends: dict[str, list[Tensor]] = {}  # of the range, on the scale of the inputs
        for m in self.names:
            here = batch.mask[:, host.modalities.index(m)]
            x = batch.inputs[m]
            x = x.float().where(here.view(-1, *[1] * (x.ndim - 1)), 0)
            extent = 1.0 if bounds[m] is None else bounds[m][1] - bounds[m][0]
            unit = x.new_ones(1) * host.data_preprocessor.scale(m)  # a number never crosses to the device by itself
            step = (eps[m] * extent / unit).view(-1, *[1] * (x.ndim - 2)).expand(x.shape[1:]).flatten()
            ends = [
                x.new_full((1, x.shape[1], *[1] * (x.ndim - 2)), end) for end in bounds[m] or (-torch.inf, torch.inf)
            ]
            self.ends[m] = [host.data_preprocessor.standardise(m, end) for end in ends]
            movable = here[:, None]
            if (measured := host.data_preprocessor.measured(m, x)) is not None:
                movable = movable & measured.flatten(1)
            room = []
            for end, side in zip(self.ends[m], (-1, 1)):
                edge = end.expand_as(x).flatten(1)
                # a clean value may lie beyond the range by a rounding
                room.append(((edge - x.flatten(1)) / step * side).clamp(min=0).where(movable, 0) * side)
            clean.append(x.flatten(1))
            scale.append(step)
            low.append(room[0])
            high.append(room[1])
        self.batch = batch
        self.clean = torch.cat(clean, 1)
        self.scale = torch.cat(scale)
        self.low, self.high = torch.cat(low, 1), torch.cat(high, 1)

    def __len__(self) -> int:
        return len(self.batch)

    # ---- perturbations

    def zeros(self) -> Tensor:
        """No perturbation, (B, D)."""
        return torch.zeros_like(self.clean)

    def uniform(self, *shape: int) -> Tensor:
        """Draws in [0, 1), of the shape of a perturbation by default."""
        return torch.rand(shape or self.clean.shape, generator=self.generator, device=self.clean.device)

    def signs(self, *shape: int) -> Tensor:
        """Draws of -1 and 1."""
        return 2.0 * torch.randint(2, shape, generator=self.generator, device=self.clean.device) - 1

    def within(self, d: Tensor) -> Tensor:
        """The nearest perturbation that keeps the range."""
        return torch.clamp(d, self.low, self.high)

    def project(self, d: Tensor) -> Tensor:
        """The nearest perturbation in the ball that keeps the range."""
        return self.within(d.clamp(-1, 1))

    def spread(self, values: Mapping[str, float]) -> Tensor:
        """One value for each modality -> (D,)."""
        return torch.cat([self.clean.new_full((n,), values[m]) for m, n in zip(self.names, self.sizes)])

    def split(self, d: Tensor) -> dict[str, Tensor]:
        """(B, D) -> {modality: (B, C, ...)}."""
        parts = d.split(self.sizes, 1)
        return {m: x.view(len(d), *self.shapes[m]) for m, x in zip(self.names, parts)}

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `split`."""
        return torch.cat([parts[m].flatten(1) for m in self.names], 1)

    def apply(self, d: Tensor) -> Batch:
        """The perturbed batch."""
        inputs = self.split(self.clean + self.scale * d)
        return self.batch.replace(inputs={**self.batch.inputs, **inputs})

    def result(self, d: Tensor) -> dict[str, Tensor]:
        """The perturbed inputs, (B, C, ...) of each attacked modality, not beyond the range by a rounding either."""
        return {m: x.clamp(*self.ends[m]) for m, x in self.split(self.clean + self.scale * d).items()}

    def select(self, rows: Tensor) -> 'Problem':
        """The problem of some samples, by index on the CPU."""
        part = object.__new__(Problem)
        part.__dict__.update(self.__dict__)
        index = rows.to(self.clean.device)
        part.batch = self.batch.select(rows)
        part.clean, part.low, part.high = (x[index] for x in (self.clean, self.low, self.high))
        return part

    # ---- what they do

    def run(self, d: Tensor) -> tuple[Outputs, Batch]:
        """The host on a perturbed batch."""
        batch = self.apply(d)
        return self.host.run(batch), batch

    def look(self, d: Tensor, loss: Loss, gradient: bool = True, count: bool = True) -> Look:
        """Losses, hits (None unless they are to be counted) and gradient at a perturbation, averaged over the draws of
        a random host."""
        if self.draws == 1:
            return self._look(d, loss, gradient, count)
        looks = []
        for _ in range(self.draws):
            with ExitStack() as stack:
                for plugin in self.host.plugins.values():
                    stack.enter_context(plugin.fresh_draw())
                looks.append(self._look(d, loss, gradient, count))
        return Look(*(None if v[0] is None else sum(v) / self.draws for v in zip(*looks)))

    def _look(self, d: Tensor, loss: Loss, gradient: bool, count: bool) -> Look:
        with torch.set_grad_enabled(gradient):
            d = d.detach().requires_grad_(gradient)
            outputs, batch = self.run(d)
            losses = loss(self.host, outputs, batch)
        slope = None
        if gradient:
            (slope,) = torch.autograd.grad(losses.sum(), d, materialize_grads=True)
        with torch.no_grad():
            return Look(losses.detach(), hits(self.host, outputs, batch) if count else None, slope)

    def hits(self, d: Tensor) -> Tensor:
        """`Look.hits` alone, (B,)."""
        return self.look(d, hits, gradient=False).hits

    def tasks(self) -> list[Task]:
        """The tasks with class logits, on the clean inputs."""
        with torch.no_grad():
            outputs, batch = self.run(self.zeros())
        return tasks_of(self.host, outputs, batch)

    def worst_of(self, attempts: Sequence[Callable[['Problem'], Tensor]]) -> Tensor:
        """The perturbation under which each sample has the fewest hits. An attempt is a perturbation of a problem; only
        samples that still have hits are tried again."""
        worst, left = self.zeros(), self.hits(self.zeros())
        for attempt in attempts:
            rows = (left > 0).nonzero().squeeze(1)
            if not len(rows):
                break
            part = self.select(rows.cpu())
            found = attempt(part)
            hit = part.hits(found)
            better = hit <= left[rows]
            worst[rows] = found.where(better[:, None], worst[rows])
            left[rows] = hit.where(better, left[rows])
        return worst


def check_inputs(host: MultimodalHost, batch: Batch, names: Sequence[str], bounds: Mapping[str, Any]) -> None:
    """Refuse inputs that an attack could not keep in their range. Waits for the device.

    Raises:
        InputError: NaN or infinite values, values outside the range, or labels that the host does not have.
    """
    for m in names:
        here = batch.mask[:, host.modalities.index(m)]
        x = batch.inputs[m][here]
        if not x.numel():
            continue
        if not x.isfinite().all():
            raise InputError(f'{m} holds NaN or infinite values: an attack needs finite inputs.')
        if bounds[m] is not None:
            low, high = bounds[m]
            x = host.data_preprocessor.restore(m, x)
            least, most = float(x.min()), float(x.max())
            if least < low - (slack := 1e-4 * (high - low)) or most > high + slack:
                raise InputError(
                    f'{m} runs from {least:.4g} to {most:.4g} on the scale of the data, outside its range '
                    f'{low:g}..{high:g}. Say the range (bounds), (0, 255) for 8-bit images, or bounds=None for none.'
                )
    classes, target = getattr(host, 'num_classes', None), batch.target
    several = isinstance(classes, Mapping) and isinstance(target, Mapping)
    for k, y in [(classes[t], target.get(t)) for t in classes] if several else [(classes, target)]:
        if not isinstance(k, int) or not isinstance(y, Tensor) or y.is_floating_point():
            continue
        labels = y[(y != getattr(host, 'ignore_index', -100)) & (y >= 0 if several else True)]
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < k:
            least, most = int(labels.min()), int(labels.max())
            raise InputError(f'Labels run from {least} to {most}, the host has the classes 0..{k - 1}.')
