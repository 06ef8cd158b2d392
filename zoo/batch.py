"""What travels through a host: the mini-batch, its features, and what comes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from .rows import to_device


def map_target(target: Any, on_tensor: Callable, on_list: Callable) -> Any:
    """Apply a function to each leaf of a target: a tensor (B, ...), a list of length B, or a dict of these."""
    if isinstance(target, Mapping):
        return {k: map_target(v, on_tensor, on_list) for k, v in target.items()}
    if isinstance(target, Tensor):
        return on_tensor(target)
    return target if target is None else on_list(target)


def is_words(x: Tensor) -> bool:
    """Whether an input is a text (..., C, L) of 64-bit integers, ids of words, and no picture."""
    return x.dtype == torch.int64


@dataclass(eq=False, frozen=True)
class Batch:
    """What a host sees of one mini-batch. It never changes: `replace` and the other methods make a new one.

    Attributes:
        inputs: Modality to tensor (B, C, ...). The tensor of an absent sample may hold anything, NaN included; a
            modality that no sample has may be left out.
        present: (B, M) bool, on the CPU: what fusion may use. Columns follow ``modalities``.
        modalities: The names of the columns of ``present``; a data set may deliver more than a host uses.
        target: A tensor (B, ...), a list of length B, or a dict of these.
        available: (B, M) bool, on the CPU: what the data set delivered. Dropping a modality only clears ``present``.
        info: One dict for each sample (file names, original sizes), or None.
    """

    inputs: Mapping[str, Tensor]
    present: Tensor
    modalities: tuple[str, ...]
    target: Any = None
    available: Tensor = None
    info: list[dict] | None = None

    def __post_init__(self) -> None:
        if self.available is None:
            object.__setattr__(self, 'available', self.present)

    def __len__(self) -> int:
        return len(self.present)

    @property
    def device(self) -> torch.device:
        """Where the inputs live."""
        return next(iter(self.inputs.values())).device

    @property
    def mask(self) -> Tensor:
        """``present`` (B, M) on the device of the inputs; fusion blocks receive this copy."""
        if '_mask' not in self.__dict__:  # `cached_property` takes a lock, at which torch.compile breaks its graph
            object.__setattr__(self, '_mask', to_device(self.present, self.device))
        return self._mask

    def replace(self, **changes: Any) -> 'Batch':
        """A copy with some attributes exchanged."""
        return replace(self, **changes)

    def view(self, modalities: Sequence[str]) -> 'Batch':
        """The columns of these modalities, by name; one that the batch does not have is absent everywhere."""
        modalities = tuple(modalities)
        if modalities == self.modalities:
            return self
        column = {m: i for i, m in enumerate(self.modalities)}
        index = torch.tensor([column.get(m, 0) for m in modalities])
        known = torch.tensor([m in column for m in modalities])
        return self.replace(
            inputs={m: self.inputs[m] for m in modalities if m in self.inputs},
            present=self.present[:, index] & known,
            available=self.available[:, index] & known,
            modalities=modalities,
        )

    def restrict(self, mask: Tensor) -> 'Batch':
        """The same samples with only the modalities of ``mask`` ((M,) or (B, M) bool, columns as here) present."""
        if mask.shape[-1] != len(self.modalities):
            raise ValueError(f'mask has {mask.shape[-1]} columns, the batch has {", ".join(self.modalities)}.')
        return self.replace(present=self.present & mask.cpu())

    def select(self, rows: Tensor) -> 'Batch':
        """The samples that ``rows`` names: a bool mask (B,) or indices, on the CPU."""
        index = rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows

        def pick(x: Tensor) -> Tensor:
            return x.index_select(0, index.to(x.device, non_blocking=True))

        keep = index.tolist()
        return self.replace(
            inputs={m: pick(x) for m, x in self.inputs.items()},
            present=self.present[index],
            available=self.available[index],
            target=map_target(self.target, pick, lambda items: [items[i] for i in keep]),
            info=[self.info[i] for i in keep] if self.info else self.info,
        )

    def repeat(self, n: int) -> 'Batch':
        """``n`` copies of the batch, one after the other: B becomes n * B."""

        def stack(x: Tensor) -> Tensor:
            return x.repeat(n, *[1] * (x.ndim - 1))

        return self.replace(
            inputs={m: stack(x) for m, x in self.inputs.items()},
            present=stack(self.present),
            available=stack(self.available),
            target=map_target(self.target, stack, lambda items: list(items) * n),
            info=self.info * n if self.info else self.info,
        )


class Features(dict):
    """Modality to its features: a tensor (B, C, ...) or a list, finest first.

    Attributes:
        size: (H, W, ...) of the input of the host's first modality.
        present: (B, M) bool on the CPU: whose features these are, the others' are zero; None where nobody said.
        encoded: The features before plugins acted on them; None where none did.
        tapped: What `MultimodalHost.tap` was asked to note in this pass.
    """

    size: tuple[int, ...] = ()
    present: Tensor | None = None
    encoded: 'Features | None' = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tapped: dict[str, Tensor] = {}

    @classmethod
    def of(cls, features: Mapping[str, Any], size: Sequence[int], present: Tensor | None = None) -> 'Features':
        """Wrap a mapping; a `Features` keeps what it knows."""
        if isinstance(features, cls):
            return features
        wrapped = cls(features)
        wrapped.size, wrapped.present = tuple(size), present
        return wrapped

    def level(self, index: int) -> dict[str, Tensor]:
        """One level of the pyramids: modality to its map (B, C, ...)."""
        return {m: maps[index] for m, maps in self.items()}

    def select(self, rows: Tensor) -> 'Features':
        """The features of the samples that the bool mask ``rows`` (B,), on the CPU, names."""
        index = rows.nonzero().squeeze(1)

        def pick(x: Tensor) -> Tensor:
            return x.index_select(0, index.to(x.device, non_blocking=True))

        present = None if self.present is None else self.present[index]
        return Features.of({m: tree_map_only(Tensor, pick, f) for m, f in self.items()}, self.size, present)


class Outputs(NamedTuple):
    """What a host returns for a batch."""

    prediction: Any  # logits (B, K, ...) before softmax, or what the task's head yields
    features: dict[str, Any]  # modality -> features, zero where absent
    extras: dict[str, Any]  # what else the host's losses and heads need
