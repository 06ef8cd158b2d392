"""A modular zoo of multimodal vision models: hosts, their parts, data, and what measures them."""

from . import attacks, datasets, encoders, fusion, heads, hosts, losses, metrics, necks
from .batch import Batch, Features, Outputs
from .build import create_host, list_hosts, list_plugins
from .host import Clock, MultimodalHost
from .preprocessor import MultimodalPreprocessor

__version__ = '0.3.0'

__all__ = [
    'Batch',
    'Clock',
    'Features',
    'MultimodalHost',
    'MultimodalPreprocessor',
    'Outputs',
    'attacks',
    'create_host',
    'datasets',
    'encoders',
    'fusion',
    'heads',
    'hosts',
    'list_hosts',
    'list_plugins',
    'losses',
    'metrics',
    'necks',
]
