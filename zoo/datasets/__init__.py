"""Data sets: one public layout a file, and the one that needs no download."""

from . import transforms
from .base import IGNORE, MultimodalDataset, Sample, check_inputs
from .brain_phantoms import BrainPhantoms
from .brats import BraTS
from .casia_surf import CASIASURF
from .digit_scenes import DigitScenes
from .drone_vehicle import DroneVehicle
from .flir_aligned import FLIRAligned
from .llvip import LLVIP
from .m3fd import M3FD
from .nyuv2 import NYUv2
from .paired_boxes import PairedBoxes
from .paired_yolo import PairedYOLO
from .rgbd_folder import RGBDFolder
from .sun_rgbd import SUNRGBD

__all__ = [
    'CASIASURF',
    'IGNORE',
    'LLVIP',
    'M3FD',
    'SUNRGBD',
    'BraTS',
    'BrainPhantoms',
    'DigitScenes',
    'DroneVehicle',
    'FLIRAligned',
    'MultimodalDataset',
    'NYUv2',
    'PairedBoxes',
    'PairedYOLO',
    'RGBDFolder',
    'Sample',
    'check_inputs',
    'transforms',
]
