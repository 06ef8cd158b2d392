"""A moving average of the weights, which validation and tests see."""

import math
from typing import Any

import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseAveragedModel
from mmengine.registry import HOOKS, MODELS
from torch import nn

from registry import InputError


@MODELS.register_module()
class WarmupEMA(BaseAveragedModel):
    """An exponential moving average that follows closely at first: the weight of the newest parameters after step t,
    from 1, is ``momentum + (1 - momentum) * exp(-t / gamma)`` (ultralytics' and YOLOX's schedule).

    Buffers of floating point numbers are averaged too, others copied; so are those that a module names in
    ``random_buffers``: random weights, whose mean is no draw. All parameters go through one kernel, and nothing waits
    for the device after the first step.

    Args:
        model: Whose parameters.
        momentum: The weight in the end, in (0, 1).
        gamma: Steps in which it falls to a third, above 0.
    """

    def __init__(self, model: nn.Module, momentum: float = 1e-4, gamma: float = 2000) -> None:
        super().__init__(model, update_buffers=True)
        self.momentum, self.gamma = momentum, gamma
        self._count: int | None = None  # what `steps` holds, once it has been read

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """See `torch.nn.Module`."""
        self._count = None
        return super().load_state_dict(*args, **kwargs)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the parameters of this step in."""
        self._count = 1 + (int(self.steps) if self._count is None else self._count)
        self.steps += 1
        weight = self.momentum + (1 - self.momentum) * math.exp(-self._count / self.gamma)
        old, new = _tensors(self.module), _tensors(model)  # the state dict of a module need not be the tensors it uses
        drawn = {f'{name}.{b}' for name, module in model.named_modules() for b in getattr(module, 'random_buffers', ())}
        averaged = [k for k, v in old.items() if v.is_floating_point() and k not in drawn]
        torch._foreach_lerp_([old[k] for k in averaged], [new[k] for k in averaged], weight)
        for k in old.keys() - averaged:
            old[k].copy_(new[k])


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@HOOKS.register_module()
class ModelEMA(EMAHook):
    """Validates, tests and saves a moving average of the weights; resuming continues with both.

    mmengine's `EMAHook` with the schedule of `WarmupEMA`, updated by real steps of the optimiser only: not inside an
    accumulation window, nor where the loss scaler skipped the step.

    Args:
        momentum: See `WarmupEMA`, as for the next.
        gamma: Steps of the warm-up.

    Raises:
        InputError: A value outside its range.
    """

    def __init__(self, momentum: float = 1e-4, gamma: float = 2000) -> None:
        if not 0 < momentum < 1:
            raise InputError(f'momentum of ModelEMA must be between 0 and 1, got {momentum!r}.')
        if not gamma > 0:
            raise InputError(f'gamma of ModelEMA must be above 0, got {gamma!r}.')
        super().__init__('WarmupEMA', momentum=momentum, gamma=gamma)

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Update the average."""
        if not runner.optim_wrapper.window_open:
            super().after_train_iter(runner, *args, **kwargs)
