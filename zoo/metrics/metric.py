"""What every metric keeps."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor, nn

from registry import InputError
from zoo.batch import Batch, Outputs


class Curves(NamedTuple):
    """Precision over recall, both 0..1."""

    recall: Tensor  # (R,), increasing
    precision: Tensor  # (K, R) for each class, NaN for one without a score


class Metric(nn.Module):
    """Sums over batches what one number needs; the modality sweep holds one of these for each subset.

    Attributes:
        task: The task whose predictions it takes, as `MultimodalHost.task` has it; '' for any.
        name: The key of `compute` that tables, model selection and the performance collapse rate use.
        also: Further scalars that tables show.
        higher_is_better: Whether a larger value is better.
        units: Of the scalars that are not in percent.
    """

    task = ''
    name: str = ''
    also: tuple[str, ...] = ()
    higher_is_better = True
    units: Mapping[str, str] = MappingProxyType({})

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Add a batch; nothing waits for the device."""
        raise NotImplementedError

    def compute(self) -> dict[str, float | Tensor]:
        """The values over all batches and all processes; scores in percent, unless `units` says otherwise. Called once,
        by every process.

        A value is a scalar, or a vector (K,) with one entry for each class, NaN where it has none. The first vector is
        what tables of classes show.
        """
        raise NotImplementedError

    def curves(self) -> Curves | None:
        """After `compute`: the curves behind the scores; None where there are none."""
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values without which the scores can not be compared; they are stored with them."""
        return {}


def class_logits(outputs: Outputs, metric: Metric) -> Tensor:
    """The logits (B, K) of one task.

    Raises:
        InputError: The prediction is something else; says what scores several tasks.
    """
    logits = outputs.prediction
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f'{type(metric).__name__} takes logits (B, K) of one task, got {got}; MultiTask scores several tasks.'
        )
    return logits
