"""Hosts: one published architecture in each file."""

from .early_fusion_yolo import EarlyFusionYOLO
from .encoder_decoder import EncoderDecoder
from .esanet import ESANet, ESANetMD
from .isfuse import ISFuse
from .late_fusion import LateFusion
from .mail import MAIL
from .mail_seg import MAILSeg
from .mmanet import MMANet
from .mmformer import MMFormer
from .rfnet import RFNet
from .sfmd import SFMD
from .two_stream_yolo import TwoStreamYOLO

__all__ = [
    'MAIL',
    'SFMD',
    'ESANet',
    'ESANetMD',
    'EarlyFusionYOLO',
    'EncoderDecoder',
    'ISFuse',
    'LateFusion',
    'MAILSeg',
    'MMANet',
    'MMFormer',
    'RFNet',
    'TwoStreamYOLO',
]
