"""Encoders: one modality -> features."""

from .erla_encoder import ERLAEncoder, ERLAPyramid
from .frame_average import FrameAverage
from .resnet_nbt1d import ResNetNBt1D
from .resnet_se_stem import ResNetSEStem
from .text_encoder import TextEncoder
from .timm_encoder import TimmEncoder, TimmPyramid
from .unet3d import UNet3D
from .yolo_backbone import YOLOBackbone

__all__ = [
    'ERLAEncoder',
    'ERLAPyramid',
    'FrameAverage',
    'ResNetNBt1D',
    'ResNetSEStem',
    'TextEncoder',
    'TimmEncoder',
    'TimmPyramid',
    'UNet3D',
    'YOLOBackbone',
]
