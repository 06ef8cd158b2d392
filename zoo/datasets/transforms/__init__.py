"""What is done to a sample before it is collated."""

from .geometry import Geometry, RandomCrop, RandomFlip, RandomRotation, Resize

__all__ = ['Geometry', 'RandomCrop', 'RandomFlip', 'RandomRotation', 'Resize']
