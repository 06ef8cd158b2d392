"""What hosts that label volumes share: sizes, padding, sliding windows, losses of deep supervision."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import InputError, unknown_name
from zoo.batch import Batch, Features, Outputs
from zoo.datasets import IGNORE
from zoo.fusion.fusion import keep
from zoo.rows import Rows

from .label_host import LabelHost, nearest_labels
from .map_host import dense_loss
from .sizes import check_padding, padded_size

AUX_ON = ('present', 'all')
SIDES = ('full', 'native')
BLENDS = ('gaussian', 'uniform')
PADDINGS = ('reflect', 'zeros')


class VolumeHost(LabelHost):
    """A host that labels every voxel: inputs (B, C, D, H, W), logits (B, K, D, H, W), targets (B, D, H, W) of classes
    and `zoo.datasets.IGNORE`.

    In eval mode volumes are tiled by ``window``: each window is encoded once, for `run_subsets` too, and softmax
    probabilities are averaged where windows overlap. The prediction is their logarithm, which are logits again, and
    nothing else comes out: ``outputs.features`` is empty. `run_subsets` then holds one volume of probabilities for
    each subset.

    Subclasses build ``self.encoders``, ``self.levels`` (their number of maps) and ``self.decoder`` (``classify``: the
    finest fused map -> logits), say how to `encode`, and `fuse` to that map and the logits of deep supervision at their
    native sizes, finest first; an auxiliary decoder that all modalities share is ``self.aux['shared']``.

    Args:
        modalities: Names of the inputs.
        num_classes: K.
        in_chans: Channels of each modality's input; one number for all, or a mapping.
        multiple: What the sides of an input must be multiples of: one cell of the coarsest map. Instance normalisation
            and reflection padding need two cells along each side.
        loss: A loss of (logits, class indices): name or config. It is told to ignore `zoo.datasets.IGNORE`.
        pad_to: Pad inputs (zeros, at the end of each axis) to a multiple of this and to two cells at least, and crop
            the logits; None refuses sizes that do not fit.
        window: (D, H, W) of a sliding window at inference; None takes volumes whole. Windows overlap by half, the last
            one ends with the volume, and a volume that is smaller than the window is padded with zeros.
        blend: How windows are averaged: ``'gaussian'``, less at their borders, or ``'uniform'``, as published.
        side_size: Where the losses of deep supervision are taken: ``'full'``, probabilities interpolated to the size of
            the input, as published; or ``'native'``, against the nearest labels, which costs less.
        warmup_epochs: For so many epochs ``loss_task`` is multiplied by 0 (RFNet's launch script: 20).
        aux_on: Which rows the auxiliary losses take: ``'present'``; or ``'all'`` that the data set delivered, also
            those whose modality was dropped from the fusion, which needs ``encode_on='all'``.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.

    Raises:
        InputError: A value outside its range.
        NameNotFound: Another ``blend``, ``side_size`` or ``aux_on``.
    """

    task = 'segmentation'
    ignore_index = IGNORE
    spatial_dims = 3

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int,
        in_chans: int | Mapping[str, int],
        multiple: int,
        loss: str | Mapping,
        pad_to: int | None,
        window: Sequence[int] | None,
        blend: str,
        side_size: str,
        warmup_epochs: int,
        aux_on: str,
        data_preprocessor: nn.Module | Mapping | None,
        encode_on: str,
    ) -> None:
        super().__init__(modalities, num_classes, in_chans, dense_loss(loss), data_preprocessor, encode_on)
        for name, value, known in (
            ('way to average windows (blend)', blend, BLENDS),
            ('size of side losses (side_size)', side_size, SIDES),
            ('rows of auxiliary losses (aux_on)', aux_on, AUX_ON),
        ):
            if value not in known:
                raise unknown_name(name, value, known)
        if aux_on == 'all' and self.encode_on != 'all':
            raise InputError(
                f"aux_on='all' takes losses on dropped modalities, which encode_on={self.encode_on!r} does not encode: "
                "give encode_on='all' too."
            )
        if not isinstance(warmup_epochs, int) or warmup_epochs < 0:
            raise InputError(f'warmup_epochs must be an integer of at least 0, got {warmup_epochs!r}.')
        check_padding(pad_to, multiple)
        self.multiple, self.pad_to = multiple, pad_to
        self.window = None if window is None else self._checked_window(window)
        self.blend, self.side_size, self.aux_on, self.warmup_epochs = blend, side_size, aux_on, warmup_epochs

    @property
    def settings(self) -> dict[str, Any]:
        """The window, which scores depend on."""
        return {} if self.window is None else {'window': list(self.window), 'blend': self.blend}

    # ---- sizes

    def padded(self, batch: Batch) -> Batch:
        """The batch with inputs of a size that the encoders take.

        Raises:
            InputError: No volumes at all; inputs of another rank, other channels, different sizes or of integers; sides
                that are no multiple of ``self.multiple`` or too small, where the host does not pad.
        """
        first = batch.inputs[self.modalities[0]]
        if not len(first):
            raise InputError(f'{type(self).__name__} was given a batch of no volumes.')
        for m, x in batch.inputs.items():
            if x.ndim != 5:
                raise InputError(f'{m} must be (B, C, D, H, W), got {tuple(x.shape)}.')
            if x.shape[1:] != (self.in_chans[m], *first.shape[2:]):
                sides = ', '.join(map(str, first.shape[2:]))
                raise InputError(
                    f'{m} must be (B, {self.in_chans[m]}, {sides}), by in_chans and the first modality, '
                    f'got {tuple(x.shape)}.'
                )
            if not x.is_floating_point():
                raise InputError(f'{m} must hold floating point numbers, got {x.dtype}.')
        size = tuple(first.shape[2:])
        target = self.padded_size(size)
        if target != size:
            return batch.replace(inputs={m: _padded(x, target) for m, x in batch.inputs.items()})
        if any(s % self.multiple or s < 2 * self.multiple for s in size):
            raise InputError(
                f'{type(self).__name__} takes volumes whose sides are multiples of {self.multiple} and at least '
                f'{2 * self.multiple}, got {_by(size)} (D x H x W). Crop them, or give the host '
                f'pad_to={self.multiple}.'
            )
        return batch

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """(D, H, W) after padding."""
        if self.pad_to is None:
            return tuple(size)
        least = padded_size([2 * self.multiple], self.pad_to)[0]
        return tuple(max(s, least) for s in padded_size(size, self.pad_to))

    def cropped(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Without what padding added."""
        d, h, w = size
        return logits[..., :d, :h, :w]

    # ---- inference by windows

    def run(self, batch: Batch) -> Outputs:
        """Encode, fuse and decode a batch, by windows where they are smaller or larger than the volume."""
        batch = self.own(batch)
        if not self.slides(batch):
            return super().run(batch)
        return self._slide(batch, lambda part: [super(VolumeHost, self).run(part)], 1)[0]

    def run_subsets(self, batch: Batch, masks: Tensor, features: Features | None = None) -> Iterator[Outputs | None]:
        """See `MultimodalHost.run_subsets`; each window is encoded once for all subsets."""
        batch = self.own(batch, check=False)
        if not self.slides(batch):
            yield from super().run_subsets(batch, masks, features)
            return
        results = self._slide(batch, lambda part: super(VolumeHost, self).run_subsets(part, masks), len(masks))
        while results:
            yield results.pop(0)

    def slides(self, batch: Batch) -> bool:
        """Whether the batch is taken by windows: in eval mode, where there is one of another size than the volume."""
        size = self._size(batch)
        return not self.training and self.window is not None and len(size) == 3 and size != self.window

    def _slide(
        self, batch: Batch, predict: Callable[[Batch], Iterator[Outputs | None]], count: int
    ) -> list[Outputs | None]:
        """Average what ``predict`` gives for each window: ``count`` outputs of the whole volume."""
        size = self._size(batch)
        for m, x in batch.inputs.items():
            if tuple(x.shape[2:]) != size:
                raise InputError(f'{m} must be of {_by(size)} as the first modality, got {tuple(x.shape)}.')
        whole = tuple(max(s, w) for s, w in zip(size, self.window))
        if whole != size:
            batch = batch.replace(inputs={m: _padded(x, whole) for m, x in batch.inputs.items()})
        weight = window_weights(self.window, self.blend, batch.device)
        total = weight.new_zeros(whole)
        sums: list[Tensor | None] = [None] * count
        for corner in product(*(window_starts(s, w) for s, w in zip(whole, self.window))):
            place = (..., *(slice(a, a + w) for a, w in zip(corner, self.window)))
            total[place] += weight
            part = batch.replace(inputs={m: x[place] for m, x in batch.inputs.items()})
            for i, outputs in enumerate(predict(part)):
                if outputs is None:
                    continue
                probabilities = outputs.prediction.float().softmax(1)
                if sums[i] is None:
                    sums[i] = probabilities.new_zeros(*probabilities.shape[:2], *whole)
                sums[i][place] += weight * probabilities
        tiny = torch.finfo(torch.float32).tiny
        return [
            None
            if s is None
            else Outputs(self.cropped((s / total).clamp(min=tiny).log(), size), Features.of({}, size), {})
            for s in sums
        ]

    def _checked_window(self, window: Sequence[int]) -> tuple[int, int, int]:
        valid = isinstance(window, Sequence) and len(window) == 3 and all(isinstance(w, int) and w > 0 for w in window)
        if not valid:
            raise InputError(f'window must be three numbers of voxels (D, H, W), got {window!r}.')
        if self.pad_to is None and any(w % self.multiple or w < 2 * self.multiple for w in window):
            raise InputError(
                f'The sides of the window must be multiples of {self.multiple} and at least {2 * self.multiple}, '
                f'got {tuple(window)}.'
            )
        return tuple(window)

    # ---- decoding

    def decode(self, fused: tuple[Tensor, list[Tensor]], features: Features) -> Outputs:
        """-> logits (B, K, D, H, W)."""
        x, side = fused
        logits = self.decoder.classify(x)
        return Outputs(self.cropped(logits, features.size or logits.shape[2:]), features, {'side': side})

    def unimodal(self, outputs: Outputs) -> dict[str, Tensor] | None:
        """Logits (B, K, D, H, W) of the auxiliary decoder on each modality's own maps; None without it."""
        if not self.aux or not outputs.features:
            return None
        return self.decode_alone(self.aux['shared'], outputs.features, self.levels)

    # ---- losses

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """``loss_task``; ``loss_side_<n>`` of side outputs of 1/n of the input's depth; and ``loss_aux_<modality>``
        over the samples that have it, where there are auxiliary decoders.

        Raises:
            InputError: The target is no labels of the size of the volumes.
        """
        expected, target = (len(outputs.prediction), *outputs.prediction.shape[2:]), batch.target
        if not isinstance(target, Tensor) or target.dtype != torch.int64 or tuple(target.shape) != expected:
            found = f'{target.dtype} {tuple(target.shape)}' if isinstance(target, Tensor) else type(target).__name__
            raise InputError(
                f'{type(self).__name__} trains on labels, int64 of (B, D, H, W) = {expected} as its volumes, '
                f'got {found}.'
            )
        losses = {'loss_task': self.criterion(outputs.prediction, target)}
        if self.clock.epoch < self.warmup_epochs:
            losses['loss_task'] = 0 * losses['loss_task']
        size = self.padded_size(target.shape[1:])
        for z in outputs.extras.get('side', ()):
            scale = round(size[0] / z.shape[2])
            losses[f'loss_side_{scale}'] = self.side_loss(z, target)
        batch = batch.view(self.modalities)
        rows = batch.available if self.aux_on == 'all' else batch.present
        for (m, z), here in zip((self.unimodal(outputs) or {}).items(), rows.unbind(1)):
            losses[f'loss_aux_{m}'] = self.unimodal_loss(z, batch, here)
        return losses

    def side_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a side output of any size against labels of the input's size."""
        size, whole = target.shape[1:], self.padded_size(target.shape[1:])
        if self.side_size == 'native':
            ends = [end for p, s in zip(reversed(whole), reversed(size)) for end in (0, p - s)]
            return self.criterion(logits, nearest_labels(F.pad(target, ends, value=IGNORE), logits.shape[2:]))
        if tuple(logits.shape[2:]) != whole:
            probabilities = logits.float().softmax(1)
            probabilities = F.interpolate(probabilities, whole, mode='trilinear', align_corners=True)
            logits = probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()
        return self.criterion(self.cropped(logits, size), target)

    def unimodal_loss(self, prediction: Tensor, batch: Batch, rows: Tensor) -> Tensor:
        """The loss of logits (B, K, D, H, W) over ``rows`` (B,), as if they were the batch."""
        chosen = Rows(rows, prediction.device)
        if not chosen.count:
            return (0 * prediction).sum()
        return self.criterion(chosen.take(prediction), chosen.take(batch.target))

    def decode_alone(
        self, decoder: Callable[[list[Tensor]], Tensor], features: Features, levels: int
    ) -> dict[str, Tensor]:
        """Logits (B, K, D, H, W) of each modality, from its own maps by one decoder that all share; it runs on the rows
        that auxiliary losses take, the others are zero."""
        alone = {}
        for i, m in enumerate(self.modalities):
            maps = features[m][:levels]
            skip = self.aux_on == 'present' and features.present is not None and not torch.compiler.is_compiling()
            rows = Rows(features.present[:, i] if skip else None, maps[0].device, len(maps[0]))
            logits = rows.put(decoder([rows.take(x) for x in maps]))
            alone[m] = self.cropped(logits, features.size or logits.shape[2:])
        return alone


def window_starts(size: int, window: int) -> list[int]:
    """Where windows begin along an axis: every half window, the last one flush with the end.

    >>> window_starts(10, 4), window_starts(4, 4), window_starts(9, 4)
    ([0, 2, 4, 6], [0], [0, 2, 4, 5])
    """
    return [*range(0, size - window, max(1, window // 2)), size - window]


def window_weights(window: Sequence[int], blend: str, device: torch.device | str = 'cpu') -> Tensor:
    """The weight of each voxel of a window (D, H, W), float32 and above 0: ones, or a Gaussian around the centre with a
    standard deviation of an eighth of each side."""
    weights = torch.ones(tuple(window), device=device)
    if blend == 'gaussian':
        for axis, n in enumerate(window):
            x = torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2
            weights *= (-0.5 * (8 * x / n) ** 2).exp().view(*(-1 if a == axis else 1 for a in range(3)))
    return weights


def check_conv_padding(padding: str) -> str:
    """The padding of convolutions.

    Raises:
        NameNotFound: Another than ``'reflect'`` and ``'zeros'``.
    """
    if padding not in PADDINGS:
        raise unknown_name('padding of convolutions (conv_padding)', padding, PADDINGS)
    return padding


def check_widths(widths: Sequence[int]) -> list[int]:
    """The widths of a U-Net's levels.

    Raises:
        InputError: Fewer than two, or one that is not twice the one before.
    """
    valid = isinstance(widths, Sequence) and len(widths) > 1 and all(isinstance(w, int) and w > 0 for w in widths)
    if not valid or any(2 * a != b for a, b in pairwise(widths)):
        raise InputError(f'widths must be two or more numbers of channels, each twice the one before, got {widths!r}.')
    return list(widths)


def present_maps(features: Features, mask: Tensor, modalities: Sequence[str], levels: int) -> list[list[Tensor]]:
    """For each level the maps of all modalities (B, C, D, H, W), zero where ``mask`` (B, M) says absent."""
    here = mask.unbind(1)
    return [[keep(features[m][i], h) for m, h in zip(modalities, here)] for i in range(levels)]


def _padded(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.pad(x, [end for s, n in zip(reversed(size), reversed(x.shape[2:])) for end in (0, s - n)])


def _by(size: Sequence[int]) -> str:
    return 'x'.join(map(str, size))
