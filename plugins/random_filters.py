"""RandomFilters: a convolution of which some filters are random and never learnt."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers3d import Conv3d

CONVOLUTIONS = {nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d, Conv3d: F.conv3d}


class RandomFilters(nn.Module):
    """Random projection filters (Dong & Xu, CVPR 2023) in the place of a convolution.

    In every group the last filters are random, of a depthwise convolution the last of all. Theirs are no parameters:
    ``draw`` gives them, normal with a standard deviation of one over the side of the kernel. ``weight`` holds the
    others. In the state dict ``weight`` is whole, with what the random filters were before: it fits the convolution,
    which `restored` gives back.

    Args:
        conv: The convolution; its learnt filters become this module's.
        count: How many filters are random, see `random_count`.
        draw: Called in each pass: the module -> random filters of the shape of ``before``.
        match_scale: Divide each learnt filter by its own standard deviation and the side of the kernel, to the scale
            of the random ones, as the published code does.
    """

    def __init__(
        self, conv: nn.Module, count: int, draw: Callable[['RandomFilters'], Tensor], match_scale: bool = False
    ) -> None:
        super().__init__()
        self.convolve = CONVOLUTIONS[type(conv)]
        self.kind = type(conv)
        for name in ('in_channels', 'out_channels', 'kernel_size', 'stride', 'dilation', 'groups'):
            setattr(self, name, getattr(conv, name))
        self.padding, self.padding_mode = conv.padding, conv.padding_mode
        self.parts = 1 if is_depthwise(conv) else conv.groups
        self.learnt = (conv.out_channels - count) // self.parts  # of each part
        self.match_scale = match_scale
        object.__setattr__(self, 'draw', draw)  # a method of a plugin, which is no submodule
        weight, before = self._split(conv.weight.detach())
        self.weight = nn.Parameter(weight.clone(), requires_grad=conv.weight.requires_grad)
        self.register_buffer('before', before.clone())
        self.bias = conv.bias

    @property
    def deviation(self) -> float:
        """The standard deviation of the random filters."""
        return self.kernel_size[0] ** -1

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution: (B, C_in, ...) -> (B, C_out, ...)."""
        weight = self.weight
        if self.match_scale and weight[:1].numel() > 1:
            spread = weight.flatten(1).std(1).clamp(min=1e-6) * self.kernel_size[0]
            weight = weight / spread.view(-1, *[1] * (weight.ndim - 1))
        weight = self._join(weight, self.draw(self))
        padding = self.padding
        if self.padding_mode != 'zeros':
            x = F.pad(x, [p for p in reversed(padding) for _ in range(2)], mode=self.padding_mode)
            padding = 0
        return self.convolve(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def restored(self) -> nn.Module:
        """The convolution that stood here, with what has been learnt."""
        conv = self.kind(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            bias=False,
            padding_mode=self.padding_mode,
            device='meta',
        )
        whole = self._join(self.weight, self.before).detach().clone()
        conv.weight = nn.Parameter(whole, requires_grad=self.weight.requires_grad)
        conv.bias = self.bias
        return conv.train(self.training)

    def _split(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(C_out, ...) -> the learnt and the random filters, each in its order."""
        whole = weight.unflatten(0, (self.parts, -1))
        return whole[:, : self.learnt].flatten(0, 1), whole[:, self.learnt :].flatten(0, 1)

    def _join(self, weight: Tensor, random: Tensor) -> Tensor:
        both = [x.view(self.parts, len(x) // self.parts, *x.shape[1:]) for x in (weight, random.to(weight.dtype))]
        return torch.cat(both, 1).flatten(0, 1)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        before = destination.pop(f'{prefix}before')
        destination[f'{prefix}weight'] = self._join(destination[f'{prefix}weight'], before)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        key = f'{prefix}weight'
        if key in state_dict and state_dict[key].shape[0] == self.out_channels:
            weight, before = self._split(state_dict[key])
            state_dict = {**state_dict, key: weight, f'{prefix}before': before}
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f'{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, groups={self.groups}, '
            f'random={len(self.before)}'
        )


def is_depthwise(conv: nn.Module) -> bool:
    """Whether each filter reads one channel of its own."""
    return conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1


def random_count(conv: nn.Module, ratio: float) -> int:
    """How many filters of a convolution are random: the share, rounded half up, of each group; of all filters where
    each is a group.

    >>> random_count(nn.Conv2d(64, 64, 1, groups=16), 0.25)
    16
    >>> random_count(nn.Conv2d(6, 6, 3, groups=6), 0.25)
    2
    """
    groups = 1 if is_depthwise(conv) else conv.groups
    return groups * math.floor(ratio * conv.out_channels / groups + 0.5)
