"""The encoders of MAIL: stages of ERLA blocks, or an ERLA block behind each map of a timm model."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from registry import ENCODERS, InputError

from ..blocks import ERLA
from .timm_encoder import TimmPyramid


@ENCODERS.register_module()
class ERLAEncoder(nn.Module):
    """A stem as that of a ResNet and stages of `ERLA` blocks: (B, in_chans, H, W) -> maps of 1/4, 1/8, 1/16, ...
    (MAIL, Dhar et al., KDD 2026, Alg. 1).

    With the defaults it is a branch of MAIL-RN18; ``depths=(3, 4, 6, 3)`` is one of MAIL-RN50.

    Args:
        in_chans: Channels of the input.
        depths: Blocks of each stage; every stage but the first halves the map.
        widths: Of each stage.
        stem_width: Of the stem.
        dropout: Share of the elements that are dropped behind the first block of every stage but the first.
        mc_dropout: Drop at inference too, as the authors' code does.
        block: Arguments of each `ERLA`.

    Attributes:
        out_channels: Width of each map, finest first.
        reductions: Size of the input over that of each map.
        steps: Modules whose chain gives the maps one after the other.

    Raises:
        InputError: ``depths`` and ``widths`` of different lengths, or a number below 1.
    """

    def __init__(
        self,
        in_chans: int = 3,
        depths: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (64, 128, 256, 512),
        stem_width: int = 64,
        dropout: float = 0.25,
        mc_dropout: bool = False,
        block: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(depths) != len(widths) or not depths or min(*depths, *widths, stem_width) < 1:
            raise InputError(
                'ERLAEncoder takes as many depths as widths, all of at least 1, got '
                f'depths={tuple(depths)}, widths={tuple(widths)}, stem_width={stem_width}.'
            )
        self.out_channels = list(widths)
        self.reductions = [4 * 2**i for i in range(len(widths))]
        self.conv1 = nn.Conv2d(in_chans, stem_width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        before = stem_width
        drop = AlwaysDropout if mc_dropout else nn.Dropout
        for i, (depth, width) in enumerate(zip(depths, widths)):
            blocks: list[nn.Module] = [ERLA(before, width, stride=2 if i else 1, **(block or {}))]
            if i and dropout:
                blocks.append(drop(dropout))
            blocks += [ERLA(width, width, **(block or {})) for _ in range(depth - 1)]
            self.add_module(f'layer{i + 1}', nn.Sequential(*blocks))
            before = width

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) -> maps, finest first; sides that the reductions do not divide are rounded up."""
        return chained(self.steps, x)

    @property
    def steps(self) -> list[nn.Module]:
        """Stem and the first stage, and the other stages, each from map to map."""
        first, *others = (getattr(self, f'layer{i + 1}') for i in range(len(self.reductions)))
        first = nn.Sequential(self.conv1, self.bn1, self.act1, self.maxpool, first)
        first.training = self.training  # of the wrapper alone: the modules have their own
        return [first, *others]


@ENCODERS.register_module()
class ERLAPyramid(nn.Module):
    """Any timm model with feature maps, each refined by an `ERLA` block: MAIL on another backbone (Dhar et al., KDD
    2026: MAIL-M2, MAIL-M3). Where the model is a chain of stages, each goes on from the refined map.

    Args:
        model: See `TimmPyramid`.
        in_chans: Channels of the input.
        pretrained: See `TimmEncoder`.
        block: Arguments of each `ERLA`.
        kwargs: Passed on to timm; ``out_indices=(1, 2, 3, 4)`` leaves out the map of 1/2, as MAIL does.

    Attributes:
        out_channels: Width of each map, finest first.
        reductions: Size of the input over that of each map.
        steps: Modules whose chain gives the maps one after the other; None where the model is no such chain.
    """

    def __init__(
        self,
        model: str,
        in_chans: int = 3,
        pretrained: bool | str | os.PathLike = False,
        block: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.name = model
        self.pyramid = TimmPyramid(model, in_chans, pretrained, **kwargs)
        self.out_channels, self.reductions = self.pyramid.out_channels, self.pyramid.reductions
        self.blocks = nn.ModuleList(ERLA(c, **(block or {})) for c in self.out_channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) -> maps, finest first."""
        if (steps := self.steps) is not None:
            return chained(steps, x)
        return [block(y) for block, y in zip(self.blocks, self.pyramid(x))]

    @property
    def steps(self) -> list[nn.Module] | None:
        """The stages with the block behind each."""
        stages = self.pyramid.steps
        if stages is None:
            return None
        steps = [nn.Sequential(*stage, block) for stage, block in zip(stages, self.blocks)]
        for wrapper in steps:
            wrapper.training = self.training
        return steps


class AlwaysDropout(nn.Dropout):
    """Dropout in eval mode too."""

    random = True  # results are those of one draw

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        return F.dropout(x, self.p, training=True)


def chained(steps: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """What each step makes of the result of the one before."""
    maps = []
    for step in steps:
        x = step(x)
        maps.append(x)
    return maps
