"""Fusion blocks: features of the modalities that are present -> one."""

from .attention import Attention
from .concat import Concat
from .concat_conv import ConcatConv
from .fusion import Fusion, Pointwise
from .gated import Gated
from .mean import Mean
from .se_add import SEAdd
from .sum import Sum

__all__ = ['Attention', 'Concat', 'ConcatConv', 'Fusion', 'Gated', 'Mean', 'Pointwise', 'SEAdd', 'Sum']
