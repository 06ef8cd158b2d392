"""Data sets: one public layout a file, and the one that needs no download."""

from . import transforms
from .all_views import AllViews
from .ave import AVE
from .base import IGNORE, UNLABELLED, MultimodalDataset, Sample, check_inputs, wrong_label
from .brain_phantoms import BrainPhantoms
from .brats import BraTS
from .casia_surf import CASIASURF
from .cremad import CREMAD
from .crisismmd import CrisisMMD
from .digit_scenes import DigitScenes
from .drone_vehicle import DroneVehicle
from .flir_aligned import FLIRAligned
from .fusion_pairs import FusionPairs
from .image_folders import ImageFolders
from .image_masks import ImageMasks
from .kinetics_sounds import KineticsSounds
from .llvip import LLVIP
from .m3fd import M3FD
from .medmnist import MedMNIST
from .nyuv2 import NYUv2
from .paired_boxes import PairedBoxes
from .paired_folders import PairedFolders
from .paired_yolo import PairedYOLO
from .rgbd_folder import RGBDFolder
from .sun_rgbd import SUNRGBD
from .ucf101 import UCF101
from .unpaired_multi import UnpairedMulti
from .vggsound import VGGSound

__all__ = [
    'AVE',
    'CASIASURF',
    'CREMAD',
    'IGNORE',
    'LLVIP',
    'M3FD',
    'SUNRGBD',
    'UCF101',
    'UNLABELLED',
    'AllViews',
    'BraTS',
    'BrainPhantoms',
    'CrisisMMD',
    'DigitScenes',
    'DroneVehicle',
    'FLIRAligned',
    'FusionPairs',
    'ImageFolders',
    'ImageMasks',
    'KineticsSounds',
    'MedMNIST',
    'MultimodalDataset',
    'NYUv2',
    'PairedBoxes',
    'PairedFolders',
    'PairedYOLO',
    'RGBDFolder',
    'Sample',
    'UnpairedMulti',
    'VGGSound',
    'check_inputs',
    'wrong_label',
    'transforms',
]
