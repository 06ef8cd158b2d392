"""Metrics, and the performance collapse rate."""

from .accuracy import Accuracy
from .collapse import performance_collapse_rate
from .distributed import all_reduce_sum
from .mean_iou import MeanIoU, class_map
from .metric import Metric

__all__ = ['Accuracy', 'MeanIoU', 'Metric', 'all_reduce_sum', 'class_map', 'performance_collapse_rate']
