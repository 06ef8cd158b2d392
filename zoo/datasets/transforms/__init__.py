"""What is done to a sample before it is collated."""

from .affine import RandomAffine
from .frequency_filter import FrequencyFilter, frequency_filter
from .geometry import Geometry, RandomCrop, RandomFlip, RandomResize, RandomRotation, Resize
from .letterbox import LetterBox
from .mixing import Mixing, MixUp, Mosaic
from .photometric import RandomGain, RandomHSV, scale_hsv

__all__ = [
    'FrequencyFilter',
    'Geometry',
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
    'RandomRotation',
    'Resize',
    'frequency_filter',
    'scale_hsv',
]
