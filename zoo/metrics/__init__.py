"""Metrics, and the performance collapse rate."""

from .accuracy import Accuracy
from .collapse import performance_collapse_rate
from .distributed import all_reduce_sum
from .metric import Metric

__all__ = ['Accuracy', 'Metric', 'all_reduce_sum', 'performance_collapse_rate']
