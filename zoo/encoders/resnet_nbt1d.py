"""The encoder of ESANet: a ResNet whose 3x3 convolutions are factorised into 3x1 and 1x3."""

import os
from pathlib import Path

from timm.models import load_state_dict
from torch import Tensor, nn

from registry import ENCODERS, InputError

from ..layers import he_init_

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)


class NonBottleneck1D(nn.Module):
    """Two 3x3 convolutions as four of 3x1 and 1x3, with a shortcut (ERFNet, Romera et al., IEEE T-ITS 2018, Fig. 2c;
    as ESANet has it, arXiv:2011.06961: no dropout, no dilation): (B, C_in, H, W) -> (B, C_out, H / s, W / s).

    Args:
        in_channels: C_in.
        out_channels: C_out.
        stride: s, of the first pair.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        # a 3x1 and its 1x3 have biases and no norm between them; the norms' epsilon is larger than usual
        self.conv3x1_1 = nn.Conv2d(in_channels, out_channels, (3, 1), (stride, 1), (1, 0))
        self.conv1x3_1 = nn.Conv2d(out_channels, out_channels, (1, 3), (1, stride), (0, 1))
        self.bn1 = nn.BatchNorm2d(out_channels, eps=1e-3)
        self.conv3x1_2 = nn.Conv2d(out_channels, out_channels, (3, 1), padding=(1, 0))
        self.conv1x3_2 = nn.Conv2d(out_channels, out_channels, (1, 3), padding=(0, 1))
        self.bn2 = nn.BatchNorm2d(out_channels, eps=1e-3)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / s, W / s)."""
        y = self.conv1x3_1(self.conv3x1_1(x).relu_())
        y = self.bn1(y).relu_()
        y = self.conv1x3_2(self.conv3x1_2(y).relu_())
        # autograd keeps what goes into a norm and not what comes out of it, so the sum can take its place
        return self.bn2(y).add_(x if self.downsample is None else self.downsample(x)).relu_()


@ENCODERS.register_module()
class ResNetNBt1D(nn.Module):
    """ResNet-18 or -34 of `NonBottleneck1D` blocks: (B, in_chans, H, W) -> maps of 1/2, 1/4, 1/8, 1/16 and 1/32 with
    64, 64, 128, 256 and 512 channels (ESANet, Seichter et al., arXiv:2011.06961).

    Args:
        depth: 18 or 34.
        in_chans: Channels of the input.
        pretrained: False, or the path of weights for this architecture, with or without a classifier; a stem for three
            channels is fitted to others by summing over them and sharing the sum (for one channel: the sum).
        he_init: Start from He's initialisation (arXiv:1502.01852) rather than torch's; without effect on pretrained
            weights.

    Attributes:
        out_channels: Width of each map, finest first.
        reductions: Size of the input over that of each map.
        steps: Modules whose chain gives the maps one after the other.

    Raises:
        InputError: Another depth, or weights that can not be read or are none of this architecture.
    """

    def __init__(
        self, depth: int = 34, in_chans: int = 3, pretrained: bool | str | os.PathLike = False, he_init: bool = False
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise InputError(f'depth of ResNetNBt1D must be {" or ".join(map(str, DEPTHS))}, got {depth!r}.')
        self.out_channels = [WIDTHS[0], *WIDTHS]
        self.reductions = [2, 4, 8, 16, 32]
        self.conv1 = nn.Conv2d(in_chans, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        before = WIDTHS[0]
        for i, (width, blocks) in enumerate(zip(WIDTHS, DEPTHS[depth])):
            first = NonBottleneck1D(before, width, 1 if i == 0 else 2)
            layer = nn.Sequential(first, *[NonBottleneck1D(width, width) for _ in range(blocks - 1)])
            self.add_module(f'layer{i + 1}', layer)
            before = width
        if pretrained:
            self._load(pretrained, f'ResNetNBt1D(depth={depth})')
        elif he_init:
            he_init_(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) -> five maps, finest first; sides that 32 does not divide are rounded up."""
        maps = []
        for step in self.steps:
            x = step(x)
            maps.append(x)
        return maps

    @property
    def steps(self) -> list[nn.Module]:
        """Stem, pooling with the first layer, and the other layers, each from map to map."""
        steps = [
            nn.Sequential(self.conv1, self.bn1, self.act1),
            nn.Sequential(self.maxpool, self.layer1),
            self.layer2,
            self.layer3,
            self.layer4,
        ]
        for wrapper in steps[:2]:
            wrapper.training = self.training  # of the wrapper alone: the modules have their own
        return steps

    def _load(self, pretrained: bool | str | os.PathLike, name: str) -> None:
        if pretrained is True:
            raise InputError(f'No weights of {name} are published for download here: give pretrained=FILE.')
        path = Path(pretrained)
        if not path.is_file():
            raise InputError(f'Pretrained weights of {name}: no file {str(path)!r}.')
        try:
            weights = load_state_dict(str(path), weights_only=True)
            weights = _trunk(weights)
            stem = weights.get('conv1.weight')
            if stem is not None and stem.ndim == 4 and stem.shape[1] == 3 and self.conv1.in_channels != 3:
                channels = self.conv1.in_channels
                weights['conv1.weight'] = stem.sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
        except Exception as error:  # each format has its own
            raise InputError(
                f'Pretrained weights of {name}: {str(path)!r} can not be read ({_brief(error)}).'
            ) from error
        try:
            self.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(f'Pretrained weights of {name}: {str(path)!r} does not fit ({_brief(error)}).') from error


def _trunk(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of a classifier's weights: below ``encoder.`` if there is such a part, else all but ``fc``."""
    inner = {k.split('encoder.', 1)[1]: v for k, v in weights.items() if 'encoder.' in k}
    return {k: v for k, v in (inner or weights).items() if not k.startswith('fc.')}


def _brief(error: Exception) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f'{text[:300]} ...'
