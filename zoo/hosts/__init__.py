"""Hosts: one published architecture in each file."""

from .late_fusion import LateFusion

__all__ = ['LateFusion']
