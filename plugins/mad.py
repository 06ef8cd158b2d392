"""MAD: margin-aware distillation of relations between samples, from a teacher that sees every modality."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from registry import PLUGINS, InputError, unknown_name
from zoo.batch import Batch, Outputs
from zoo.host import MultimodalHost

from .taught import Source, Taught

WEIGHTED = ('columns', 'rows')


def margin_aware_distance(student: Tensor, teacher: Tensor, logits: Tensor, weighted: str = 'columns') -> Tensor:
    """MAD: the squared distance between two matrices of similarities, near samples that the teacher is unsure of.

    ``G = F F^T`` with rows of length 1, for student and teacher; ``D = (G_s - G_t)^2``; a sample's weight is its share
    of the entropy of the teacher's softmax; the sum of ``w_j D_ij`` (MMANet, CVPR 2023, Sec. 3.2).

    >>> features = torch.eye(3)
    >>> margin_aware_distance(features, features, torch.randn(3, 2))
    tensor(0.)

    Args:
        student: (B, ...), any width.
        teacher: (B, ...), which may have another width.
        logits: (B, K, ...) of the teacher; entropies are averaged over the places.
        weighted: Whether a weight belongs to a column of D, as in the published code for classification, or to a row,
            as in that for segmentation. G is symmetric, D is not, since rows were divided by their length.

    Returns:
        A scalar in float32, at least 0. Where the teacher is sure of every sample all weigh the same.
    """
    with torch.autocast(student.device.type, enabled=False):
        distance = (_similarities(student) - _similarities(teacher)).square()
        entropy = torch.special.entr(logits.float().softmax(1)).sum(1).reshape(len(logits), -1).mean(1)
        total = entropy.sum()
        weights = torch.where(total > 0, entropy / total.clamp(min=torch.finfo(total.dtype).tiny), 1 / len(entropy))
        return (distance * (weights if weighted == 'columns' else weights[:, None])).sum()


def _similarities(features: Tensor) -> Tensor:
    """(B, ...) -> (B, B)."""
    flat = features.flatten(1).float()
    return F.normalize(flat @ flat.T, dim=1)


@PLUGINS.register_module()
class MAD(Taught):
    """Adds ``loss_mad``: `margin_aware_distance` between the host's features, of what a sample has left, and those of a
    frozen teacher on all that the data set delivered for it.

    The teacher (see `Taught`) may be another architecture: only similarities between samples are compared. A sample is
    one row of a batch, so a batch of one gives nothing; over several processes each compares its own.

    Differences to the official code: the entropy comes from `torch.special.entr`, finite where ``p log p`` underflows
    to NaN; weights are those of columns for every task (``weighted`` chooses), where its two tasks differ; the
    teacher is in eval mode for every task, where that of segmentation ran on batch statistics; the margin is that of
    class logits, where segmentation took 512 feature channels for classes; segmentation is compared image by image,
    where it takes each pixel of pooled maps for a sample.

    Args:
        teacher: See `Taught`.
        checkpoint: See `Taught`.
        alpha: Weight of the loss; the published 30 is for classification, 4 for segmentation.
        start_epoch: The first epoch, from 0, with the loss; after five epochs in the published recipe.
        features: Key of ``outputs.extras`` of host and teacher. None takes the first that there is of ``'layer4'``
            (`SFMD`, `MMANet`: the published choice), ``'fused'`` (of a list of maps the coarsest), and the prediction.
        weighted: See `margin_aware_distance`.
        name: See `Plugin`.

    Raises:
        InputError: A teacher without weights, one that can not be read, or a value outside its range.
    """

    needs = frozenset({'sample_losses'})  # which hosts with class logits offer

    def __init__(
        self,
        teacher: Source,
        checkpoint: str | None = None,
        alpha: float = 30.0,
        start_epoch: int = 5,
        features: str | None = None,
        weighted: str = 'columns',
        name: str | None = None,
    ) -> None:
        super().__init__(teacher, checkpoint, name)
        if not 0 <= alpha < math.inf:
            raise InputError(f'alpha must be finite and not negative, got {alpha!r}.')
        if start_epoch < 0:
            raise InputError(f'start_epoch must be at least 0, got {start_epoch!r}.')
        if weighted not in WEIGHTED:
            raise unknown_name('way to weigh (weighted)', weighted, WEIGHTED)
        self.alpha, self.start_epoch = alpha, start_epoch
        self.source_key, self.weighted = features, weighted

    def on_losses(
        self, host: MultimodalHost, batch: Batch, outputs: Outputs, losses: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Add ``loss_mad`` from ``start_epoch`` on."""
        if host.clock.epoch < self.start_epoch:
            return losses
        with torch.no_grad():
            taught = self.teacher.run(self.for_teacher(host, batch))
        distance = margin_aware_distance(
            relational_features(outputs, self.source_key),
            relational_features(taught, self.source_key),
            taught.prediction,
            self.weighted,
        )
        self.log(distance=distance)
        return {**losses, 'loss_mad': self.alpha * distance}


def relational_features(outputs: Outputs, key: str | None) -> Tensor:
    """What `MAD` compares, (B, ...): see its argument ``features``.

    Raises:
        InputError: ``outputs.extras`` has no such key, or no maps under it.
    """
    if key is not None and key not in outputs.extras:
        raise InputError(
            f'No {key!r} among the extras of the outputs: {", ".join(outputs.extras) or "there are none"}.'
        )
    for name in ('layer4', 'fused') if key is None else (key,):
        value = outputs.extras.get(name)
        if isinstance(value, (list, tuple)):
            value = next((x for x in reversed(value) if x is not None), None)
        if isinstance(value, Tensor):
            return value
    if key is not None:
        raise InputError(f'outputs.extras[{key!r}] holds no tensor.')
    return outputs.prediction
