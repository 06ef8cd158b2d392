"""Heads: fused features -> prediction."""

from .linear import LinearHead

__all__ = ['LinearHead']
