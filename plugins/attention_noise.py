"""AttentionNoise: learnt noise on what decides a gate."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MODES = ('mul', 'add', 'mul_residual')


class Unlisted(nn.Module):
    """A module of a plugin inside a host: the host's state dict does not show it, so that its keys stay; the plugin
    saves it.

    Attributes:
        path: Its name in the host.
    """

    path = ''

    def _save_to_state_dict(self, *args: Any) -> None:
        pass

    def _load_from_state_dict(self, *args: Any) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        """What the plugin saves."""
        own = {**dict(self.named_parameters(recurse=False)), **dict(self.named_buffers(recurse=False))}
        return {k: v.detach() for k, v in own.items() if k not in self._non_persistent_buffers_set}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take a `state` back."""
        for k, v in self.state().items():
            v.copy_(state[k])


class AttentionNoise(Unlisted):
    """Modulated attention noise (MAIL, Dhar et al., KDD 2026, Eq. 21 to 26) in the place of a `zoo.blocks.Site`.

    ``eta' = eta * (delta + eta * delta)`` with a normal ``eta`` of standard deviation ``std`` for each sample and
    channel, drawn in each pass, in eval mode too, and a learnt ``delta`` for each channel, 1 at first.

    Args:
        channels: C.
        std: Of eta. With ``delta`` = 1 eta' has the mean s^2 and the variance s^2 + 2 s^4.
        mode: ``'mul'``, x eta'; ``'add'``, x + eta'; or ``'mul_residual'``, x (1 + eta'). Only the last two leave x as
            it is where the noise is none.
        spatial: Draw for each place too.
        draw: (shape, x) -> standard normal draws on the device of x.
    """

    def __init__(
        self,
        channels: int,
        std: float,
        mode: str,
        spatial: bool,
        draw: Callable[[Any, tuple[int, ...], Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.channels, self.std, self.mode, self.spatial = channels, std, mode, spatial
        object.__setattr__(self, 'draw', draw)
        self.delta = nn.Parameter(torch.ones(channels))

    def noise(self, x: Tensor) -> Tensor:
        """eta' for a gate's argument (B, C, ...): of its shape, or 1 at all places."""
        tail = x.shape[2:] if self.spatial else [1] * (x.ndim - 2)
        eta = self.std * self.draw(self, (*x.shape[:2], *tail), x)
        delta = self.delta.view(-1, *[1] * (x.ndim - 2))
        return delta * eta * (1 + eta)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same, computed in single precision."""
        with torch.autocast(x.device.type, enabled=False):
            noise = self.noise(x)
            if self.mode == 'add':
                return (x.float() + noise).to(x.dtype)
            return (x.float() * (noise if self.mode == 'mul' else 1 + noise)).to(x.dtype)

    def extra_repr(self) -> str:
        """Its settings."""
        return f'{self.channels}, std={self.std}, mode={self.mode!r}, spatial={self.spatial}'
