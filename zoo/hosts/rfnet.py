"""RFNet (Ding et al., ICCV 2021): brain tumour segmentation that fuses modalities by region."""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import HOSTS
from zoo.batch import Batch, Features
from zoo.layers3d import Decoder3D, NamedConv3d, UpStep, conv3d, post_norm

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
        widths: Channels of the levels, finest first, each twice the one before.
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

    def forward(self, stacks: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Stacks (B, M, C_i, ...), finest first, zero where absent -> the fused map (B, C_0, ...) of the finest level,
        and region logits (B, R, ...) of each."""
        x, sides = None, []
        for i in reversed(range(len(stacks))):
            y = stacks[i]
            up = None if x is None else self.steps[i].up(x)
            logits = self.regions[i](y, up)
            fused = self.fusions[i](y, logits.detach().softmax(1))
            x = fused if up is None else self.steps[i].join(fused, up)
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
        self.squeeze = _named(modalities, width, quarter)
        self.body = nn.Sequential(post_norm(quarter, quarter, 3, padding=padding), post_norm(quarter, width, 1))
        self.head = nn.Sequential(
            post_norm(2 * width if below else width, HEAD_WIDTH, 1), conv3d(HEAD_WIDTH, num_classes, 1)
        )

    def forward(self, y: Tensor, up: Tensor | None) -> Tensor:
        """(B, M, C, ...) and (B, C, ...) or None -> logits (B, R, ...)."""
        x = self.body(self.squeeze(y.flatten(1, 2)))
        return self.head(x if up is None else torch.cat((up, x), 1))


class RegionFusion(nn.Module):
    """Fusion of the modalities within each region, and beside it a short cut without regions.

    With y_m the maps of a modality and P_r the probability of a region, ``F_r = sum_m w[r,m] (y_m P_r)`` is computed as
    ``P_r sum_m w[r,m] y_m``, and the means that the weights w depend on as one matrix product.

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
        self.squeeze = _named(modalities, width, width)
        self.short_cut = nn.Sequential(post_norm(width, width, 3, padding=padding), post_norm(width, width // 2, 1))

    def forward(self, y: Tensor, probabilities: Tensor) -> Tensor:
        """(B, M, C, ...), zero where absent, and (B, R, ...) -> (B, C, ...)."""
        regions = self.merge(y, probabilities)
        return torch.cat((self.by_region(regions), self.short_cut(self.squeeze(y.flatten(1, 2)))), 1)

    def merge(self, y: Tensor, probabilities: Tensor) -> Tensor:
        """The maps F_r of all regions: (B, R * C, ...)."""
        size = y.shape[3:]
        y, p = y.flatten(3), probabilities.flatten(2)  # (B, M, C, V), (B, R, V)
        q = p.mean(2) + 1e-7
        means = torch.einsum('bmcv,brv->brmc', y, p) / (p.shape[2] * q[..., None, None])
        merged = torch.einsum('brm,bmcv->brcv', self.weigh(means, q), y) * p[:, :, None]
        return merged.flatten(1, 2).unflatten(2, size)


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
        return (torch.einsum('brh,rmh->brm', F.leaky_relu(x, 0.2), outs) + biases).sigmoid()


def _named(modalities: Sequence[str], width: int, out_channels: int) -> nn.Sequential:
    """`post_norm` of a `NamedConv3d`."""
    return nn.Sequential(
        NamedConv3d(modalities, width, out_channels),
        nn.InstanceNorm3d(out_channels),
        nn.LeakyReLU(0.2, inplace=True),
    )
