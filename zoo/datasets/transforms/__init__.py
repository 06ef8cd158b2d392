"""What is done to a sample before it is collated."""

from .frequency_filter import FrequencyFilter, frequency_filter
from .geometry import Geometry, RandomCrop, RandomFlip, RandomRotation, Resize

__all__ = [
    'FrequencyFilter',
    'Geometry',
    'RandomCrop',
    'RandomFlip',
    'RandomRotation',
    'Resize',
    'frequency_filter',
]
