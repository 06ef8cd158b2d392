"""A metric for each of several tasks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from registry import METRICS, InputError
from zoo.batch import Batch, Outputs

from .metric import Metric


@METRICS.register_module()
class MultiTask(Metric):
    """Scores predictions and targets that are dicts by task: a metric for each, and the mean of their scores.

    Scores of single classes are left out: tables have one list of classes.

    Args:
        metrics: Task to the name or config of its metric.

    Attributes:
        name: The mean over the tasks: the name of their scores, or ``'mean'`` where these have several.

    Raises:
        InputError: No task, metrics for different tasks of hosts, or of which not all are better when larger.
    """

    def __init__(self, metrics: Mapping[str, str | Mapping[str, Any]]) -> None:
        super().__init__()
        if not isinstance(metrics, Mapping) or not metrics:
            raise InputError(f'MultiTask needs metrics=dict(TASK=METRIC, ...), got {metrics!r}.')
        self.metrics = nn.ModuleDict({task: METRICS.build(metric) for task, metric in metrics.items()})
        kinds = {(m.task, m.higher_is_better) for m in self.metrics.values()}
        if len(kinds) > 1:
            raise InputError(
                'The metrics of MultiTask must be for one kind of host and all be better when larger, or all when '
                f'smaller, got {", ".join(type(m).__name__ for m in self.metrics.values())}.'
            )
        self.task, self.higher_is_better = kinds.pop()
        names = {m.name for m in self.metrics.values()}
        self.name = names.pop() if len(names) == 1 else 'mean'
        self.also = tuple(f'{task}_{m.name}' for task, m in self.metrics.items())

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Predictions and targets, each {task: ...}.

        Raises:
            InputError: They lack a task.
        """
        for what, given in (('predictions', outputs.prediction), ('labels', batch.target)):
            if not isinstance(given, Mapping) or not given.keys() >= set(self.metrics):
                found = ', '.join(given) if isinstance(given, Mapping) else type(given).__name__
                raise InputError(f'MultiTask needs {what} of {", ".join(self.metrics)}, got {found}.')
        for task, metric in self.metrics.items():
            part = batch.replace(target=batch.target[task])
            metric.update(outputs._replace(prediction=outputs.prediction[task]), part)

    def compute(self) -> dict[str, Tensor]:
        """``name``, the mean over the tasks that have a score, and ``<task>_<score>`` of each scalar of a task."""
        values = {task: metric.compute() for task, metric in self.metrics.items()}
        main = [torch.as_tensor(values[task][m.name]).cpu().double() for task, m in self.metrics.items()]
        scalars = {
            f'{task}_{k}': torch.as_tensor(v)
            for task, scores in values.items()
            for k, v in scores.items()
            if not (isinstance(v, Tensor) and v.ndim)
        }
        return {self.name: torch.stack(main).nanmean(), **scalars}

    @property
    def settings(self) -> dict[str, Any]:
        """Those of each task."""
        return {f'{task}_{k}': v for task, metric in self.metrics.items() for k, v in metric.settings.items()}
