"""Decoders of segmentation-models-pytorch on fused feature maps."""

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from registry import HEADS, InputError, unknown_name

STAND_IN = 'counterpoise'  # the name under which smp finds the channels of our maps
FIXED = ('encoder_name', 'encoder_depth', 'encoder_weights', 'in_channels', 'classes', 'aux_params')


@HEADS.register_module()
class SmpHead(nn.Module):
    """A decoder and segmentation head of segmentation-models-pytorch: maps -> logits (B, K, h, w).

    ``head='smp.Unet'`` or ``dict(type='smp.DeepLabV3Plus', decoder_channels=128)`` in a host's config mean this class.

    Args:
        decoder: The name of an architecture of smp: Unet, UnetPlusPlus, MAnet, Linknet, FPN, PSPNet, DeepLabV3,
            DeepLabV3Plus, PAN, UPerNet, Segformer.
        in_channels: Width of each map, finest first.
        reductions: Size of the input over that of each map: 2, 4, 8, ... or 4, 8, ...; ``output_stride`` of an encoder
            may repeat the last.
        num_classes: K.
        kwargs: Those of the architecture in smp: ``decoder_channels``, ``decoder_attention_type``, ``upsampling``, ...

    Raises:
        NameNotFound: smp has no such architecture.
        InputError: Arguments that it does not take, or maps that it can not decode.
    """

    def __init__(
        self, decoder: str, in_channels: Sequence[int], reductions: Sequence[int], num_classes: int, **kwargs: Any
    ) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp

        known = [n for n, c in vars(smp).items() if isinstance(c, type) and issubclass(c, smp.base.SegmentationModel)]
        known = [n for n in known if n != 'DPT']  # decodes tokens
        if decoder not in known:
            raise unknown_name('decoder of smp', decoder, known)
        if fixed := [k for k in kwargs if k in FIXED]:
            raise InputError(f'{", ".join(fixed)} of smp.{decoder} can not be chosen: leave it out.')
        reductions = list(reductions)
        self.gap = reductions[0] == 4  # no map of half the size: smp then wants one without channels
        halves = [2, 4, 8, 16, 32][self.gap :][: len(reductions)]
        before = [0, *reductions]
        if len(halves) < len(reductions) or any(r not in (h, b) for r, h, b in zip(reductions, halves, before)):
            raise InputError(
                f'smp.{decoder} decodes maps of 1/2, 1/4, ... 1/32 (or from 1/4 on) of the input, got {reductions}.'
            )
        channels = [3, *([0] if self.gap else []), *in_channels]
        smp.encoders.encoders[STAND_IN] = {
            'encoder': _Channels,
            'pretrained_settings': {},
            'params': {'out_channels': channels, 'output_stride': reductions[-1]},
        }
        cls = getattr(smp, decoder)
        arguments = {'encoder_name': STAND_IN, 'encoder_depth': len(channels) - 1, 'encoder_weights': None}
        if decoder in ('DeepLabV3', 'DeepLabV3Plus', 'PAN'):
            kwargs.setdefault('encoder_output_stride', reductions[-1])
        for name in kwargs:  # smp's models swallow any argument, for their encoders
            takes = [n for n in inspect.signature(cls).parameters if n not in (*FIXED, 'kwargs')]
            if name not in takes:
                raise unknown_name(f'argument of smp.{decoder}', name, takes)
        try:
            model = cls(classes=num_classes, **arguments, **kwargs)
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            raise InputError(
                f'smp.{decoder} can not be built with {kwargs} for maps of 1/{reductions}: {error}'
            ) from error
        self.decoder, self.segmentation_head = model.decoder, model.segmentation_head
        self.reductions = reductions

    def forward(self, maps: Sequence[Tensor | None]) -> Tensor:
        """Maps, finest first, None where the decoder uses none -> logits, as large as smp's own model gives them."""
        last = maps[-1]
        size = [s * self.reductions[-1] for s in last.shape[2:]]
        blanks = [last.new_zeros(()).expand(len(last), 3, *size)]  # only its size is looked at
        if self.gap:
            blanks.append(last.new_zeros(len(last), 0, *[s // 2 for s in size]))
        return self.segmentation_head(self.decoder([*blanks, *maps]))


class _Channels(nn.Module):
    """What smp asks of an encoder when it builds a decoder."""

    def __init__(self, out_channels: list[int], output_stride: int, depth: int = 5) -> None:
        super().__init__()
        self.out_channels, self.output_stride = out_channels, output_stride

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Nothing: there are no inputs."""

    def make_dilated(self, output_stride: int) -> None:
        """Nothing: our encoders have their stride already."""
