"""SF-MD: shallow branches, a masked concatenation, and the deep half of a ResNet-18 (MMANet, CVPR 2023)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import FUSIONS, HOSTS, InputError, unknown_name
from zoo.batch import Batch, Features, Outputs
from zoo.encoders.resnet_se_stem import residual_stage
from zoo.fusion import Concat
from zoo.heads import LinearHead
from zoo.layers import he_init_
from zoo.rows import Rows, lone_values_allowed

from .label_host import LabelHost, build_encoders, encoder_parameters
from .presets import presets
from .sizes import check_images

AUX_HEADS = (False, True, 'trunk')
AUX_ON = ('present', 'all')


@HOSTS.register_module()
class SFMD(LabelHost):
    """Classifies from shallow features of each modality, masked and concatenated, by one common trunk.

    With three modalities, two classes and the other defaults this is the network that MMANet's paper calls SF-MD when
    it is trained with random modality dropout (``ModalityDropout(mode='subsets')``), and that serves it as teacher and
    as student: 13,182,554 parameters, 0.940 G multiply-accumulates at 112 x 112.

    What the official code has and this has not:

    * a product with the mask, which lets NaN of an absent input through, and batch statistics over samples that lack
      the modality: here such rows are neither encoded nor read;
    * positions: modalities go by name, in each branch and in each slice of the trunk's first weights, so that a
      checkpoint does not depend on the order in which a config names them;
    * a Dropout that is built and never applied.

    Args:
        modalities: Names of the inputs; any number.
        num_classes: K.
        encoder: The branch: a registered encoder of maps (B, C, h, w) with ``out_channels``, by name or config, or one
            of these for each modality.
        in_chans: Channels of each modality's input; one number for all, or a mapping.
        trunk_channels: Widths of the trunk's two stages.
        loss: A loss of (logits, class indices): name or config.
        fusion: A registered fusion block on the branches' maps; ``'MeanVariance'`` makes it HeMIS on these branches.
            Only after the default go the trunk's first weights by name.
        aux_heads: Unimodal predictions, trained with the same loss (``loss_aux_<modality>``) and not used at inference:
            True, a linear layer on the mean of each branch's map (258 parameters each), which fits the negligible cost
            that the MWAM paper reports; ``'trunk'``, one more trunk that all modalities share, as in the official code
            (10,494,466 parameters).
        aux_on: Which samples count in the auxiliary losses: ``'present'``, or ``'all'`` that the data set delivered,
            also where a plugin dropped the modality; this needs features of them (``encode_on='all'``).
        preset: ``'official'`` sets what published training does, where the arguments do not say it:
            ``encode_on='all'``, ``aux_on='all'``.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Raises:
        InputError: Arguments that contradict each other or do not cover the modalities.
        NameNotFound: An unknown part.
    """

    task = 'classification'
    offers = frozenset({'features', 'unimodal', 'sample_losses'})
    offers_with: Mapping[str, str] = {'unimodal': "aux_heads=True or aux_heads='trunk'"}

    @presets(official={'encode_on': 'all', 'aux_on': 'all'})
    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int = 2,
        encoder: str | Mapping = 'ResNetSEStem',
        in_chans: int | Mapping[str, int] = 3,
        trunk_channels: Sequence[int] = (256, 512),
        loss: str | Mapping = 'CrossEntropyLoss',
        fusion: str | Mapping = 'Concat',
        aux_heads: bool | str = False,
        aux_on: str = 'present',
        preset: str | None = None,
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        super().__init__(modalities, num_classes, in_chans, loss, data_preprocessor, encode_on)
        if aux_on not in AUX_ON:
            raise unknown_name('way to train auxiliary heads (aux_on)', aux_on, AUX_ON)
        if aux_on == 'all' and encode_on != 'all':
            raise InputError(
                f"aux_on='all' trains heads on modalities that were dropped, which encode_on={encode_on!r} does not "
                "encode: use encode_on='all'."
            )
        if aux_heads not in AUX_HEADS:
            raise InputError(f"aux_heads is False, True or 'trunk', got {aux_heads!r}.")
        self.aux_on = aux_on
        self.encoders = build_encoders(encoder, self.in_chans)
        channels = {m: e.out_channels for m, e in self.encoders.items()}
        self.fusion = FUSIONS.build(fusion, modalities=self.modalities, channels=channels)
        side_by_side = isinstance(self.fusion, Concat) and self.fusion.mix is None
        self.trunk = Trunk(channels if side_by_side else self.fusion.out_channels, trunk_channels, num_classes)
        if aux_heads == 'trunk':
            if len(set(channels.values())) > 1:
                raise InputError(f"aux_heads='trunk' is shared: the branches must have one width, got {channels}.")
            self.aux['trunk'] = Trunk(max(channels.values()), trunk_channels, num_classes)
        elif aux_heads:
            self.aux.update({m: LinearHead(c, num_classes) for m, c in channels.items()})
        else:
            self.offers = self.offers - {'unimodal'}

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """{modality: (B, C, h, w)}.

        Raises:
            InputError: Inputs that are no images, of other channels than ``in_chans``, or of different sizes.
        """
        check_images(batch, self.in_chans)
        return {m: self.encode_modality(encoder, batch, m) for m, encoder in self.encoders.items()}

    def fuse(self, features: Features, mask: Tensor) -> Tensor:
        """-> (B, C, h, w), by default the branches side by side."""
        return self.fusion(features, mask)

    def decode(self, fused: Tensor, features: Features) -> Outputs:
        """-> logits (B, K); ``extras`` hold the maps ``fused``, ``layer3`` and ``layer4``."""
        logits, layer3, layer4 = self._through(self.trunk, fused)
        return Outputs(logits, features, {'fused': fused, 'layer3': layer3, 'layer4': layer4})

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """See `LabelHost`; with ``aux_on='all'`` auxiliary losses are over all samples that have the modality, dropped
        or not."""
        return super().losses(outputs, batch.replace(present=batch.available) if self.aux_on == 'all' else batch)

    def unimodal(self, outputs: Outputs) -> dict[str, Tensor] | None:
        """Logits (B, K) of each modality's auxiliary head, on its map before the mask; None without these."""
        if 'unimodal' not in self.offers:
            return None
        if 'trunk' not in self.aux:
            return {m: head(outputs.features[m].mean((2, 3))) for m, head in self.aux.items()}
        encoded = getattr(outputs.features, 'present', None)
        predictions = {}
        for i, m in enumerate(self.modalities):
            x = outputs.features[m]
            rows = Rows(None if encoded is None else encoded[:, i], x.device, len(x))
            predictions[m] = rows.put(rows.run(self.aux['trunk'], rows.take(x))[0])
        return predictions

    def branch(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of this modality's encoder: stem, two stages and channel weights."""
        yield from encoder_parameters(self.encoders, modality)
        yield from self.fusion.branch(modality)

    def compilable(self) -> Iterator[nn.Module]:
        """The branches and the trunk."""
        yield from self.encoders.values()
        yield self.trunk

    def _through(self, trunk: 'Trunk', x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lone = self.training and len(x) == 1  # small images: one place is left
        with lone_values_allowed(trunk) if lone else nullcontext():
            return trunk(x)


class Trunk(nn.Module):
    """The deep half of a ResNet-18: two stages that each halve the map, the mean over all places, a linear layer.

    Args:
        in_channels: Width of the input; or modality to its part of it, and the weights that read it then go by name.
        channels: Widths of the two stages.
        num_classes: K.

    Raises:
        InputError: ``channels`` are not two numbers above 0.
    """

    def __init__(self, in_channels: int | Mapping[str, int], channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        if len(channels) != 2 or min(channels) < 1:
            raise InputError(f'trunk_channels must be two widths of at least 1, got {tuple(channels)}.')
        named = isinstance(in_channels, Mapping)
        width = sum(in_channels.values()) if named else in_channels
        self.layer3 = residual_stage(width, channels[0], stride=2)
        self.layer4 = residual_stage(channels[0], channels[1], stride=2)
        self.fc = LinearHead(channels[1], num_classes)
        he_init_(self, skip=(self.fc,))
        if named:
            first = self.layer3[0]
            first.conv1 = NamedConv2d(first.conv1, in_channels)
            first.downsample[0] = NamedConv2d(first.downsample[0], in_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, h, w) -> logits (B, K), and the maps of both stages."""
        layer3 = self.layer3(x)
        layer4 = self.layer4(layer3)
        return self.fc(layer4.mean((2, 3))), layer3, layer4


class NamedConv2d(nn.Module):
    """A convolution of concatenated modalities whose weights are kept by name: a state does not depend on their order.

    Args:
        conv: The convolution, without bias, whose weights it takes over.
        channels: Modality to its number of input channels, in their order.
    """

    def __init__(self, conv: nn.Conv2d, channels: Mapping[str, int]) -> None:
        super().__init__()
        parts = conv.weight.detach().split(list(channels.values()), dim=1)
        self.weights = nn.ParameterDict({m: nn.Parameter(w.clone()) for m, w in zip(channels, parts)})
        self.order, self.stride, self.padding = tuple(channels), conv.stride, conv.padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, sum of channels, H, W) -> (B, out_channels, ...)."""
        weight = torch.cat([self.weights[m] for m in self.order], dim=1)
        return F.conv2d(x, weight, stride=self.stride, padding=self.padding)
