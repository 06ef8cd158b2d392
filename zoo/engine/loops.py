"""The training loop, which can start anywhere in an epoch, and the evaluation loop, which is the modality sweep."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from mmengine.runner import BaseLoop

from registry import LOOPS, InputError
from zoo.host import Clock

from .checkpoint import random_states, set_random_states
from .sweep import Sweep, sweep


@LOOPS.register_module()
class TrainLoop(BaseLoop):
    """Trains by epochs. The position is one number, the iteration, so a resumed run goes on in mid-epoch.

    Args:
        runner: The runner.
        dataloader: Made by `zoo.engine.data.build_dataloader`.
        max_epochs: At least 1.
        val_interval: Validate after each so many epochs, and after the last.
        val_begin: The first epoch, counted from 1, after which to validate.
    """

    def __init__(
        self, runner: Any, dataloader: Any, max_epochs: int, val_interval: int = 1, val_begin: int = 1
    ) -> None:
        super().__init__(runner, dataloader)
        for name, value in (('max_epochs', max_epochs), ('val_interval', val_interval), ('val_begin', val_begin)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f'{name} must be a whole number from 1, got {value!r}.')
        self.max_epochs = max_epochs
        self.length = len(dataloader)
        self.max_iters = max_epochs * self.length
        self.val_interval, self.val_begin = val_interval, val_begin
        self.iter = 0
        self.stop_training = False  # mmengine's EarlyStoppingHook sets it

    @property
    def epoch(self) -> int:
        """The epoch, from 0, of the next iteration."""
        return self.iter // self.length

    def run(self) -> torch.nn.Module:
        """Train from where `iter` stands."""
        self.runner.call_hook('before_train')
        if self.iter and self.iter % self.length == 0:
            self._validate()  # the checkpoint was written before the validation that belongs to it
        while self.iter < self.max_iters and not self.stop_training:
            self._run_epoch()
            self._validate()
        self.runner.call_hook('after_train')
        return self.runner.model

    def _run_epoch(self) -> None:
        runner, epoch, start = self.runner, self.epoch, self.iter % self.length
        resumed = set(runner.host.plugins.values()) if start else ()  # their epoch has begun already
        for hook in runner.hooks:
            if hook not in resumed:
                hook.before_train_epoch(runner)
        runner.model.train()
        self.dataloader.sampler.set_position(epoch, start * self.dataloader.batch_size)
        for index, data in enumerate(self.dataloader, start):
            self._run_iter(index, data)
        # hooks of mmengine read `runner.epoch` here and mean the epoch that ends
        self.iter -= 1
        runner.call_hook('after_train_epoch')
        self.iter += 1

    def _run_iter(self, index: int, data: Mapping[str, Any]) -> None:
        runner = self.runner
        runner.host.clock = Clock(runner.seed, self.epoch, self.iter, runner.rank, self.max_epochs)
        runner.call_hook('before_train_iter', batch_idx=index, data_batch=data)
        outputs = runner.model.train_step(data, optim_wrapper=runner.optim_wrapper)
        runner.call_hook('after_train_iter', batch_idx=index, data_batch=data, outputs=outputs)
        self.iter += 1

    def _validate(self) -> None:
        done = self.iter // self.length
        due = done >= self.val_begin and (done % self.val_interval == 0 or self.iter >= self.max_iters)
        if self.runner.val_loop is not None and due:
            device = self.runner.host.device
            states = random_states(device)
            self.runner.val_loop.run()
            set_random_states(states, device)


@LOOPS.register_module()
class ValSweep(BaseLoop):
    """Scores the host on the validation data: on the complete set of modalities unless told otherwise.

    Args:
        runner: The runner.
        dataloader: Of the validation data.
        evaluator: Name or config of a metric.
        subsets: See `zoo.engine.parse_subsets`.
    """

    def __init__(self, runner: Any, dataloader: Any, evaluator: str | Mapping[str, Any], subsets: str = 'full') -> None:
        super().__init__(runner, dataloader)
        self.evaluator, self.subsets = evaluator, subsets
        self.result: Sweep | None = None

    def run(self) -> dict[str, float]:
        """The complete score under the metric's name; with several subsets also their averages and each one's."""
        runner = self.runner
        runner.call_hook('before_val')
        runner.call_hook('before_val_epoch')
        if runner.distributed:  # each rank has seen other batches, and only the statistics of the first one are saved
            for buffer in runner.host.buffers():
                dist.broadcast(buffer, 0)
        self.result = sweep(runner.host, self.dataloader, self.evaluator, self.subsets)
        metrics = self.result.numbers()
        if not metrics:
            runner.logger.warning(
                f'{self.result.metric} has no value on the validation data, which hold nothing to score (no labels?): '
                'no checkpoint can be the best one.'
            )
        runner.call_hook('after_val_epoch', metrics=metrics)
        runner.call_hook('after_val')
        return metrics
