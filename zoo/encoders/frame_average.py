"""Several frames of a video through an encoder of images."""

from collections.abc import Mapping

from torch import Tensor, nn

from registry import ENCODERS, InputError

from .build import build_encoder


@ENCODERS.register_module()
class FrameAverage(nn.Module):
    """Encodes each frame by itself and averages the vectors: (B, C, T, H, W) -> (B, out_channels).

    The frames of all samples are one batch of B T images, of which normalisation layers take their statistics. Images
    without the axis of frames, (B, C, H, W), are encoded as they are: training with three frames and testing with one
    needs no other host.

    Args:
        encoder: What turns an image into a vector: a timm model's name, a registered encoder's name, or a config.
        in_chans: Channels of the images.

    Attributes:
        out_channels: Width of the features.

    Raises:
        InputError: An encoder of maps, later an input of another number of dimensions.
    """

    def __init__(self, encoder: str | Mapping = 'resnet18', in_chans: int = 3) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder, in_chans)
        self.out_channels = self.encoder.out_channels
        if not isinstance(self.out_channels, int):
            raise InputError(f'FrameAverage takes an encoder of vectors, {type(self.encoder).__name__} gives maps.')

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) or (B, C, H, W) -> (B, out_channels)."""
        if x.ndim == 4:
            return self.encoder(x)
        if x.ndim != 5:
            raise InputError(f'FrameAverage takes (B, C, T, H, W) or (B, C, H, W), got {tuple(x.shape)}.')
        frames = x.transpose(1, 2)  # (B, T, C, H, W)
        return self.encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(1)
