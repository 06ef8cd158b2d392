"""Hooks of the runner: what is logged without waiting for the device, checkpoints, and a progress bar."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook, LoggerHook, RuntimeInfoHook
from mmengine.registry import HOOKS
from mmengine.runner import LogProcessor
from torch import Tensor

from registry import LOG_PROCESSORS, InputError, check_arguments, unknown_name

from .checkpoint import POINTER, write_text
from .progress import progress_bar

LOGGED = 'train/plugin'
DEFAULT_HOOKS = ('runtime_info', 'timer', 'logger', 'param_scheduler', 'checkpoint', 'progress')


class DeferredInfoHook(RuntimeInfoHook):
    """mmengine's hook, which reads back one scalar after the other in each iteration, made to read once an interval.

    It collects losses, the gradient norm and what plugins logged as tensors, and copies all of them together.

    Args:
        interval: Iterations between two copies; that of the logger.
    """

    def __init__(self, interval: int = 10) -> None:
        super().__init__()
        self.interval = interval
        self.pending: list[tuple[str, Tensor]] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Collect, and copy when the interval is full."""
        for source in (outputs or {}, runner.optim_wrapper.logged):
            self.pending += [(f'train/{k}', torch.as_tensor(v).detach()) for k, v in source.items()]
        runner.optim_wrapper.logged.clear()
        for plugin in runner.host.plugins.values():
            for key, (modalities, value) in plugin.logged.items():
                names = [f'{LOGGED}/{plugin.name}/{m}/{key}' for m in modalities] or [f'{LOGGED}/{plugin.name}/{key}']
                self.pending += zip(names, value.unbind() if modalities else (value,))
            plugin.logged.clear()
        if (batch_idx + 1) % self.interval == 0 or batch_idx + 1 == len(runner.train_dataloader):
            self.flush(runner)

    def flush(self, runner: Any) -> None:
        """Copy what was collected to the message hub."""
        if self.pending:
            names, values = zip(*self.pending)
            numbers = torch.stack([v.reshape(()).double().to(runner.host.device) for v in values]).tolist()
            for name, number in zip(names, numbers):
                runner.message_hub.update_scalar(name, number)
            self.pending.clear()


@LOG_PROCESSORS.register_module()
class QuietLogProcessor(LogProcessor):
    """mmengine's, with what plugins log left out of the printed line; files and visualizers get all of it."""

    def get_log_after_iter(self, runner: Any, batch_idx: int, mode: str) -> tuple[dict, str]:
        """(all values, the line to print)."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        return tag, re.sub(r'  plugin/\S+: \S+', '', line)


class CheckpointHook(Hook):
    """Saves ``iter_<n>.pth`` at an interval and ``best.pth`` at the best validation score.

    A save waits until no accumulation window is open. An old file goes only once the new one is there.

    Args:
        interval: Between two saves: epochs, or iterations with ``by_epoch=False``.
        by_epoch: The unit of the interval.
        keep: How many interval checkpoints to keep.
        save_best: Key of the validation metrics that decides, or ``'auto'``, the metric's own; None saves none.
        rule: ``'greater'`` or ``'less'``; by default that of the metric.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        interval: int = 1,
        by_epoch: bool = True,
        keep: int = 2,
        save_best: str | None = 'auto',
        rule: str | None = None,
    ) -> None:
        if interval < 1 or keep < 1:
            raise InputError(f'interval and keep of the checkpoints must be at least 1, got {interval} and {keep}.')
        if rule not in (None, 'greater', 'less'):
            raise InputError(f"rule of the best checkpoint must be 'greater' or 'less', got {rule!r}.")
        self.interval, self.by_epoch, self.keep = interval, by_epoch, keep
        self.save_best, self.rule = save_best, rule
        self.due = False

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save in mid-epoch; the end of an epoch belongs to `after_train_epoch`, after its other hooks."""
        done = runner.iter + 1
        interval = self.interval * (len(runner.train_dataloader) if self.by_epoch else 1)
        self.due |= done % interval == 0 or done == runner.max_iters
        if done % len(runner.train_dataloader):
            self._save_if_due(runner, done)

    def after_train_epoch(self, runner: Any) -> None:
        """Save at the end of an epoch."""
        self._save_if_due(runner, runner.iter + 1)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Save the best."""
        if self.save_best is None or not metrics:
            return
        result = runner.val_loop.result
        key = result.metric if self.save_best == 'auto' else self.save_best
        if key not in metrics:
            raise InputError(f'save_best={key!r} is not among the validation metrics: {", ".join(metrics)}.')
        greater = self.rule == 'greater' or (self.rule is None and (key != result.metric or result.higher_is_better))
        best = runner.state.get('best_score')
        if best is None or (metrics[key] > best if greater else metrics[key] < best):
            runner.state.update(best_score=metrics[key], best_epoch=runner.iter // len(runner.train_dataloader))
            runner.save(Path(runner.work_dir) / 'best.pth', runner.iter, training_state=False)

    def _save_if_due(self, runner: Any, done: int) -> None:
        if not self.due or runner.optim_wrapper.window_open:
            return
        self.due = False
        folder, name = Path(runner.work_dir), f'iter_{done}.pth'
        saved = [*(n for n in runner.state.get('checkpoints', []) if n != name), name]
        runner.state['checkpoints'] = saved[-self.keep :]
        runner.save(folder / name, done)
        if runner.rank == 0:
            write_text(folder / POINTER, name + '\n')
            for old in saved[: -self.keep]:
                (folder / old).unlink(missing_ok=True)


def check_hooks(cfg: Mapping[str, Any]) -> None:
    """Refuse hooks of a config that could not be built.

    Raises:
        InputError: An argument that a hook does not take.
        NameNotFound: A default hook or a type of hook that does not exist.
    """
    for key, hook in (cfg.get('default_hooks') or {}).items():
        if key in ('logger', 'checkpoint'):
            check_arguments(LoggerHook if key == 'logger' else CheckpointHook, 'hook', (), hook or {})
        elif hook is not None and 'type' not in hook:
            raise unknown_name('default hook', key, DEFAULT_HOOKS)
        elif hook is not None:
            _check_hook(hook)
    for hook in cfg.get('custom_hooks') or []:
        _check_hook(hook)


def _check_hook(hook: Mapping[str, Any]) -> None:
    if not isinstance(hook, Mapping) or 'type' not in hook:
        raise InputError(f'A hook is dict(type=NAME, ...), got {hook!r}.')
    cls = HOOKS.get(hook['type'])
    if cls is None:
        raise unknown_name('hook', hook['type'], HOOKS.module_dict)
    check_arguments(cls, 'hook', (), {k: v for k, v in hook.items() if k not in ('type', 'priority')})


class ProgressHook(Hook):
    """A bar over all iterations, on a terminal."""

    priority = 'LOWEST'

    def before_train(self, runner: Any) -> None:
        """Show it."""
        self.bar = progress_bar()
        self.bar.start()
        self.task = self.bar.add_task('training', total=runner.max_iters, completed=runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance it."""
        self.bar.update(
            self.task, completed=runner.iter + 1, description=f'epoch {runner.epoch + 1}/{runner.max_epochs}'
        )

    def after_train(self, runner: Any) -> None:
        """Take it away."""
        self.bar.stop()
