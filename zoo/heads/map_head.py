"""Building heads that take a list of maps, whichever library they come from."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from registry import HEADS, InputError

LIBRARIES = {'smp': ('SmpHead', 'decoder'), 'mmseg': ('MmsegHead', 'head')}


def build_map_head(
    head: str | Mapping, in_channels: Sequence[int], reductions: Sequence[int], num_classes: int
) -> nn.Module:
    """A head on maps from its name or config; ``smp.NAME`` and ``mmseg.NAME`` come from those libraries.

    Args:
        head: Name or config.
        in_channels: Width of each map, finest first.
        reductions: Size of the input over that of each map.
        num_classes: K.
    """
    cfg = {'type': head} if isinstance(head, str) else dict(head)
    library, _, name = str(cfg.get('type')).partition('.')
    if name and library in LIBRARIES:
        kind, argument = LIBRARIES[library]
        cfg.update({'type': kind, argument: name})
    return HEADS.build(cfg, in_channels=list(in_channels), reductions=list(reductions), num_classes=num_classes)


def used_levels(head: nn.Module, in_channels: Sequence[int], reductions: Sequence[int]) -> list[int]:
    """Which of its maps have an influence on the head's output, by asking autograd: fusing the others would only add
    parameters without gradient. Nothing is computed.

    Raises:
        InputError: The head can not work on such maps.
    """
    probe = copy.deepcopy(head).to('meta').eval()
    size = 16 * max(reductions)
    with torch.enable_grad(), torch.device('meta'):
        maps = [torch.zeros(2, c, size // r, size // r, requires_grad=True) for c, r in zip(in_channels, reductions)]
        try:
            found = torch.autograd.grad(probe(maps).sum(), maps, allow_unused=True)
        except RuntimeError as error:
            what = ' '.join(str(error).split())
            raise InputError(f'{type(head).__name__} can not decode maps of 1/{reductions}: {what}') from error
    return [i for i, gradient in enumerate(found) if gradient is not None]
