"""mmFormer (Zhang et al., MICCAI 2022): brain tumour segmentation with transformers within and between modalities."""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import HOSTS, InputError, unknown_name
from zoo.batch import Batch, Features
from zoo.fusion.fusion import readable
from zoo.layers3d import Decoder3D, NamedConv3d, NormAct, PreNorm, UpStep, conv3d, pre_norm

from .label_host import encoder_parameters
from .presets import presets
from .volume_encoder import volume_encoder
from .volume_host import VolumeHost, check_conv_padding, check_widths, present_maps

ABSENT = ('masked', 'zero_pos')
LAYOUTS = ('aligned', 'official')


@HOSTS.register_module()
class MMFormer(VolumeHost):
    """A U-Net encoder and a transformer for each modality, a transformer across the modalities at the coarsest level,
    and a convolutional decoder (Zhang et al., "mmFormer", arXiv:2206.02425).

    With four modalities of one channel, four classes and the other defaults it has the published network's 36,391,760
    parameters, 593,356 of them in the auxiliary decoder (the official class holds 262,656 more, in convolutions that it
    never calls); ``preset='official'`` makes it that network in its training run. Ours: any number of modalities, of
    any channels, whose weights go by name; logits come out; other sizes, for which the positions are resized, and any
    size with ``pad_to``.

    Args:
        modalities: Names of the inputs.
        num_classes: K, the background included.
        in_chans: Channels of each modality's input; one number for all, or a mapping. 1 by default.
        widths: Channels of the levels, finest first, each twice the one before.
        train_size: (D, H, W) of the training crops, which the learnt positions are a grid for.
        dim: Width of the tokens.
        heads: Of attention.
        mlp: Hidden width of the transformer layers.
        depth: Layers of each transformer.
        dropout: In the transformers.
        token_layout: How tokens become maps again: ``'aligned'``, each at its own place; or ``'official'``, which reads
            the sequence of all modalities as if it ran over places (a slip of the official code that its published
            figures rest on: the first of the grid's rows then hold the first modality only, and neighbouring tokens
            stand in each other's channels; the order of the modalities then matters).
        absent_tokens: ``'masked'``: no token attends to those of an absent modality, and they are zero afterwards; or
            ``'zero_pos'``, as published: zeros plus their positions stay in the sequence, so that the positions of an
            absent modality have an influence and are trained, and belong to no branch.
        conv_padding: ``'reflect'``, as published; or ``'zeros'``, which is faster (on a CPU a third of a convolution's
            time at the finest level).
        encoder: Of each modality, name or config: maps (B, C_i, D / 2**i, H / 2**i, W / 2**i), finest first,
            with ``out_channels`` as in ``widths``. By default `UNet3D` with blocks of ``'pre_norm'``.
        loss: See `VolumeHost`.
        aux_heads: Add the auxiliary decoder, which all modalities share. It segments from the convolutional maps of
            each modality alone (``loss_aux_<modality>``, `unimodal`), trains no transformer, and is not used at
            inference.
        pad_to: See `VolumeHost`, as for the arguments below. One cell is 16 voxels with five levels.
        window: See `VolumeHost`.
        blend: See `VolumeHost`.
        side_size: See `VolumeHost`.
        warmup_epochs: See `VolumeHost`.
        aux_on: See `VolumeHost`.
        preset: ``'official'`` sets what the published training run does, where the arguments do not say it:
            ``encode_on='all'``, ``aux_on='all'``, ``loss=dict(type='DiceWCE', floor=0.005)``,
            ``token_layout='official'``, ``absent_tokens='zero_pos'``, ``blend='uniform'``.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Raises:
        InputError: A value outside its range.
        NameNotFound: Another ``token_layout`` or ``absent_tokens``.
    """

    offers = frozenset({'features', 'unimodal', 'sample_losses'})
    offers_with: Mapping[str, str] = {'unimodal': 'aux_heads=True'}

    @presets(
        official={
            'encode_on': 'all',
            'aux_on': 'all',
            'loss': {'type': 'DiceWCE', 'floor': 0.005},
            'token_layout': 'official',
            'absent_tokens': 'zero_pos',
            'blend': 'uniform',
        }
    )
    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        in_chans: int | Mapping[str, int] = 1,
        widths: Sequence[int] = (8, 16, 32, 64, 128),
        train_size: Sequence[int] = (128, 128, 128),
        dim: int = 512,
        heads: int = 8,
        mlp: int = 4096,
        depth: int = 1,
        dropout: float = 0.1,
        token_layout: str = 'aligned',
        absent_tokens: str = 'masked',
        conv_padding: str = 'reflect',
        encoder: str | Mapping | None = None,
        loss: str | Mapping = 'DiceWCE',
        aux_heads: bool = True,
        pad_to: int | None = None,
        window: Sequence[int] | None = None,
        blend: str = 'gaussian',
        side_size: str = 'full',
        warmup_epochs: int = 0,
        aux_on: str = 'present',
        preset: str | None = None,
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        widths, padding = check_widths(widths), check_conv_padding(conv_padding)
        if absent_tokens not in ABSENT:
            raise unknown_name('way with absent tokens (absent_tokens)', absent_tokens, ABSENT)
        super().__init__(
            modalities,
            num_classes,
            in_chans,
            2 ** (len(widths) - 1),
            loss,
            pad_to,
            window,
            blend,
            side_size,
            warmup_epochs,
            aux_on,
            data_preprocessor,
            encode_on,
        )
        self.levels, self.absent_tokens = len(widths), absent_tokens
        grid = self._grid(train_size)
        layers = {'dim': dim, 'heads': heads, 'mlp': mlp, 'depth': depth, 'dropout': dropout}
        self.encoders = nn.ModuleDict(
            {
                m: TokenEncoder(volume_encoder(encoder, c, widths, 'pre_norm', padding), widths[-1], grid, **layers)
                for m, c in self.in_chans.items()
            }
        )
        self.between = BetweenModalities(self.modalities, widths[-1], token_layout, **layers)
        self.decoder = ConcatDecoder(self.modalities, widths, num_classes, padding)
        if aux_heads:
            self.aux['shared'] = Decoder3D(widths, num_classes, pre_norm, padding)
        else:
            self.offers = self.offers - {'unimodal'}

    def _grid(self, train_size: Sequence[int]) -> list[int]:
        valid = isinstance(train_size, Sequence) and len(train_size) == 3
        if not valid or not all(isinstance(s, int) and s >= self.multiple for s in train_size):
            raise InputError(
                f'train_size must be three numbers of voxels (D, H, W), each at least {self.multiple}, '
                f'got {train_size!r}.'
            )
        return [-(-s // self.multiple) for s in train_size]

    def encode(self, batch: Batch) -> dict[str, list[Tensor]]:
        """{modality: maps (B, C_i, D / 2**i, H / 2**i, W / 2**i), finest first, and last the tokens (B, dim, ...) on
        the grid of the coarsest map}."""
        batch = self.padded(batch)
        return {m: self.encode_modality(encoder, batch, m) for m, encoder in self.encoders.items()}

    def fuse(self, features: Features, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """-> the finest fused map (B, C_0, D, H, W), and logits of the coarser levels, finest first."""
        *levels, _, tokens = present_maps(features, mask, self.modalities, self.levels + 1)
        tokens = torch.stack(tokens, 1)
        positions = torch.cat([self.encoders[m].positions_for(tokens.shape[3:]) for m in self.modalities], 1)
        coarsest = self.between(tokens, positions, mask if self.absent_tokens == 'masked' else None)
        return self.decoder([*levels, coarsest])

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of this modality's encoder and transformer; its positions too where absent ones are masked."""
        own = list(encoder_parameters(self.encoders, modality))
        shared = self.encoders[modality].positions if self.absent_tokens == 'zero_pos' else None
        return (p for p in own if p is not shared)

    def training_only(self) -> Iterator[nn.Parameter]:
        """The auxiliary decoder, and what the coarser levels of the decoder say."""
        yield from super().training_only()
        yield from self.decoder.sides.parameters()


class TokenEncoder(nn.Module):
    """The path of one modality: a U-Net's encoder, and a transformer on its coarsest map.

    Args:
        levels: The U-Net's encoder.
        width: Channels of its coarsest map.
        grid: (d, h, w) of the learnt positions.
        dim: See `MMFormer`, as for the others.
        heads: See `MMFormer`.
        mlp: See `MMFormer`.
        depth: See `MMFormer`.
        dropout: See `MMFormer`.
    """

    def __init__(
        self,
        levels: nn.Module,
        width: int,
        grid: Sequence[int],
        dim: int,
        heads: int,
        mlp: int,
        depth: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.project = conv3d(width, dim, 1)
        self.positions = nn.Parameter(torch.zeros(1, dim, *grid))
        self.layers = nn.ModuleList(TransformerLayer(dim, heads, mlp, dropout) for _ in range(depth))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, D, H, W) -> maps, finest first, and the tokens (B, dim, d, h, w)."""
        maps = self.levels(x)
        grid = self.project(maps[-1])
        tokens, positions = grid.flatten(2).transpose(1, 2), self.positions_for(grid.shape[2:])
        for layer in self.layers:
            tokens = layer(tokens + positions)
        return [*maps, tokens.transpose(1, 2).unflatten(2, grid.shape[2:])]

    def positions_for(self, size: Sequence[int]) -> Tensor:
        """(1, N, dim) for a grid (d, h, w), resized where it is not that of training."""
        positions = self.positions
        if positions.shape[2:] != tuple(size):
            positions = F.interpolate(positions, tuple(size), mode='trilinear', align_corners=False)
        return positions.flatten(2).transpose(1, 2)


class TransformerLayer(nn.Module):
    """Self-attention and a two-layer network, each after layer normalisation and added to its input.

    Args:
        dim: Width of the tokens.
        heads: Of attention; they divide ``dim``.
        mlp: Hidden width.
        dropout: On attention weights, twice on what attention yields, and twice in the network, as published.

    Raises:
        InputError: ``dim`` is no multiple of ``heads``.
    """

    def __init__(self, dim: int, heads: int, mlp: int, dropout: float) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise InputError(f'dim must be a multiple of heads, got {dim} and {heads}.')
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.project = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, mlp),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """(B, N, dim), and (B, 1, 1, N) bool, which tokens may be attended to -> (B, N, dim)."""
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=keys, dropout_p=dropout)
        x = x + self.project(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class BetweenModalities(nn.Module):
    """The transformer across modalities, and the way back from tokens to maps.

    Args:
        modalities: Their names.
        width: Channels of the result for each modality.
        token_layout: See `MMFormer`, as for the others.
        dim: See `MMFormer`.
        heads: See `MMFormer`.
        mlp: See `MMFormer`.
        depth: See `MMFormer`.
        dropout: See `MMFormer`.

    Raises:
        NameNotFound: Another ``token_layout``.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        width: int,
        token_layout: str,
        dim: int,
        heads: int,
        mlp: int,
        depth: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if token_layout not in LAYOUTS:
            raise unknown_name('layout of tokens (token_layout)', token_layout, LAYOUTS)
        self.token_layout = token_layout
        self.layers = nn.ModuleList(TransformerLayer(dim, heads, mlp, dropout) for _ in range(depth))
        self.out = nn.ModuleDict({m: NamedConv3d(modalities, dim, width) for m in modalities})

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Attend.

        Args:
            tokens: (B, M, dim, d, h, w), zero where absent.
            positions: (1, M * N, dim), modality by modality.
            mask: (B, M) bool, whose tokens count; None counts all.

        Returns:
            M maps (B, width, d, h, w).
        """
        size = tokens.shape[3:]
        x = tokens.flatten(3).transpose(2, 3).flatten(1, 2)  # (B, M * N, dim), modality by modality
        if mask is not None and readable(mask) and mask.all():
            mask = None
        if mask is None:
            for layer in self.layers:
                x = layer(x + positions)
        else:
            counts = mask.repeat_interleave(positions.shape[1] // mask.shape[1], 1)  # (B, M * N)
            for layer in self.layers:
                x = layer((x + positions).where(counts[..., None], x.new_zeros(())), counts[:, None, None])
            x = x.where(counts[..., None], x.new_zeros(()))
        maps = tokens_to_maps(x, tokens.shape[1], size, self.token_layout).chunk(tokens.shape[1], 1)
        return [conv(*maps) for conv in self.out.values()]


def tokens_to_maps(x: Tensor, count: int, size: Sequence[int], layout: str) -> Tensor:
    """Tokens (B, M * N, C), modality by modality, as maps (B, M * C, d, h, w) with N = d * h * w; see `MMFormer` for
    ``layout``."""
    if layout == 'aligned':
        return x.unflatten(1, (count, -1)).transpose(2, 3).flatten(1, 2).unflatten(2, size)
    return x.reshape(len(x), *size, -1).permute(0, 4, 1, 2, 3)


class ConcatDecoder(nn.Module):
    """The decoder: at each level the maps of all modalities, concatenated and squeezed, join what comes from below.

    Args:
        modalities: Their names.
        widths: Channels of the levels, finest first.
        num_classes: K.
        padding: Of the steps up; that of the fusions is always zeros.
    """

    def __init__(self, modalities: Sequence[str], widths: Sequence[int], num_classes: int, padding: str) -> None:
        super().__init__()
        self.fusions = nn.ModuleList(
            nn.Sequential(
                PreNorm(NormAct(), NamedConv3d(modalities, w, w)),
                pre_norm(w, w, 3, padding='zeros'),
                pre_norm(w, w, 1),
            )
            for w in widths
        )
        self.steps = nn.ModuleList(UpStep(w, pre_norm, padding) for w in widths[:-1])
        self.sides = nn.ModuleList(conv3d(w, num_classes, 1) for w in widths[1:])
        self.classify = conv3d(widths[0], num_classes, 1)

    def forward(self, levels: Sequence[Sequence[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """Levels, finest first, of M maps (B, C_i, ...), zero where absent -> the fused map (B, C_0, ...) of the finest
        level, and logits (B, K, ...) of the others, in training mode only."""
        x, sides = self.fuse(-1, levels[-1]), []
        for i in reversed(range(len(self.steps))):
            if self.training:
                sides.append(self.sides[i](x))
            x = self.steps[i].join(self.fuse(i, levels[i]), self.steps[i].up(x))
        return x, sides[::-1]

    def fuse(self, level: int, maps: Sequence[Tensor]) -> Tensor:
        """M maps (B, C, ...) -> (B, C, ...)."""
        first, *others = self.fusions[level]
        x = first(*maps)
        for block in others:
            x = block(x)
        return x
