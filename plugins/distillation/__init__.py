"""Distillation: plugins that bring into a host what a teacher of another modality knows."""

from .attention_features import AttentionFeatures
from .c2kd import C2KD
from .dist import DIST
from .distillation import Distillation
from .dkd import DKD
from .dml import DML
from .fitnet import FitNet
from .logit_kd import LogitKD
from .nkd import NKD
from .ofd import OFD
from .pkd import PKD

__all__ = ['C2KD', 'DIST', 'DKD', 'DML', 'NKD', 'OFD', 'PKD', 'AttentionFeatures', 'Distillation', 'FitNet', 'LogitKD']
