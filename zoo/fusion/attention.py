"""Attention over modality tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import FUSIONS, InputError

from .fusion import Fusion


def gelu(x: Tensor) -> Tensor:
    """GELU. torch's fast path of eval mode does not recognise this function, and is not taken: on a GPU it computes the
    tanh approximation, 2e-4 away from what was trained.
    """
    return F.gelu(x)


@FUSIONS.register_module()
class Attention(Fusion):
    """A transformer over one token for each modality and a learned query token, whose output is the result.

    On maps the tokens of each position attend to each other. Absent modalities are masked as keys; the query is always
    there, so no row is empty.

    Args:
        modalities: Names.
        channels: Width of the features.
        out_channels: Width of the tokens; by default the largest of the features', made a multiple of ``heads``.
        heads: Attention heads; must divide the width.
        depth: Number of pre-norm transformer layers.
        ratio: Width of the hidden layer of the perceptron over the width of the tokens.
        dropout: Probability in [0, 1).

    Raises:
        InputError: ``out_channels`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        modalities,
        channels,
        out_channels: int | None = None,
        heads: int = 4,
        depth: int = 1,
        ratio: float = 2.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(modalities, channels, out_channels)
        if out_channels is None:
            self.out_channels = -(-self.out_channels // heads) * heads
        width = self.out_channels
        if width % heads:
            raise InputError(f'out_channels of Attention must be a multiple of heads={heads}, got {width}.')
        self.projections = self.project(width)
        self.query = nn.Parameter(torch.zeros(width))
        self.names = nn.ParameterDict({m: nn.Parameter(torch.randn(width) * 0.02) for m in self.modalities})
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, int(ratio * width), dropout, gelu, batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def merge(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """{m: (B, C_m, ...)} -> (B, out_channels, ...)."""
        tokens = [self.projections[m](features[m]).movedim(1, -1) + self.names[m] for m in self.modalities]
        places = tokens[0].shape[:-1]  # (B, ...)
        tokens = torch.stack([self.query.expand_as(tokens[0]), *tokens], dim=-2).flatten(
            0, -3
        )  # (B * places, 1 + M, C)
        absent = torch.cat([mask.new_zeros(len(mask), 1), ~mask], dim=1)
        absent = absent.repeat_interleave(places[1:].numel(), dim=0)
        for layer in self.layers:
            tokens = layer(tokens, src_key_padding_mask=absent)
        return self.norm(tokens[:, 0]).view(*places, -1).movedim(-1, 1)
