"""Balancing plugins: interventions on the training of any host."""

from .mad import MAD
from .mar import MAR
from .modality_dropout import ModalityDropout
from .mwam import MWAM
from .ogm_ge import OGMGE
from .plugin import Plugin
from .scaling import BranchScaler
from .static_weights import StaticWeights

__all__ = ['MAD', 'MAR', 'MWAM', 'OGMGE', 'BranchScaler', 'ModalityDropout', 'Plugin', 'StaticWeights']
