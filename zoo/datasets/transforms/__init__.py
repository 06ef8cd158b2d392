"""What is done to a sample before it is collated."""

from .frequency_filter import FrequencyFilter, frequency_filter
from .geometry import Geometry, RandomCrop, RandomFlip, RandomResize, RandomRotation, Resize
from .photometric import RandomHSV, scale_hsv

__all__ = [
    'FrequencyFilter',
    'Geometry',
    'RandomCrop',
    'RandomFlip',
    'RandomHSV',
    'RandomResize',
    'RandomRotation',
    'Resize',
    'frequency_filter',
    'scale_hsv',
]
