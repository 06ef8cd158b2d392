"""What every fusion block keeps: any number of modalities, vectors or maps, and silence from absent ones."""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import InputError


class Pointwise(nn.Linear):
    """A linear layer on dimension 1 of (B, C, ...): a 1x1 convolution on maps and volumes."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, ...) -> (B, C_out, ...)."""
        if x.ndim <= 2:
            return super().forward(x)
        conv = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
        return conv(x, self.weight.view(*self.weight.shape, *[1] * (x.ndim - 2)), self.bias)


class Fusion(nn.Module):
    """Merges the features of the modalities that are present; subclasses define `merge`.

    Args:
        modalities: Their names, in the order of the columns of the mask.
        channels: Width of the features: one number, or one for each modality.
        out_channels: Width of the result; each block says its default.

    Attributes:
        out_channels: Width of the result.
        additive: The result is a sum of one term for each modality (`contribution`), so that a linear head on it splits
            into unimodal predictions.
    """

    additive = False

    def __init__(
        self, modalities: Sequence[str], channels: int | Mapping[str, int], out_channels: int | None = None
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        if isinstance(channels, Mapping):
            if missing := [m for m in self.modalities if m not in channels]:
                raise InputError(
                    f'channels of {type(self).__name__} lacks {", ".join(missing)}; it has {dict(channels)}.'
                )
            self.channels = {m: int(channels[m]) for m in self.modalities}
        else:
            self.channels = dict.fromkeys(self.modalities, int(channels))
        self.out_channels = int(out_channels or max(self.channels.values()))

    def forward(self, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Fuse.

        Args:
            features: Modality to (B, C_m) or (B, C_m, ...); what an absent sample holds has no influence.
            mask: (B, M) bool on the same device.

        Returns:
            (B, out_channels) or (B, out_channels, ...).
        """
        return self.merge({m: keep(features[m], here) for m, here in zip(self.modalities, mask.unbind(1))}, mask)

    def merge(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Fuse features that are already zero where absent."""
        raise NotImplementedError

    def contribution(self, modality: str, x: Tensor) -> tuple[Tensor, slice]:
        """The term that this modality adds to the result, and the channels of the result it stands in.

        Raises:
            InputError: The block is not additive.
        """
        raise InputError(f'{type(self).__name__} does not add its modalities up: it has no contribution of {modality}.')

    def branch(self, modality: str) -> Iterable[nn.Parameter]:
        """The parameters that serve this modality alone, where the block counts them to the modality's own path."""
        return ()

    def project(self, out_channels: int) -> nn.ModuleDict:
        """One pointwise layer for each modality, to a common width."""
        return nn.ModuleDict({m: Pointwise(c, out_channels) for m, c in self.channels.items()})


def keep(x: Tensor, here: Tensor) -> Tensor:
    """``x`` (B, ...) with zeros in the rows that are not ``here`` (B,); itself where all of them visibly are."""
    if readable(here) and here.all():
        return x
    return x.where(here.view(-1, *[1] * (x.ndim - 1)), x.new_zeros(()))


def readable(mask: Tensor) -> bool:
    """Whether looking into a mask costs nothing: on a CPU, unless a graph for other masks is being made."""
    return mask.device.type == 'cpu' and not torch.compiler.is_compiling()
