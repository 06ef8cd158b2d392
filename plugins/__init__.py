"""Balancing plugins: interventions on the training of any host."""

from .modality_dropout import ModalityDropout
from .mwam import MWAM
from .ogm_ge import OGMGE
from .plugin import Plugin
from .scaling import BranchScaler
from .static_weights import StaticWeights

__all__ = ['MWAM', 'OGMGE', 'BranchScaler', 'ModalityDropout', 'Plugin', 'StaticWeights']
