"""Encoders: one modality -> features."""

from .timm_encoder import TimmEncoder, TimmPyramid

__all__ = ['TimmEncoder', 'TimmPyramid']
