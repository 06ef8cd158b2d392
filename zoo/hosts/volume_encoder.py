"""The encoders that hosts for volumes are given."""

from collections.abc import Mapping, Sequence

from torch import nn

from registry import InputError
from zoo.encoders.build import build_encoder


def volume_encoder(
    encoder: str | Mapping | None, in_chans: int, widths: Sequence[int], block: str, padding: str
) -> nn.Module:
    """One modality's encoder: (B, in_chans, D, H, W) -> maps (B, C_i, D / 2**i, H / 2**i, W / 2**i), finest first.

    Args:
        encoder: A registered encoder, by name or config; None is `UNet3D` of the arguments below.
        in_chans: Channels of the volume.
        widths: C_i.
        block: See `UNet3D`.
        padding: See `UNet3D`.

    Raises:
        InputError: An encoder of other maps.
        NameNotFound: An unknown encoder.
    """
    if encoder is None:
        encoder = {'type': 'UNet3D', 'widths': widths, 'block': block, 'padding': padding}
    built = build_encoder(encoder, in_chans, default='UNet3D')
    channels = getattr(built, 'out_channels', None)
    if not isinstance(channels, Sequence) or list(channels) != list(widths):
        raise InputError(
            f'The encoder {type(built).__name__} yields maps of {channels} channels (out_channels), the host expects '
            f'widths = {list(widths)}, finest first.'
        )
    return built
