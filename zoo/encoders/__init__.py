"""Encoders: one modality -> features."""

from .resnet_nbt1d import ResNetNBt1D
from .timm_encoder import TimmEncoder, TimmPyramid

__all__ = ['ResNetNBt1D', 'TimmEncoder', 'TimmPyramid']
