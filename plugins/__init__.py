"""Balancing plugins: interventions on the training of any host."""

from .adversarial_training import AdversarialTraining
from .mad import MAD
from .mar import MAR
from .modality_dropout import ModalityDropout
from .mwam import MWAM
from .ogm_ge import OGMGE
from .plugin import Plugin
from .rpan import RPAN
from .scaling import BranchScaler
from .static_weights import StaticWeights

__all__ = [
    'MAD',
    'MAR',
    'MWAM',
    'OGMGE',
    'RPAN',
    'AdversarialTraining',
    'BranchScaler',
    'ModalityDropout',
    'Plugin',
    'StaticWeights',
]
