"""Blocks that networks of more than one paper, or fusion blocks and encoders both, are made of."""

from .channel_attention import ChannelAttention
from .cosine import Cosine, cosine_matrix
from .emila import EMILA
from .erla import ERLA
from .msgdc import MSGDC
from .site import Site

__all__ = ['EMILA', 'ERLA', 'MSGDC', 'ChannelAttention', 'Cosine', 'Site', 'cosine_matrix']
