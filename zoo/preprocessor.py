"""From a collated batch to one on the device, normalised for each modality."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor


class MultimodalPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device and normalises each modality to ``(x - mean) / std``, in float32.

    ``present`` stays on the CPU, so that looking at it never waits for a GPU.

    Args:
        mean: Modality to one value or one for each channel, on the scale of the data (0..255 for 8-bit images).
        std: The same; a modality that neither names is only cast to float.
    """

    def __init__(
        self,
        mean: Mapping[str, float | Sequence[float]] | None = None,
        std: Mapping[str, float | Sequence[float]] | None = None,
    ) -> None:
        super().__init__(non_blocking=True)
        self.normalised = tuple(dict.fromkeys([*(mean or {}), *(std or {})]))
        for name, given, default in (('mean', mean or {}, 0.0), ('std', std or {}, 1.0)):
            for m in self.normalised:
                value = torch.as_tensor(given.get(m, default), dtype=torch.float32).reshape(-1)
                self.register_buffer(f'{name}_{m}', value, persistent=False)

    def scale(self, modality: str) -> Tensor | float:
        """What one unit of the normalised input is in the data's own units: (C,) or (1,)."""
        return getattr(self, f'std_{modality}') if modality in self.normalised else 1.0

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Move and normalise what `zoo.engine.collate` made."""
        inputs = {m: self._normalise(m, x.to(self.device, non_blocking=True)) for m, x in data['inputs'].items()}
        return {**data, 'inputs': inputs, 'target': self.cast_data(data.get('target'))}

    def _normalise(self, modality: str, x: Tensor) -> Tensor:
        x = x if x.is_floating_point() else x.float()
        if modality not in self.normalised:
            return x
        shape = (-1, *[1] * (x.ndim - 2))
        mean, std = getattr(self, f'mean_{modality}'), getattr(self, f'std_{modality}')
        return (x - mean.view(shape)) / std.view(shape)

    def cast_data(self, data: Any) -> Any:
        """Move tensors in any nesting of dicts and lists; anything else, None included, stays."""
        if isinstance(data, Tensor):
            return data.to(self.device, non_blocking=True)
        if isinstance(data, Mapping):
            return {k: self.cast_data(v) for k, v in data.items()}
        if isinstance(data, (list, tuple)):
            return type(data)(self.cast_data(v) for v in data)
        return data
