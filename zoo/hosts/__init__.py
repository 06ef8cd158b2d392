"""Hosts: one published architecture in each file."""

from .encoder_decoder import EncoderDecoder
from .late_fusion import LateFusion

__all__ = ['EncoderDecoder', 'LateFusion']
