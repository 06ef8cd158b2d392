"""From a collated batch to one on the device, normalised for each modality."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from registry import InputError

from .batch import is_words


class MultimodalPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device and normalises each modality to ``(x - mean) / std``, in float32.

    ``present`` stays on the CPU, so that looking at it never waits for a GPU.

    Args:
        mean: Modality to one value or one for each channel, on the scale of the data (0..255 for 8-bit images).
        std: The same, above 0. A modality that neither names is only cast to float32; 64-bit integers stay as they are:
            they are indices of words.
        invalid: Modality to the value that marks pixels without a measurement, on the scale of the data: 0 in raw
            depth. They are 0 after normalisation, the mean.

    Raises:
        InputError: Not mappings of modality to numbers, a ``std`` that is not above 0, an ``invalid`` value that is not
            finite, or another number of channels than the data have.
    """

    def __init__(
        self,
        mean: Mapping[str, float | Sequence[float]] | None = None,
        std: Mapping[str, float | Sequence[float]] | None = None,
        invalid: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(non_blocking=True)
        for name, given in (('mean', mean), ('std', std), ('invalid', invalid)):
            if not isinstance(given, Mapping | None):
                raise InputError(f'{name} must map modalities to numbers, got {given!r}.')
        self.invalid = dict(invalid or {})
        for m, value in self.invalid.items():
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise InputError(f'invalid of {m!r} must be a finite number, got {value!r}.')
        self.normalised = tuple(dict.fromkeys([*(mean or {}), *(std or {})]))
        for name, given, default in (('mean', mean or {}, 0.0), ('std', std or {}, 1.0)):
            for m in self.normalised:
                try:
                    value = torch.as_tensor(given.get(m, default), dtype=torch.float32).reshape(-1)
                except (TypeError, ValueError, RuntimeError):
                    raise InputError(f'{name} of {m!r} must be numbers, got {given[m]!r}.') from None
                if name == 'std' and not (value > 0).all():
                    raise InputError(f'std of {m!r} must be above 0, got {given[m]!r}.')
                self.register_buffer(f'{name}_{m}', value, persistent=False)

    def scale(self, modality: str) -> Tensor | float:
        """What one unit of the normalised input is in the data's own units: (C,) or (1,)."""
        return getattr(self, f'std_{modality}') if modality in self.normalised else 1.0

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Move and normalise what `zoo.engine.collate` made."""
        inputs = {m: self.normalise(m, x.to(self.device, non_blocking=True)) for m, x in data['inputs'].items()}
        return {**data, 'inputs': inputs, 'target': self.cast_data(data.get('target'))}

    def normalise(self, modality: str, x: Tensor) -> Tensor:
        """(B, C, ...) on the data's scale -> the same in units of std around the mean."""
        y = self.standardise(modality, x)
        return y.masked_fill(x == self.invalid[modality], 0) if modality in self.invalid else y

    def standardise(self, modality: str, x: Tensor) -> Tensor:
        """`normalise` where no value marks a missing measurement: of the ends of a range, for instance."""
        if modality not in self.normalised:
            return x if is_words(x) else x.float()
        mean, std = self._statistics(modality, x)
        return (x.float() - mean) / std

    def restore(self, modality: str, x: Tensor) -> Tensor:
        """The inverse of `normalise`: for a teacher with statistics of its own, and for the valid range of attacks.

        A pixel that was ``invalid`` comes back as the mean.
        """
        if modality not in self.normalised:
            return x
        mean, std = self._statistics(modality, x)
        return x * std + mean

    def measured(self, modality: str, x: Tensor) -> Tensor | None:
        """Where a normalised input is not ``invalid``, of its shape; None for everywhere. A value that is the mean
        exactly looks the same, to a host too."""
        return x != 0 if modality in self.invalid else None

    def _statistics(self, modality: str, x: Tensor) -> list[Tensor]:
        statistics = []
        for name in ('mean', 'std'):
            value = getattr(self, f'{name}_{modality}')
            if len(value) not in (1, x.shape[1]):  # would broadcast one channel to three
                raise InputError(
                    f'{name} of {modality!r} has {len(value)} values, its data have {x.shape[1]} channels.'
                )
            statistics.append(value.view(-1, *[1] * (x.ndim - 2)))
        return statistics

    def cast_data(self, data: Any) -> Any:
        """Move tensors in any nesting of dicts and lists; anything else, None included, stays.

        A list of tensors that differ in their first size only, boxes for instance, is moved by one copy.
        """
        if isinstance(data, Tensor):
            return data.to(self.device, non_blocking=True)
        if self.device.type != 'cpu' and isinstance(data, list) and _are_parts(data):
            return list(torch.cat(data).to(self.device, non_blocking=True).split([len(x) for x in data]))
        if isinstance(data, Mapping):
            return {k: self.cast_data(v) for k, v in data.items()}
        if isinstance(data, (list, tuple)):
            return type(data)(self.cast_data(v) for v in data)
        return data


def _are_parts(data: list) -> bool:
    """Whether these are tensors of one kind that can be joined along their first dimension."""
    kinds = {(x.dtype, x.device, x.shape[1:]) if isinstance(x, Tensor) and x.ndim else None for x in data}
    return len(kinds) == 1 and None not in kinds
