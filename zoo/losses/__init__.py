"""Losses: those of torch by their own names, those of smp and mmseg as ``smp.NAME`` and ``mmseg.NAME``, and sums.

A loss takes (prediction, target), that of detectors (raw predictions, boxes, labels), that of image fusion (fused,
sources, present). One that is a mean over elements
has a ``reduction``; one of a set, as Dice is, has none.
"""

from .dice_wce import DiceWCE
from .foreign import ForeignLoss
from .fusion_fidelity import FusionFidelity, fidelity, laplacian
from .torch_losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from .weighted_sum import WeightedSum
from .yolo_loss import YOLOLoss

__all__ = [
    'BCEWithLogitsLoss',
    'CrossEntropyLoss',
    'DiceWCE',
    'ForeignLoss',
    'FusionFidelity',
    'MSELoss',
    'WeightedSum',
    'YOLOLoss',
    'fidelity',
    'laplacian',
]
