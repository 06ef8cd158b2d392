"""Hosts: one published architecture in each file."""

from .encoder_decoder import EncoderDecoder
from .esanet import ESANet, ESANetMD
from .late_fusion import LateFusion

__all__ = ['ESANet', 'ESANetMD', 'EncoderDecoder', 'LateFusion']
