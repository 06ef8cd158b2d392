"""Encoders: one modality -> features."""

from .resnet_nbt1d import ResNetNBt1D
from .timm_encoder import TimmEncoder, TimmPyramid
from .yolo_backbone import YOLOBackbone

__all__ = ['ResNetNBt1D', 'TimmEncoder', 'TimmPyramid', 'YOLOBackbone']
