"""The branch of SF-MD and MMANet: the shallow half of a ResNet-18 with a small stem and channel weights at its end."""

from collections.abc import Sequence

from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from registry import ENCODERS, InputError

from ..fusion.se_add import Excitation
from ..layers import he_init_


@ENCODERS.register_module()
class ResNetSEStem(nn.Module):
    """Stem and first two stages of a ResNet-18, then squeeze-excitation: (B, in_chans, H, W) -> (B, C, H/8, W/8).

    The stem is a convolution of 3x3 with stride 2, batch normalisation, ReLU and a maximum over 3x3 with stride 2; each
    stage has two basic blocks. This is one branch of the classification network of MMANet (CVPR 2023), 677,576
    parameters for three channels. Weights begin as He et al. say (normal, fan out); there are no pretrained ones.

    Args:
        in_chans: Channels of the input.
        channels: Widths of the two stages; the first is also the stem's.
        reduction: Width of the output over the hidden one of squeeze-excitation, which is at least 1.

    Attributes:
        out_channels: C.
        reduction: 8, the size of the input over that of the map (rounded up at each halving).

    Raises:
        InputError: ``channels`` are not two numbers above 0.
    """

    reduction = 8

    def __init__(self, in_chans: int = 3, channels: Sequence[int] = (64, 128), reduction: int = 16) -> None:
        super().__init__()
        if len(channels) != 2 or min(channels) < 1:
            raise InputError(f'channels must be two widths of at least 1, got {tuple(channels)}.')
        first, last = channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.layer1 = residual_stage(first, first, stride=1)
        self.layer2 = residual_stage(first, last, stride=2)
        self.excitation = Excitation(last, max(1, last // reduction))
        self.out_channels = last
        he_init_(self, skip=(self.excitation.squeeze, self.excitation.excite))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, C, H/8, W/8)."""
        x = self.layer2(self.layer1(self.stem(x)))
        return x * self.excitation(x)


def residual_stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Two basic blocks; the first has a shortcut of 1x1 where the shape changes."""
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
        )
    return nn.Sequential(
        BasicBlock(in_channels, out_channels, stride, shortcut), BasicBlock(out_channels, out_channels)
    )
