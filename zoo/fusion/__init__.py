"""Fusion blocks: features of the modalities that are present -> one, or each of them refined."""

from .attention import Attention
from .cfi import CFI
from .concat import Concat
from .concat_conv import ConcatConv
from .emcam import EMCAM
from .emsca import EMSCA
from .exchange import Exchange
from .fusion import Fusion, Pointwise
from .gated import Gated
from .mean import Mean
from .mean_variance import MeanVariance
from .mfifa import MFIFA
from .se_add import SEAdd
from .sum import Sum

__all__ = [
    'CFI',
    'EMCAM',
    'EMSCA',
    'MFIFA',
    'Attention',
    'Concat',
    'ConcatConv',
    'Exchange',
    'Fusion',
    'Gated',
    'Mean',
    'MeanVariance',
    'Pointwise',
    'SEAdd',
    'Sum',
]
