"""What every metric keeps."""

from torch import Tensor, nn

from zoo.batch import Batch, Outputs


class Metric(nn.Module):
    """Sums over batches what one number needs; the modality sweep holds one of these for each subset.

    Attributes:
        name: The key of `compute` that tables, model selection and the performance collapse rate use.
        higher_is_better: Whether a larger value is better.
    """

    name: str = ''
    higher_is_better = True

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Add a batch; nothing waits for the device."""
        raise NotImplementedError

    def compute(self) -> dict[str, float | Tensor]:
        """The values over all batches and all processes; scores in percent. Called once, by every process.

        A value is a scalar, or a vector (K,) with one entry for each class, NaN where it has none. The first vector is
        what tables of classes show.
        """
        raise NotImplementedError
