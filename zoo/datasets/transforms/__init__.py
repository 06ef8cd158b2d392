"""What is done to a sample before it is collated."""

from .affine import RandomAffine
from .frequency_filter import FrequencyFilter, frequency_filter
from .geometry import (
    Geometry,
    RandomCrop,
    RandomFlip,
    RandomResize,
    RandomResizedCrop,
    RandomRotation,
    RandomTranspose,
    Resize,
)
from .letterbox import LetterBox
from .mixing import Mixing, MixUp, Mosaic
from .photometric import RandomGain, RandomHSV, scale_hsv
from .view import VIEWS, RandomView
from .volume import IntensityShift, VolumeCrop, VolumeFlip, VolumeGeometry, VolumeRotation, rotate_volume, volume_size

__all__ = [
    'VIEWS',
    'FrequencyFilter',
    'Geometry',
    'IntensityShift',
    'LetterBox',
    'MixUp',
    'Mixing',
    'Mosaic',
    'RandomAffine',
    'RandomCrop',
    'RandomFlip',
    'RandomGain',
    'RandomHSV',
    'RandomResize',
    'RandomResizedCrop',
    'RandomRotation',
    'RandomTranspose',
    'RandomView',
    'Resize',
    'VolumeCrop',
    'VolumeFlip',
    'VolumeGeometry',
    'VolumeRotation',
    'frequency_filter',
    'rotate_volume',
    'scale_hsv',
    'volume_size',
]
