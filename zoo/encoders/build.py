"""An encoder from what a config says of it."""

from collections.abc import Mapping

from torch import nn

from registry import ENCODERS


def build_encoder(encoder: str | Mapping, in_chans: int, default: str = 'TimmEncoder') -> nn.Module:
    """An encoder from a config, a registered name, or the name of a timm model, which ``default`` wraps."""
    if isinstance(encoder, str):
        encoder = {'type': encoder} if encoder in ENCODERS.module_dict else {'model': encoder}
    return ENCODERS.build({'type': default, **encoder}, default_args={'in_chans': in_chans})
