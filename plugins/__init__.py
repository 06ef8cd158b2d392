"""Balancing plugins: interventions on the training of any host."""

from .adversarial_training import AdversarialTraining
from .distillation import C2KD, DIST, DKD, DML, NKD, OFD, PKD, AttentionFeatures, Distillation, FitNet, LogitKD
from .fd_cmkd import FDCMKD
from .intervention import Intervention
from .mad import MAD
from .mar import MAR
from .modality_dropout import ModalityDropout
from .mwam import MWAM
from .ogm_ge import OGMGE
from .plugin import Plugin
from .rpan import RPAN
from .scaling import BranchScaler
from .static_weights import StaticWeights
from .taught import Taught

__all__ = [
    'C2KD',
    'DIST',
    'DKD',
    'DML',
    'FDCMKD',
    'NKD',
    'OFD',
    'PKD',
    'AttentionFeatures',
    'Distillation',
    'FitNet',
    'Intervention',
    'LogitKD',
    'Taught',
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
