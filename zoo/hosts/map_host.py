"""What hosts for dense prediction share: sizes, padding, decoding fused maps, auxiliary heads."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import LOSSES, NECKS, SCOPE, InputError
from zoo.batch import Batch, Outputs
from zoo.datasets import IGNORE
from zoo.heads import FCN8s, build_map_head
from zoo.rows import lone_values_allowed

from .label_host import LabelHost
from .sizes import check_padding, padded_size


class MapHost(LabelHost):
    """A host that labels every pixel: fused maps -> neck -> head -> logits (B, K, H, W) of the input's size.

    Targets are (B, H, W), classes and `zoo.datasets.IGNORE`.

    Args:
        modalities: Names of the inputs.
        num_classes: K.
        in_chans: Channels of each modality's input; one number for all, or a mapping.
        loss: A loss of (logits, class indices): name or config. It is told to ignore `zoo.datasets.IGNORE`.
        pad_to: Pad inputs (zeros, below and to the right) to a multiple of this, and crop the logits; None refuses
            sizes that do not fit.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.
    """

    task = 'segmentation'
    ignore_index = IGNORE

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        in_chans: int | Mapping[str, int],
        loss: str | Mapping,
        pad_to: int | None,
        data_preprocessor: nn.Module | Mapping | None,
        encode_on: str,
    ) -> None:
        super().__init__(modalities, num_classes, in_chans, dense_loss(loss), data_preprocessor, encode_on)
        self.pad_to = pad_to
        self.neck: nn.Module | None = None
        self.head: nn.Module | None = None
        self.multiple = 1  # what the sides of an input must be multiples of

    def build_head(
        self, neck: str | Mapping | None, head: str | Mapping, channels: Sequence[int], reductions: Sequence[int]
    ) -> None:
        """Build the neck, if any, and the head for fused maps of these widths, finest first."""
        self.multiple = max(reductions)
        check_padding(self.pad_to, self.multiple)
        if neck is not None:
            self.neck = NECKS.build(neck, in_channels=list(channels), reductions=list(reductions))
            channels, reductions = self.neck.out_channels, self.neck.reductions
        self.head = build_map_head(head, channels, reductions, self.num_classes)

    @property
    def decoder(self) -> nn.Module:
        """Neck and head in a row."""
        return self.head if self.neck is None else nn.Sequential(self.neck, self.head)

    def build_aux(self, channels: Mapping[str, Sequence[int]]) -> None:
        """Give each modality a light head on its own maps of these widths."""
        self.aux.update({m: FCN8s(c, num_classes=self.num_classes) for m, c in channels.items()})

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """See `LabelHost`.

        Raises:
            InputError: The target is no labels of the size of the images.
        """
        expected, target = (len(outputs.prediction), *outputs.prediction.shape[2:]), batch.target
        if not isinstance(target, Tensor) or target.dtype != torch.int64 or tuple(target.shape) != expected:
            found = f'{target.dtype} {tuple(target.shape)}' if isinstance(target, Tensor) else type(target).__name__
            raise InputError(
                f'{type(self).__name__} trains on masks, int64 of (B, H, W) = {expected} as its images, got {found}. '
                'Labels of a size of their own (inputs_only=True, or augment=False) are for testing.'
            )
        return super().losses(outputs, batch)

    def side_target(self, target: Tensor) -> Tensor:
        """Padded as the inputs are."""
        size = target.shape[1:]
        bottom, right = (p - s for p, s in zip(padded_size(size, self.pad_to), size))
        return F.pad(target, [0, right, 0, bottom], value=IGNORE) if bottom or right else target

    def predict_maps(
        self, maps: list[Tensor], size: Sequence[int], head: nn.Module | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, K, *size) of fused maps, and the side outputs that the head has in training; of another head, with
        which the neck has nothing to do, where one is given."""
        lone = self.training and len(maps[-1]) == 1
        with lone_values_allowed(head or self.decoder) if lone else nullcontext():
            if head is None and self.neck is not None:
                maps = self.neck(maps)
            logits = (head or self.head)(maps)
        logits, side = logits if isinstance(logits, tuple) else (logits, [])
        return self._resized(logits, size), side

    def predict_alone(self, maps: Mapping[str, list[Tensor]], size: Sequence[int]) -> dict[str, Tensor] | None:
        """Logits (B, K, *size) of each modality's auxiliary head; None without these."""
        return {m: self._resized(head(maps[m]), size) for m, head in self.aux.items()} or None

    def training_only(self) -> Iterator[nn.Parameter]:
        """Auxiliary heads, and what the head says."""
        yield from super().training_only()
        if hasattr(self.head, 'training_only'):
            yield from self.head.training_only()

    def _resized(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        padded = padded_size(size, self.pad_to)
        if list(logits.shape[2:]) != padded:
            logits = F.interpolate(logits, padded, mode='bilinear', align_corners=False)
        return logits[..., : size[0], : size[1]] if padded != list(size) else logits


def common_reductions(encoders: Mapping[str, nn.Module]) -> list[int]:
    """The sizes of the maps of all encoders: that of the input over each of them, finest first.

    Raises:
        InputError: They differ, or an encoder gives no maps.
    """
    pyramids = {}
    for m, encoder in encoders.items():
        if not hasattr(encoder, 'reductions'):
            raise InputError(
                f'The encoder of {m} must give a pyramid of maps, as TimmPyramid does, got {type(encoder).__name__}.'
            )
        pyramids[m] = list(encoder.reductions)
    first = next(iter(pyramids.values()))
    if any(p != first for p in pyramids.values()):
        raise InputError(f'The encoders must give maps of the same reductions, got {pyramids}.')
    return first


def dense_loss(loss: str | Mapping) -> dict:
    """A loss's config, told what to ignore where it can be."""
    cfg = dict(loss) if isinstance(loss, Mapping) else {'type': loss}
    if 'losses' in cfg:  # a sum
        return {**cfg, 'losses': [dense_loss(part) for part in cfg['losses']]}
    kind = cfg.get('type')
    if isinstance(kind, str):
        kind = kind.removeprefix(f'{SCOPE}.')
        kind = None if '.' in kind else LOSSES.find(kind)  # the wrappers of other libraries ignore it by themselves
    if kind is not None and 'ignore_index' in inspect.signature(kind).parameters:
        cfg.setdefault('ignore_index', IGNORE)
    return cfg
