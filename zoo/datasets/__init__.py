"""Data sets: one public layout a file, and the one that needs no download."""

from . import transforms
from .base import IGNORE, MultimodalDataset, Sample, check_inputs
from .casia_surf import CASIASURF
from .digit_scenes import DigitScenes
from .nyuv2 import NYUv2
from .rgbd_folder import RGBDFolder
from .sun_rgbd import SUNRGBD

__all__ = [
    'CASIASURF',
    'IGNORE',
    'SUNRGBD',
    'DigitScenes',
    'MultimodalDataset',
    'NYUv2',
    'RGBDFolder',
    'Sample',
    'check_inputs',
    'transforms',
]
