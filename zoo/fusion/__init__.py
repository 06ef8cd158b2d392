"""Fusion blocks: features of the modalities that are present -> one."""

from .attention import Attention
from .concat import Concat
from .concat_conv import ConcatConv
from .fusion import Fusion, Pointwise
from .gated import Gated
from .mean import Mean
from .mean_variance import MeanVariance
from .se_add import SEAdd
from .sum import Sum

__all__ = ['Attention', 'Concat', 'ConcatConv', 'Fusion', 'Gated', 'Mean', 'MeanVariance', 'Pointwise', 'SEAdd', 'Sum']
