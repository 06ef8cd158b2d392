"""Heads: fused features -> prediction."""

from .erla_decoder import ERLADecoder
from .esanet_decoder import ESANetDecoder
from .fcn import FCN8s
from .linear import LinearHead
from .map_head import build_map_head, used_levels
from .mmseg_head import MmsegHead
from .smp_head import SmpHead
from .yolo_head import YOLOAuxiliaryHead, YOLOHead

__all__ = [
    'ERLADecoder',
    'ESANetDecoder',
    'FCN8s',
    'LinearHead',
    'MmsegHead',
    'SmpHead',
    'YOLOAuxiliaryHead',
    'YOLOHead',
    'build_map_head',
    'used_levels',
]
