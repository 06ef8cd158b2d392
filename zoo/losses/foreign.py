"""Losses of segmentation-models-pytorch (``smp.NAME``) and mmsegmentation (``mmseg.NAME``), called as ours are."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import LOSSES, InputError, Registry, build_foreign, check_arguments, unknown_name
from zoo.datasets import IGNORE

SMP_DEFAULTS = {'SoftCrossEntropyLoss': {'smooth_factor': 0.0}}  # its own None fails in the first call


class ForeignLoss(nn.Module):
    """A loss of masks from another library: logits (B, K, H, W), classes (B, H, W) -> ().

    Ignored pixels have no influence (mmseg's HuasdorffDisstanceLoss takes them for class 0), and where no pixel counts
    the loss is 0 with zero gradients. It has no ``reduction``: most of these are losses of a set of pixels.

    Args:
        loss: Takes (logits, target).
        ignore_index: The label that does not count; None counts all.
        arguments: Further ones of its calls.
    """

    def __init__(
        self, loss: nn.Module, ignore_index: int | None = IGNORE, arguments: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.loss = loss
        self.ignore_index = ignore_index
        self.arguments = dict(arguments or {})

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """-> ()."""
        counts = torch.ones_like(target, dtype=torch.bool)
        if self.ignore_index is not None:
            counts = target != self.ignore_index
        loss = self.call(prediction, target, counts)
        loss = loss.mean() if loss.numel() else loss.sum()  # Lovasz of no pixel is an empty tensor
        if not loss.requires_grad:  # OHEM of no pixel has no graph
            loss = loss + 0 * prediction.sum()
        return loss.where(counts.any(), 0)  # focal loss of no pixel is NaN

    def call(self, prediction: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        """The loss as its library has it; ``counts`` (B, H, W) marks the pixels that are not ignored."""
        return self.loss(prediction, target, **self.arguments)


class MmsegDice(ForeignLoss):
    """mmseg's Dice, whose own way counts an ignored pixel as one that every class predicts wrongly."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__(loss)
        self.activate, loss.activate = loss.activate, False

    def call(self, prediction: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        """Without the probabilities of ignored pixels."""
        if self.activate and self.loss.use_sigmoid:
            prediction = prediction.sigmoid()
        elif self.activate and prediction.shape[1] > 1:
            prediction = prediction.softmax(1)
        return self.loss(prediction.masked_fill(~counts[:, None], 0), target)


class MmsegFocal(ForeignLoss):
    """mmseg's focal loss, whose own way to one-hot targets fails on a CPU; averaged over all pixels, as there."""

    def call(self, prediction: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        """With one-hot targets, and weight 0 for ignored pixels."""
        from mmseg.models.losses.focal_loss import py_sigmoid_focal_loss

        classes, labels, loss = prediction.shape[1], target.where(counts, 0), self.loss
        one_hot = F.one_hot(labels, classes) if classes > 1 else labels[..., None]
        return loss.loss_weight * py_sigmoid_focal_loss(
            prediction.movedim(1, -1).reshape(-1, classes),
            one_hot.reshape(-1, classes),
            gamma=loss.gamma,
            alpha=loss.alpha,
            class_weight=loss.class_weight,
            valid_mask=counts.reshape(-1, 1),
            reduction=loss.reduction,
        )


MMSEG = {'DiceLoss': MmsegDice, 'FocalLoss': MmsegFocal}


@LOSSES.library('mmseg')
def build_mmseg(kind: str, arguments: Mapping[str, Any], registry: Registry) -> ForeignLoss:
    """A loss of mmsegmentation; see `registry.build_foreign`."""
    arguments, name = dict(arguments), kind.split('.', 1)[1]
    if name == 'LovaszLoss' and not arguments.get('per_image'):
        arguments.setdefault('reduction', 'none')  # its own default is one that it refuses
    loss = build_foreign(kind, arguments, registry)
    if name in MMSEG:
        return MMSEG[name](loss)
    takes = inspect.signature(loss.forward).parameters.values()
    named = any(p.name == 'ignore_index' or p.kind is p.VAR_KEYWORD for p in takes)
    return ForeignLoss(loss, arguments={'ignore_index': IGNORE} if named else {})


@LOSSES.library('smp')
def build_smp(kind: str, arguments: Mapping[str, Any], registry: Registry) -> ForeignLoss:
    """A loss of segmentation-models-pytorch; it ignores `zoo.datasets.IGNORE` unless told otherwise.

    Args:
        kind: ``smp.NAME``.
        arguments: Those of its class.
        registry: That of losses.

    Raises:
        NameNotFound: smp has no such loss or mode.
        InputError: smp is not installed, or the arguments do not fit.
    """
    try:
        from segmentation_models_pytorch import losses as smp
    except ImportError as error:
        raise InputError(
            f'The loss {kind!r} needs segmentation-models-pytorch, which does not import: {error}'
        ) from error
    name = kind.split('.', 1)[1]
    known = [n for n in smp.__all__ if n.endswith('Loss')]
    if name not in known:
        raise unknown_name('loss in smp', name, known)
    cls = getattr(smp, name)
    takes = inspect.signature(cls).parameters
    arguments = {
        **SMP_DEFAULTS.get(name, {}),
        **({'ignore_index': IGNORE} if 'ignore_index' in takes else {}),
        **arguments,
    }
    check_arguments(cls, registry.name, (), arguments)
    modes = (smp.BINARY_MODE, smp.MULTICLASS_MODE, smp.MULTILABEL_MODE)
    if arguments.get('mode', modes[0]) not in modes:
        raise unknown_name(f'mode of {kind}', arguments['mode'], modes)
    try:
        loss = cls(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f'The loss {kind!r} can not be built: {error}') from error
    return ForeignLoss(loss, arguments.get('ignore_index'))
