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

    Buffers of floating point numbers are averaged too, others copied. All parameters go through one kernel, and nothing
    waits for the device after the first step.

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
        old, new = self.module.state_dict(), model.state_dict()
        floats = [k for k, v in old.items() if isinstance(v, torch.Tensor) and v.is_floating_point()]
        torch._foreach_lerp_([old[k] for k in floats], [new[k] for k in floats], weight)
        for k, v in old.items():
            if isinstance(v, torch.Tensor) and not v.is_floating_point():
                v.copy_(new[k])


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
