"""What data sets share that deliver one image for each sample, under a name that the user chooses."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from registry import InputError

from .base import MultimodalDataset, Sample
from .images import read_channels


class OneModality(MultimodalDataset):
    """Base of the data sets of single images.

    Args:
        modality: Its name.
        channels: 3: colours of 8 bits, a grey image is repeated and transparency dropped; 1: grey, of a colour image
            the luma.
        transforms: See `MultimodalDataset`.

    Raises:
        InputError: Another number of channels, or no name.
    """

    all_modalities = ('image',)
    all_channels: ClassVar[dict[str, int]] = {'image': 3}

    def __init__(
        self,
        modality: str = 'image',
        channels: int = 3,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        owner = type(self).__name__
        if not isinstance(modality, str) or not modality:
            raise InputError(f'{owner}: modality is a name, got {modality!r}.')
        if channels not in (1, 3):
            raise InputError(f'{owner}: channels is 1 or 3, got {channels!r}.')
        self.all_modalities, self.all_channels = (modality,), {modality: channels}
        super().__init__(None, transforms)
        self.modality = modality

    @classmethod
    def read_input(cls, name: str, file: str | Path, /, channels: int = 3, **arguments: Any) -> Tensor:
        """See `MultimodalDataset.read_input`; there is one modality, whatever it is called."""
        try:
            return read_channels(Path(file), channels).contiguous()
        except FileNotFoundError:
            raise InputError(f'{file}: no such file.') from None
