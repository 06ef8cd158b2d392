"""Losses: those of torch by their own names. A loss takes (prediction, target) and has a ``reduction``."""

from .torch_losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss

__all__ = ['BCEWithLogitsLoss', 'CrossEntropyLoss', 'MSELoss']
