"""Data sets: one public layout a file, and the one that needs no download."""

from . import transforms
from .base import IGNORE, MultimodalDataset, Sample, check_inputs
from .casia_surf import CASIASURF
from .digit_scenes import DigitScenes

__all__ = ['CASIASURF', 'IGNORE', 'DigitScenes', 'MultimodalDataset', 'Sample', 'check_inputs', 'transforms']
