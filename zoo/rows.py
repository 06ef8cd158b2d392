"""Which rows of a batch there are, running a module on some of them only, and what its norm layers do meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _NormBase
from torch.utils._pytree import tree_map_only


def to_device(present: Tensor, device: torch.device) -> Tensor:
    """A mask (B, M) on a device. The copy remembers the one on the CPU, for `on_cpu`."""
    mask = present.to(device, non_blocking=True)
    if mask is not present and present.device.type == 'cpu' and not torch.compiler.is_compiling():
        mask.origin = present
    return mask


def on_cpu(mask: Tensor) -> Tensor | None:
    """A mask on the CPU where that costs nothing: one that lives there, or what `to_device` copied. None for any other,
    and while a graph is made, which must hold for other masks too."""
    if torch.compiler.is_compiling():
        return None
    return mask if mask.device.type == 'cpu' else getattr(mask, 'origin', None)


class Rows:
    """The rows of a batch that a module sees. It never waits for a GPU: which they are is known on the CPU.

    Without any, one row of zeros runs in their place, and `put` multiplies its result by zero: each parameter, those
    behind the batch included, then gets a gradient of zero and not None, and DDP needs no search for unused parameters.

    Args:
        rows: (B,) bool on the CPU; None for all.
        device: Where the batch is.
        size: B, where ``rows`` is None.
    """

    def __init__(self, rows: Tensor | None, device: torch.device, size: int = 0) -> None:
        self.size = size if rows is None else len(rows)
        self.count = self.size if rows is None else int(rows.sum())
        self.index = None
        if 0 < self.count < self.size:
            self.index = rows.nonzero().squeeze(1).to(device, non_blocking=True)

    def take(self, x: Tensor) -> Tensor:
        """(B, ...) -> (b, ...), b >= 1; no copy where all rows count."""
        if self.count == self.size:
            return x
        if self.count:
            return x.index_select(0, self.index)
        return x[:1].where(x.new_zeros((), dtype=torch.bool), x.new_zeros(()))

    def run(self, module: Callable[[Tensor], Any], x: Tensor) -> Any:
        """Call a module on rows that were taken; with fewer than two its norm layers use running statistics."""
        few = self.count < 2 and getattr(module, 'training', False)
        with running_statistics(module) if few else nullcontext():
            return module(x)

    def put(self, y: Any) -> Any:
        """Every (b, ...) of a nest back into zeros (B, ...)."""
        return y if self.count == self.size else tree_map_only(Tensor, self._put, y)

    def _put(self, y: Tensor) -> Tensor:
        if not self.count:
            return (0 * y).repeat(self.size, *[1] * (y.ndim - 1))
        return y.new_zeros(self.size, *y.shape[1:]).index_copy(0, self.index, y)


@contextmanager
def running_statistics(module: nn.Module) -> Iterator[None]:
    """Let the norm layers of ``module`` use running statistics: BatchNorm refuses one value per channel.

    SyncBatchNorm stays as it is: a rank that skips its exchange would hang the others.
    """
    with _set(_training_norms(module), 'training', False):
        yield


@contextmanager
def untouched_statistics(module: nn.Module) -> Iterator[None]:
    """Let no norm layer of ``module`` update its running statistics: for a pass that inference never makes."""
    with _set([m for m in module.modules() if tracks(m)], 'track_running_stats', False):
        yield


@contextmanager
def statistics_of_its_own(module: nn.Module) -> Iterator[None]:
    """Let a pass, one of several before a gradient, update copies of running statistics, which are taken over at the
    end without autograd noticing: rows too few for statistics of their own (`Rows.run`) need those they had for their
    gradient; where these have changed it is wrong, or refused by compiled layers."""
    kept = [
        (m, name, getattr(m, name)) for m in module.modules() if tracks(m) for name in ('running_mean', 'running_var')
    ]
    for m, name, x in kept:
        setattr(m, name, x.clone())
    try:
        yield
    finally:
        for m, name, x in kept:
            x.data.copy_(getattr(m, name))
            setattr(m, name, x)


@contextmanager
def lone_values_allowed(module: nn.Module) -> Iterator[None]:
    """Let a norm layer whose input has one value per channel use running statistics, and only that layer: pooled maps
    of a batch of one."""

    def before(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        norm.training = args[0].numel() > args[0].shape[1]

    norms = _training_norms(module)
    handles = [m.register_forward_pre_hook(before) for m in norms]
    try:
        with _set(norms, 'training', True):
            yield
    finally:
        for handle in handles:
            handle.remove()


def tracks(module: nn.Module) -> bool:
    """Whether a pass would change the running statistics of this layer."""
    return isinstance(module, _NormBase) and module.training and module.track_running_stats


def _training_norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, _NormBase) and m.training and not isinstance(m, SyncBatchNorm)]


@contextmanager
def _set(modules: list[nn.Module], name: str, value: bool) -> Iterator[None]:
    """Set an attribute that is ``not value`` or ``value`` now; afterwards it is True."""
    for m in modules:
        setattr(m, name, value)
    try:
        yield
    finally:
        for m in modules:
            setattr(m, name, True)
