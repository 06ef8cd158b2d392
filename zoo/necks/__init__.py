"""Necks: fused maps -> fused maps."""

from .pyramid_context import PyramidContext

__all__ = ['PyramidContext']
