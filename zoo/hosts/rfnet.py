"""RFNet (Ding et al., ICCV 2021): brain tumour segmentation that fuses modalities by region."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from registry import HOSTS, InputError
from zoo.batch import Batch, Features
from zoo.layers3d import (
    SLOPE,
    Decoder3D,
    NamedConv3d,
    NormAct,
    PostNorm,
    UpStep,
    conv3d,
    post_norm,
)
from zoo.precision import autocast, full_precision, widened

from .label_host import encoder_parameters
from .presets import presets
from .volume_encoder import volume_encoder
from .volume_host import VolumeHost, check_conv_padding, check_widths, present_maps

HEAD_WIDTH = 16  # inside the heads of the probability maps


@HOSTS.register_module()
class RFNet(VolumeHost):
    """A U-Net encoder for each modality, and one decoder that predicts at each level which tissue is where and fuses
    the modalities of each region by weights of their own (Ding, Yu and Yang, "RFNet", ICCV 2021).

    With four modalities of one channel, four classes and the other defaults it is the published network: 8,398,572
    parameters at inference and 586,388 in the auxiliary decoder. Ours: any number of modalities, of any channels, whose
    weights go by name; logits come out; any size, with ``pad_to``; nothing of the size of modalities times regions
    times the volume is stored. The official training run is ``preset='official'``.

    Args:
        modalities: Names of the inputs.
        num_classes: K, the background included; each is a region.
        in_chans: Channels of each modality's input; one number for all, or a mapping. 1 by default.
        widths: Channels of the levels, finest first, even, each twice the one before.
        hidden: Of the small networks that weigh the modalities of a region.
        conv_padding: ``'reflect'``, as published; or ``'zeros'``, which is faster (on a CPU a third of a convolution's
            time at the finest level).
        encoder: Of each modality, name or config: maps (B, C_i, D / 2**i, H / 2**i, W / 2**i), finest first,
            with ``out_channels`` as in ``widths``. By default `UNet3D` with blocks of ``'post_norm'``.
        loss: See `VolumeHost`.
        aux_heads: Add the auxiliary decoder, which all modalities share. It segments from each modality alone
            (``loss_aux_<modality>``, `unimodal`) and is not used at inference.
        pad_to: See `VolumeHost`, as for the arguments below. One cell is 8 voxels with four levels.
        window: See `VolumeHost`.
        blend: See `VolumeHost`.
        side_size: See `VolumeHost`.
        warmup_epochs: See `VolumeHost`.
        aux_on: See `VolumeHost`.
        preset: ``'official'`` sets what the published training run does, where the arguments do not say it:
            ``encode_on='all'``, ``aux_on='all'``, ``warmup_epochs=20``, ``loss=dict(type='DiceWCE', floor=0.005)``,
            ``blend='uniform'``.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Raises:
        InputError: A value outside its range.
    """

    offers = frozenset({'features', 'unimodal', 'sample_losses'})
    offers_with: Mapping[str, str] = {'unimodal': 'aux_heads=True'}

    @presets(
        official={
            'encode_on': 'all',
            'aux_on': 'all',
            'warmup_epochs': 20,
            'loss': {'type': 'DiceWCE', 'floor': 0.005},
            'blend': 'uniform',
        }
    )
    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        in_chans: int | Mapping[str, int] = 1,
        widths: Sequence[int] = (16, 32, 64, 128),
        hidden: int = 128,
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
        if widths[0] % 2:
            raise InputError(f'widths of RFNet are even: half of each level is fused by regions, got {widths}.')
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
        self.levels = len(widths)
        self.encoders = nn.ModuleDict(
            {m: volume_encoder(encoder, c, widths, 'post_norm', padding) for m, c in self.in_chans.items()}
        )
        self.decoder = RegionDecoder(self.modalities, widths, num_classes, hidden, padding)
        if aux_heads:
            self.aux['shared'] = Decoder3D(widths, num_classes, post_norm, padding)
        else:
            self.offers = self.offers - {'unimodal'}

    def encode(self, batch: Batch) -> dict[str, list[Tensor]]:
        """{modality: maps (B, C_i, D / 2**i, H / 2**i, W / 2**i), finest first}."""
        batch = self.padded(batch)
        return {m: self.encode_modality(encoder, batch, m) for m, encoder in self.encoders.items()}

    def fuse(self, features: Features, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """-> the finest fused map (B, C_0, D, H, W), and the logits of the regions at each level, finest first."""
        return self.decoder(present_maps(features, mask, self.modalities, self.levels))

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of this modality's encoder."""
        return encoder_parameters(self.encoders, modality)


class RegionDecoder(nn.Module):
    """The fusion decoder: from the coarsest level up, a map of regions, fusion within them, and one step of a U-Net.

    Args:
        modalities: Their names.
        widths: Channels of the levels, finest first.
        num_classes: R regions.
        hidden: See `RFNet`.
        padding: See `zoo.layers3d.Encoder3D`.
    """

    def __init__(
        self, modalities: Sequence[str], widths: Sequence[int], num_classes: int, hidden: int, padding: str
    ) -> None:
        super().__init__()
        top = len(widths) - 1
        self.regions = nn.ModuleList(
            RegionMap(modalities, w, num_classes, i < top, padding) for i, w in enumerate(widths)
        )
        self.fusions = nn.ModuleList(RegionFusion(modalities, w, num_classes, hidden, padding) for w in widths)
        self.steps = nn.ModuleList(UpStep(w, post_norm, padding) for w in widths[:-1])
        self.classify = conv3d(widths[0], num_classes, 1)

    def forward(self, levels: Sequence[Sequence[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """Levels, finest first, of M maps (B, C_i, ...), zero where absent -> the fused map (B, C_0, ...) of the finest
        level, and region logits (B, R, ...) of each."""
        x, sides = None, []
        for i in reversed(range(len(levels))):
            maps = levels[i]
            up = None if x is None else self.steps[i].up(x)
            logits = self.regions[i](maps, up)
            fused = self.fusions[i](maps, logits.detach().softmax(1))
            x = torch.cat(fused, 1) if up is None else self.steps[i].join(*fused, up)
            sides.append(logits)
        return x, sides[::-1]


class RegionMap(nn.Module):
    """Where the regions are, from the maps of all modalities and, but for the coarsest level, what came up from below.

    Args:
        modalities: Their names.
        width: C of this level.
        num_classes: R.
        below: Whether there is a level below.
        padding: See `zoo.layers3d.Encoder3D`.
    """

    def __init__(self, modalities: Sequence[str], width: int, num_classes: int, below: bool, padding: str) -> None:
        super().__init__()
        quarter = max(1, width // 4)
        self.squeeze = PostNorm(NamedConv3d(modalities, width, quarter), NormAct())
        self.body = nn.Sequential(post_norm(quarter, quarter, 3, padding=padding), post_norm(quarter, width, 1))
        self.head = nn.Sequential(
            post_norm(2 * width if below else width, HEAD_WIDTH, 1), conv3d(HEAD_WIDTH, num_classes, 1)
        )

    def forward(self, maps: Sequence[Tensor], up: Tensor | None) -> Tensor:
        """M maps (B, C, ...), and (B, C, ...) or None -> logits (B, R, ...)."""
        x = self.body(self.squeeze(*maps))
        first, second = self.head
        return second(first(x) if up is None else first(up, x))


class RegionFusion(nn.Module):
    """Fusion of the modalities within each region, and beside it a short cut without regions.

    With y_m the maps of a modality and P_r the probability of a region, the maps of a region are
    ``F_r = sum_m w[r,m] (y_m P_r)``, computed as ``P_r sum_m w[r,m] y_m``. They and the first layer on them are made
    piece by piece, so that nothing of the size of the regions times the volume is stored.

    Args:
        modalities: Their names.
        width: C of this level.
        num_classes: R.
        hidden: See `RFNet`.
        padding: See `zoo.layers3d.Encoder3D`.
    """

    def __init__(
        self, modalities: Sequence[str], width: int, num_classes: int, hidden: int, padding: str = 'reflect'
    ) -> None:
        super().__init__()
        self.weigh = RegionWeights(modalities, width, num_classes, hidden)
        self.by_region = nn.Sequential(
            post_norm(num_classes * width, width, 1),
            post_norm(width, width, 3, padding=padding),
            post_norm(width, width // 2, 1),
        )
        self.squeeze = PostNorm(NamedConv3d(modalities, width, width), NormAct())
        self.short_cut = nn.Sequential(post_norm(width, width, 3, padding=padding), post_norm(width, width // 2, 1))

    def forward(self, maps: Sequence[Tensor], probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """M maps (B, C, ...), zero where absent, and (B, R, ...) -> two maps (B, C / 2, ...): by regions, and not."""
        (first, norm), *others = self.by_region
        x = norm(self.merge(maps, probabilities, first))
        for block in others:
            x = block(x)
        return x, self.short_cut(self.squeeze(*maps))

    def merge(self, maps: Sequence[Tensor], probabilities: Tensor, layer: nn.Conv3d) -> Tensor:
        """A layer on the concatenated maps of all regions: (B, C, ...)."""
        ys = [x.movedim(1, -1).flatten(1, -2) for x in maps]  # (B, V, C)
        p = probabilities.flatten(2)  # (B, R, V)
        q = p.mean(2) + 1e-7
        with full_precision(p.device):  # sums over all voxels, more than float16 can hold
            means = torch.stack([widened(p) @ widened(y) for y in ys], 2) / (p.shape[2] * q[..., None, None])
        weights = self.weigh(means.to(q.dtype), q)  # (B, R, M), from (B, R, M, C)
        rows = layer.weight.flatten(1).unflatten(1, (p.shape[1], -1)).permute(1, 2, 0)  # (R, C, C)
        weights, rows, bias, p, *ys = autocast(weights, rows, layer.bias, p, *ys)
        if torch.compiler.is_compiling():
            merged = torch.stack([by_regions(*each) + bias for each in zip(weights, [rows] * len(p), p, zip(*ys))])
        else:
            merged = _ByRegions.apply(weights, rows, p, *ys) + bias
        merged = merged.unflatten(1, maps[0].shape[2:]).movedim(-1, 1)
        return merged if merged.device.type == 'cpu' else merged.contiguous()


def by_regions(weights: Tensor, rows: Tensor, p: Tensor, ys: Sequence[Tensor]) -> Tensor:
    """``sum_r F_r rows_r`` of one sample: (R, M), (R, C, O), (R, V), M maps (V, C) -> (V, O)."""
    y = torch.stack(list(ys))
    regions = (weights @ y.flatten(1)).unflatten(1, y.shape[1:]) * p[..., None]
    return torch.bmm(regions, rows).sum(0)


class _ByRegions(torch.autograd.Function):
    """`by_regions` of each sample, piece by piece, forward and backward."""

    PIECE = 8192  # voxels at a time on a CPU, which its cache holds

    @staticmethod
    def pieces(p: Tensor) -> Iterator[tuple[int, slice]]:
        size = p.shape[2]
        step = _ByRegions.PIECE if p.device.type == 'cpu' else size
        return ((b, slice(i, i + step)) for b in range(len(p)) for i in range(0, size, step))

    @staticmethod
    def forward(ctx: Any, weights: Tensor, rows: Tensor, p: Tensor, *ys: Tensor) -> Tensor:
        """(B, R, M), (R, C, O), (B, R, V), M maps (B, V, C) -> (B, V, O)."""
        ctx.save_for_backward(weights, rows, p, *ys)
        out = p.new_empty(len(p), p.shape[2], rows.shape[2])
        for b, here in _ByRegions.pieces(p):
            out[b, here] = by_regions(weights[b], rows, p[b, :, here], [y[b, here] for y in ys])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, rows, p, *ys = ctx.saved_tensors
        of_weights, of_rows = torch.zeros_like(weights), torch.zeros_like(rows)
        of_p, of_ys = torch.zeros_like(p) if ctx.needs_input_grad[2] else None, [torch.empty_like(y) for y in ys]
        for b, here in _ByRegions.pieces(p):
            inputs = [x.detach().requires_grad_() for x in (weights[b], rows, *(y[b, here] for y in ys))]
            part = p[b, :, here].detach().requires_grad_(of_p is not None)
            with torch.enable_grad():
                out = by_regions(*inputs[:2], part, inputs[2:])
            wanted = inputs if of_p is None else [*inputs, part]
            found = torch.autograd.grad(out, wanted, gradient[b, here])
            of_weights[b] += found[0]
            of_rows += found[1]
            for target, value in zip(of_ys, found[2:]):
                target[b, here] = value
            if of_p is not None:
                of_p[b, :, here] = found[-1]
        return of_weights, of_rows, of_p, *of_ys


class RegionWeights(nn.Module):
    """The weight of each modality in each region, from its mean there and the region's size: for each region a network
    of two layers of its own, all computed at once, with weights by name.

    Args:
        modalities: Their names.
        width: C of the means.
        num_classes: R.
        hidden: Of the networks.
    """

    def __init__(self, modalities: Sequence[str], width: int, num_classes: int, hidden: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        count = len(self.modalities)
        first = [conv3d(count * width + 1, hidden, 1) for _ in range(num_classes)]
        second = [conv3d(hidden, count, 1) for _ in range(num_classes)]
        ins = torch.stack([c.weight.detach().flatten(1) for c in first])  # (R, hidden, M * C + 1)
        outs = torch.stack([c.weight.detach().flatten(1) for c in second])  # (R, M, hidden)
        biases = torch.stack([c.bias.detach() for c in second])  # (R, M)
        slices = zip(self.modalities, ins[..., :-1].chunk(count, 2))
        self.of_mean = nn.ParameterDict({m: nn.Parameter(w.clone()) for m, w in slices})
        self.of_size = nn.Parameter(ins[..., -1].clone())
        self.bias = nn.Parameter(torch.stack([c.bias.detach() for c in first]))
        self.out = nn.ParameterDict({m: nn.Parameter(outs[:, i].clone()) for i, m in enumerate(self.modalities)})
        self.out_bias = nn.ParameterDict({m: nn.Parameter(biases[:, i].clone()) for i, m in enumerate(self.modalities)})

    def forward(self, means: Tensor, sizes: Tensor) -> Tensor:
        """(B, R, M, C) and (B, R) -> (B, R, M) in (0, 1)."""
        ins = torch.cat([self.of_mean[m] for m in self.modalities], 2)
        x = torch.einsum('brc,rhc->brh', means.flatten(2), ins) + sizes[..., None] * self.of_size + self.bias
        outs = torch.stack([self.out[m] for m in self.modalities], 1)
        biases = torch.stack([self.out_bias[m] for m in self.modalities], 1)
        return (torch.einsum('brh,rmh->brm', F.leaky_relu(x, SLOPE), outs) + biases).sigmoid()
