"""ISFuse (CVPR 2026): one image of several, from a pyramid of maps fused level by level."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import FUSIONS, HOSTS, LOSSES, InputError
from zoo.batch import Batch, Features, Outputs
from zoo.colour import luma
from zoo.host import MultimodalHost
from zoo.layers import conv_norm_leaky
from zoo.precision import widened

from .label_host import encoder_parameters, for_each
from .sizes import check_images

LEVELS = 3
SLACK = 1e-4  # beyond 0..1: what rounding leaves there
LEAST = 2 ** (LEVELS - 1)  # pixels a side, or the coarsest map would be empty


class Pyramid(nn.Module):
    """Two convolutions on each of three levels, of 1, 1/2 and 1/4 of the size.

    Args:
        dim: Width of all maps.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = [1, dim, dim]
        self.levels = nn.ModuleList(
            nn.Sequential(conv_norm_leaky(width, dim), conv_norm_leaky(dim, dim)) for width in widths
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 1, H, W) -> three maps (B, dim, H // r, W // r), finest first."""
        maps = []
        for level in self.levels:
            x = level(F.max_pool2d(maps[-1], 2) if maps else x)
            maps.append(x)
        return maps


@HOSTS.register_module()
class ISFuse(MultimodalHost):
    """Fuses registered images of one size into one (Intervention-Stable feature learning, arXiv:2603.23272).

    Each modality has an encoder, `CFI` fuses their maps on each level, and a decoder adds what it has from the coarser
    level to the fused map of the next. The prediction is the luma (B, 1, H, W) in (0, 1), and ``extras['gates']`` has
    the gates of the levels, (B, 1, h, w), finest first.

    The inputs are the target: images in 0..1, by ``data_preprocessor=dict(std=dict(vis=255, ir=255))`` for those of 8
    bits. Of a modality with three channels it fuses the luma (`zoo.colour`), and `tools/predict.py` puts the chroma
    back.

    With two modalities and the defaults it is the network of the authors' code, 231,780 parameters less the 39,392 of
    three blocks that no image passes through. The paper shares the weights of the encoders and ends in a convolution
    of one pixel: ``share_encoder=True, head_kernel=1``. It is ours that there can be any number of modalities and that
    some may be absent.

    Args:
        modalities: Names of the inputs.
        in_chans: 1 or 3 channels of each modality's input; one number for all, or a mapping.
        dim: Width of all maps.
        fusion: A fusion block: name or config. Only `CFI` has gates.
        share_encoder: One encoder for all modalities, which then have no branches of their own.
        head_kernel: Side of the last convolution, odd.
        loss: A loss of (fused, sources, present): name or config.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Raises:
        InputError: Numbers out of range, or arguments that do not cover the modalities.
        NameNotFound: An unknown part.
    """

    task = 'fusion'
    offers = frozenset({'features', 'sample_losses'})

    def __init__(
        self,
        modalities: Sequence[str] = ('vis', 'ir'),
        in_chans: int | Mapping[str, int] = 1,
        dim: int = 32,
        fusion: str | Mapping = 'CFI',
        share_encoder: bool = False,
        head_kernel: int = 3,
        loss: str | Mapping = 'FusionFidelity',
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        super().__init__(modalities, data_preprocessor, encode_on)
        self.in_chans = for_each(in_chans, self.modalities, 'in_chans')
        if wrong := {m: c for m, c in self.in_chans.items() if c not in (1, 3)}:
            raise InputError(f'ISFuse takes images of 1 or 3 channels (in_chans), got {wrong}.')
        for name, value in (('dim', dim), ('head_kernel', head_kernel)):
            if not isinstance(value, int) or value < 1 or (name == 'head_kernel' and value % 2 == 0):
                raise InputError(f'{name} of ISFuse must be at least 1, head_kernel also odd, got {value!r}.')
        shared = Pyramid(dim) if share_encoder else None
        self.shared = share_encoder
        self.encoders = nn.ModuleDict({m: shared or Pyramid(dim) for m in self.modalities})
        self.fusions = nn.ModuleList(
            FUSIONS.build(fusion, modalities=self.modalities, channels=dim, out_channels=dim) for _ in range(LEVELS)
        )
        self.decoders = nn.ModuleList(
            nn.Sequential(conv_norm_leaky(dim, dim), conv_norm_leaky(dim, dim)) for _ in range(LEVELS - 1)
        )
        self.head = nn.Conv2d(dim, 1, head_kernel, padding=head_kernel // 2)
        self.criterion = LOSSES.build(loss, reduction='none')
        self._warned = False
        self.to(memory_format=torch.channels_last)

    def encode(self, batch: Batch) -> dict[str, list[Tensor]]:
        """{modality: maps (B, dim, H // r, W // r), finest first}."""
        batch = self._checked(batch)
        return {m: self.encode_modality(encoder, batch, m) for m, encoder in self.encoders.items()}

    def fuse(self, features: Features, mask: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """-> for each level the fused map (B, dim, h, w) and its gate (B, 1, h, w), None of a block that has none."""
        fused = []
        for i, fusion in enumerate(self.fusions):
            level = features.level(i)
            gated = hasattr(fusion, 'forward_with_gate')
            fused.append(fusion.forward_with_gate(level, mask) if gated else (fusion(level, mask), None))
        return fused

    def decode(self, fused: list[tuple[Tensor, Tensor | None]], features: Features) -> Outputs:
        """-> the fused image (B, 1, H, W)."""
        maps, gates = zip(*fused)
        x = maps[-1]
        for finer, decoder in zip(maps[-2::-1], reversed(self.decoders)):
            x = decoder(F.interpolate(x, finer.shape[2:], mode='bilinear', align_corners=False) + finer)
        extras = {} if gates[0] is None else {'gates': list(gates)}
        return Outputs(widened(self.head(x)).sigmoid(), features, extras)

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """``loss_task``: the mean over the samples."""
        return {'loss_task': self.sample_losses(outputs, batch).mean()}

    def sample_losses(self, outputs: Outputs, batch: Batch) -> Tensor:
        """(B,), of the modalities that each sample has."""
        batch = self.own(batch, check=False)
        sources = torch.cat([luma(batch.inputs[m]) for m in self.modalities], 1)
        return self.criterion(outputs.prediction, sources, batch.mask)

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of this modality's encoder; none where all share one."""
        parameters = encoder_parameters(self.encoders, modality)
        return iter(()) if self.shared else parameters

    def _checked(self, batch: Batch) -> Batch:
        """The batch with the luma of its images.

        Raises:
            InputError: No images of one size of at least 4 pixels a side, or NaN on a CPU; on a GPU, where to look
                would be to wait, the prediction is NaN then.
        """
        check_images(batch, self.in_chans)
        height, width = batch.inputs[self.modalities[0]].shape[2:]
        if min(height, width) < LEAST:
            raise InputError(
                f'ISFuse halves images twice: they have at least {LEAST} pixels a side, got {height}x{width} (H x W).'
            )
        if batch.device.type == 'cpu' and not torch.compiler.is_compiling():
            for m, rows in zip(self.modalities, batch.present.unbind(1)):
                self._check_range(m, batch.inputs[m] if rows.all() else batch.inputs[m][rows])
        return batch.replace(inputs={m: luma(x) for m, x in batch.inputs.items()})

    def _check_range(self, modality: str, x: Tensor) -> None:
        if not x.numel():
            return
        low, high = (float(v) for v in x.detach().aminmax())
        if math.isnan(low) or math.isnan(high):
            raise InputError(f'{modality} holds NaN.')
        if not self._warned and (low < -SLACK or high > 1 + SLACK):
            self._warned = True
            warnings.warn(
                f'ISFuse fuses images in 0..1, {modality} has {low:.4g}..{high:.4g}: images of 8 bits take '
                f'data_preprocessor=dict(std=dict({modality}=255, ...)), those of 16 bits 65535, and no mean.',
                stacklevel=2,
            )
