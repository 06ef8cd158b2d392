"""Adversarial attacks on hosts: small changes of the inputs that raise the loss."""

from .apgd import APGD
from .attack import Attack
from .auto_attack import AutoAttack
from .fab import FAB
from .pgd import BIM, FGSM, MIM, PGD
from .problem import Look, Problem
from .square import Square

__all__ = ['APGD', 'BIM', 'FAB', 'FGSM', 'MIM', 'PGD', 'Attack', 'AutoAttack', 'Look', 'Problem', 'Square']
