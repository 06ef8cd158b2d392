"""The decoder of ESANet."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor, nn

from registry import HEADS, InputError

from ..encoders.resnet_nbt1d import NonBottleneck1D
from ..layers import conv_norm_act, he_init_
from .upsampling import make_upsampling


@HEADS.register_module()
class ESANetDecoder(nn.Module):
    """From the coarsest map, stage by stage: a 3x3 convolution, `NonBottleneck1D` blocks, upsampling by two, and the
    map of that size added, brought to the same width; then a 3x3 convolution to classes and upsampling to the size of
    the input (ESANet, Seichter et al., arXiv:2011.06961).

    ESANet's own use has the four maps of 1/4 to 1/32; finer ones are left out, and where there is no map of a stage's
    size nothing is added. In training each stage also predicts from what it is about to upsample.

    Args:
        in_channels: Width of each map, finest first.
        reductions: Size of the input over that of each map. From the first one that is used, each is twice the one
            before, and all are powers of two.
        num_classes: K.
        widths: Width of each stage.
        blocks: Number of blocks of each stage, or one number for all.
        upsampling: ``'learned-3x3-zeropad'``, ``'learned-3x3'``, ``'nearest'`` or ``'bilinear'``.
        he_init: Start from He's initialisation, as ESANet does where its encoders are not pretrained.

    Raises:
        InputError: Reductions that are none of a pyramid, more stages than it can have, or sizes that are none.
        NameNotFound: Another upsampling.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        widths: Sequence[int] = (512, 256, 128),
        blocks: int | Sequence[int] = 3,
        upsampling: str = 'learned-3x3-zeropad',
        he_init: bool = False,
    ) -> None:
        super().__init__()
        blocks = [blocks] * len(widths) if isinstance(blocks, int) else list(blocks)
        _check(list(in_channels), list(reductions), num_classes, list(widths), blocks)
        width_of = dict(zip(reductions, in_channels))
        reduction, before = reductions[-1], in_channels[-1]
        self.stages, self.skips, self.sides = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for width, count in zip(widths, blocks):
            body = [conv_norm_act(before, width, 3), *[NonBottleneck1D(width, width) for _ in range(count)]]
            self.stages.append(nn.ModuleDict({'body': nn.Sequential(*body), 'up': make_upsampling(upsampling, width)}))
            self.sides.append(nn.Conv2d(width, num_classes, 1))
            reduction //= 2
            if reduction in width_of:
                same = width_of[reduction] == width
                self.skips.append(nn.Identity() if same else conv_norm_act(width_of[reduction], width))
            before = width
        self.classify = nn.Conv2d(before, num_classes, 3, padding=1)
        ups = reduction.bit_length() - 1
        self.ups = nn.Sequential(*[make_upsampling(upsampling, num_classes) for _ in range(ups)])
        if he_init:
            he_init_(self, skip=(self.classify, *self.sides))

    def forward(self, maps: Sequence[Tensor]) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Decode.

        Args:
            maps: (B, C_i, H / r_i, W / r_i), finest first.

        Returns:
            Logits (B, K, H, W); in training mode also those of the stages, finest first: of 1/8, 1/16 and 1/32 of the
            input where the coarsest map is of 1/32 and there are three stages.
        """
        x, sides = maps[-1], []
        for i, (stage, side) in enumerate(zip(self.stages, self.sides)):
            x = stage['body'](x)
            if self.training:
                sides.append(side(x))
            x = stage['up'](x)
            if i < len(self.skips):
                x = x.add_(self.skips[i](maps[-2 - i]))
        logits = self.ups(self.classify(x))
        return (logits, sides[::-1]) if self.training else logits

    def training_only(self) -> Iterator[nn.Parameter]:
        """The parameters of the stages' own predictions."""
        return self.sides.parameters()


def _check(in_channels: list[int], reductions: list[int], classes: int, widths: list[int], blocks: list[int]) -> None:
    if len(in_channels) != len(reductions) or not reductions:
        raise InputError(
            f'ESANetDecoder needs a width and a reduction for each map, got {in_channels} and {reductions}.'
        )
    if classes < 1:
        raise InputError(f'num_classes must be at least 1, got {classes}.')
    if not widths or len(blocks) != len(widths) or min(blocks) < 0:
        raise InputError(
            f'ESANetDecoder needs one or more widths and a number of blocks for each, got {widths} and {blocks}.'
        )
    coarsest = reductions[-1]
    if coarsest & (coarsest - 1) or coarsest < 2 ** len(widths):
        raise InputError(
            f'{len(widths)} stages of ESANetDecoder double a map of 1/{coarsest} beyond the input or not up to it: its '
            f'reduction must be a power of two and at least {2 ** len(widths)}.'
        )
    used = reductions[-1 - len(widths) :]
    if any(2 * fine != coarse for fine, coarse in pairwise(used)):
        raise InputError(f'ESANetDecoder needs maps that halve step by step, as 1/4, 1/8, 1/16, 1/32, got {used}.')
