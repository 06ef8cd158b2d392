"""The one-cycle schedule, of the learning rate together with the momentum."""

import math
from collections.abc import Sequence
from typing import Any

from mmengine.optim import OptimWrapper, _ParamScheduler

from registry import PARAM_SCHEDULERS, InputError

NEVER = 10**9  # mmengine's default for the end of a schedule


def one_cycle(step: int, total: int, start: float, middle: float, end: float, pct_start: float) -> float:
    """The value at one of the steps 0..total-1: along half a cosine from ``start`` to ``middle``, which it has at step
    ``pct_start * total - 1``, and along another to ``end``, which it keeps. The arithmetic is that of
    `torch.optim.lr_scheduler.OneCycleLR`, bit for bit.

    >>> [one_cycle(epoch, 300, 0.95, 0.85, 0.95, pct_start=0.1) for epoch in (0, 29, 299, 300)]
    [0.95, 0.85, 0.95, 0.95]

    Args:
        step: From 0.
        total: Number of steps, at least 1.
        start: The first value.
        middle: The extreme one.
        end: The last one.
        pct_start: Share of the steps, in [0, 1], for the first half.
    """
    step, turn = min(step, total - 1), float(pct_start * total) - 1
    if step <= turn:
        first, last, share = start, middle, step / turn if turn else 1.0
    else:
        first, last, share = middle, end, (step - turn) / (total - 1 - turn)
    return last + (first - last) / 2.0 * (math.cos(math.pi * share) + 1)


@PARAM_SCHEDULERS.register_module()
class OneCycle(_ParamScheduler):
    """torch's OneCycleLR (arXiv:1708.07120; two phases, cosine) as a schedule of mmengine's kind.

    The rate of each parameter group rises from ``lr / div_factor`` to the group's ``lr``, that of the optimiser's
    config, and falls to ``lr / div_factor / final_div_factor``. The momentum (of Adam-type optimisers the first beta)
    meanwhile falls and rises again; what the optimiser's config says about it is not used. mmengine's OneCycleLR leaves
    the momentum alone.

    Args:
        optimizer: The optimiser wrapper.
        total_steps: Length of the cycle in epochs, or in iterations with ``by_epoch=False``; up to ``end`` by default,
            which is the end of training.
        pct_start: Share of the cycle in which the rate rises.
        div_factor: The peak over the first rate.
        final_div_factor: The first rate over the last.
        momentum: (least, greatest), in [0, 1); None leaves it alone.
        begin: The first step at which it acts.
        end: The step from which on it does not.
        by_epoch: Step after each epoch instead of each iteration.

    Raises:
        InputError: A value out of its range, or an optimiser without momentum.
    """

    def __init__(
        self,
        optimizer: OptimWrapper,
        total_steps: int | None = None,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        momentum: Sequence[float] | None = (0.85, 0.95),
        begin: int = 0,
        end: int = NEVER,
        by_epoch: bool = True,
    ) -> None:
        total = end - begin if total_steps is None else total_steps
        if not isinstance(total, int) or total < 1:
            raise InputError(f'total_steps of OneCycle must be a whole number from 1, got {total!r}.')
        if not 0 <= pct_start <= 1:
            raise InputError(f'pct_start of OneCycle must be in [0, 1], got {pct_start!r}.')
        if div_factor <= 0 or final_div_factor <= 0:
            raise InputError(f'The factors of OneCycle must be positive, got {div_factor!r} and {final_div_factor!r}.')
        if momentum is not None:
            if isinstance(momentum, (int, float)) or len(momentum) != 2 or not 0 <= momentum[0] <= momentum[1] < 1:
                raise InputError(f'momentum of OneCycle is (least, greatest) in [0, 1), got {momentum!r}.')
            if any('momentum' not in group and 'betas' not in group for group in optimizer.param_groups):
                raise InputError('The optimiser has no momentum for OneCycle to change: give it momentum=None.')
        self.total_steps, self.pct_start = total, float(pct_start)
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self.momentum = None if momentum is None else tuple(map(float, momentum))
        super().__init__(optimizer, 'lr', begin=begin, end=end, by_epoch=by_epoch)

    @classmethod
    def build_iter_from_epoch(
        cls,
        *args: Any,
        epoch_length: int,
        begin: int = 0,
        end: int = NEVER,
        total_steps: int | None = None,
        by_epoch: bool = True,
        **kwargs: Any,
    ) -> 'OneCycle':
        """The same cycle stepped after each iteration: what mmengine calls for ``convert_to_iter_based=True``."""
        steps = None if total_steps is None else total_steps * epoch_length
        last = end if end == NEVER else end * epoch_length
        return cls(*args, begin=begin * epoch_length, end=last, total_steps=steps, by_epoch=False, **kwargs)

    def step(self) -> None:
        """Set rates and momentum for the next epoch or iteration."""
        before = self.last_step
        super().step()
        if self.momentum is None or self.last_step == before:
            return
        least, greatest = self.momentum
        value = one_cycle(self.last_step, self.total_steps, greatest, least, greatest, self.pct_start)
        for group in self.optimizer.param_groups:
            if 'betas' in group:
                group['betas'] = (value, *group['betas'][1:])
            else:
                group['momentum'] = value

    def _get_value(self) -> list[float]:
        rates = []
        for peak in self.base_values:
            first = peak / self.div_factor
            last = first / self.final_div_factor
            rates.append(one_cycle(self.last_step, self.total_steps, first, peak, last, self.pct_start))
        return rates
