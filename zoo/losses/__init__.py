"""Losses: those of torch by their own names. A loss takes (prediction, target) and ``reduction``."""

from torch import nn

from registry import LOSSES

for _loss in (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.MSELoss):
    LOSSES.register_module(module=_loss)
