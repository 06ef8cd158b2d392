"""MAD: margin-aware distillation of relations between samples, from a teacher that sees every modality."""

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import HOSTS, PLUGINS, InputError, PluginWarning, unknown_name
from zoo.batch import Batch, Outputs
from zoo.digest import weights_digest
from zoo.host import MultimodalHost

from .plugin import Plugin

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
class MAD(Plugin):
    """Adds ``loss_mad``: `margin_aware_distance` between the host's features, of what a sample has left, and those of a
    frozen teacher on all that the data set delivered for it.

    The teacher is in eval mode and outside the module tree, so it is neither trained nor saved. It needs the modalities
    of the data, not those of the host, gets inputs that the host's preprocessor has normalised, and may be another
    architecture: only similarities between samples are compared. A sample is one row of a batch, so a batch of one
    gives nothing; over several processes each compares its own.

    Differences to the official code: the entropy comes from `torch.special.entr`, finite where ``p log p`` underflows
    to NaN; weights are those of columns for every task (``weighted`` chooses), where its two tasks differ; the
    teacher is in eval mode for every task, where that of segmentation ran on batch statistics; the margin is that of
    class logits, where segmentation took 512 feature channels for classes; segmentation is compared image by image,
    where it takes each pixel of pooled maps for a sample.

    Args:
        teacher: A config file or the ``model`` part of one (`HOSTS`); a host; or a function that makes one from the
            trained host.
        checkpoint: The teacher's weights: ``best.pth`` or ``iter_<n>.pth``. Needed with a config.
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
    min_modalities = 1

    def __init__(
        self,
        teacher: str | Mapping | nn.Module | Callable[[MultimodalHost], nn.Module],
        checkpoint: str | None = None,
        alpha: float = 30.0,
        start_epoch: int = 5,
        features: str | None = None,
        weighted: str = 'columns',
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not 0 <= alpha < math.inf:
            raise InputError(f'alpha must be finite and not negative, got {alpha!r}.')
        if start_epoch < 0:
            raise InputError(f'start_epoch must be at least 0, got {start_epoch!r}.')
        if weighted not in WEIGHTED:
            raise unknown_name('way to weigh (weighted)', weighted, WEIGHTED)
        if isinstance(teacher, (str, Mapping)) and not checkpoint:
            raise InputError(f'{self.name} needs the checkpoint of its teacher: a random one teaches nothing.')
        object.__setattr__(self, 'source', teacher)  # a module would become part of the student
        self.checkpoint = checkpoint
        self.alpha, self.start_epoch = alpha, start_epoch
        self.source_key, self.weighted = features, weighted
        self.digest = ''

    def attach(self, host: MultimodalHost) -> None:
        """Build, load and freeze the teacher.

        Raises:
            InputError: The teacher is no host, or the host itself, or its checkpoint does not fit it.
        """
        super().attach(host)
        teacher = build_teacher(self.source, self.checkpoint, host)
        if not isinstance(teacher, MultimodalHost) or teacher is host:
            raise InputError(f'The teacher of {self.name} must be a host of its own, got {type(teacher).__name__}.')
        self.hold(teacher=teacher)
        self.digest = weights_digest(teacher)

    def on_losses(
        self, host: MultimodalHost, batch: Batch, outputs: Outputs, losses: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Add ``loss_mad`` from ``start_epoch`` on."""
        if host.clock.epoch < self.start_epoch:
            return losses
        with torch.no_grad():
            taught = self.teacher.run(batch.replace(present=batch.available))
        distance = margin_aware_distance(
            relational_features(outputs, self.source_key),
            relational_features(taught, self.source_key),
            taught.prediction,
            self.weighted,
        )
        self.log(distance=distance)
        return {**losses, 'loss_mad': self.alpha * distance}

    def get_extra_state(self) -> dict[str, Any]:
        """Which teacher it is: the name of its file, and a digest of its weights."""
        return {'checkpoint': Path(self.checkpoint).name if self.checkpoint else None, 'digest': self.digest}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Warn where training goes on with another teacher."""
        if state['digest'] != self.digest:
            warnings.warn(
                f'{self.name}: the weights of the teacher ({self.checkpoint}) are not those that training began with '
                f'({state["checkpoint"]}).',
                PluginWarning,
                stacklevel=2,
            )


def build_teacher(
    source: str | Mapping | nn.Module | Callable[[MultimodalHost], nn.Module],
    checkpoint: str | None,
    host: MultimodalHost,
) -> nn.Module:
    """The teacher that `MAD` names, with its weights."""
    from zoo.engine import checkpoint as ckpt  # what follows leans on all of mmengine: only training needs it
    from zoo.engine.config import load_config
    from zoo.engine.cost import without_weights

    if isinstance(source, (str, Mapping)):
        model = load_config(source).model if isinstance(source, str) else source
        teacher = HOSTS.build(without_weights(model))
    else:
        teacher = source if isinstance(source, nn.Module) else source(host)
    if checkpoint:
        ckpt.load_weights(teacher, ckpt.load(checkpoint), checkpoint)
    return teacher


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
