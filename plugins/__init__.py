"""Balancing plugins: interventions on the training of any host."""

from .plugin import Plugin

__all__ = ['Plugin']
