"""Fusion blocks: features of the modalities that are present -> one."""

from .attention import Attention
from .concat import Concat
from .fusion import Fusion, Pointwise
from .gated import Gated
from .se_add import SEAdd
from .sum import Sum

__all__ = ['Attention', 'Concat', 'Fusion', 'Gated', 'Pointwise', 'SEAdd', 'Sum']
