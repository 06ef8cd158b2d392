"""Clips with sound: a spectrogram and frames of each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from registry import InputError

from .audio import SUFFIXES, Spectrograms
from .base import MANY, Sample, image_size
from .clips import ClipDataset, list_clips, read_frames
from .images import read_image
from .listing import list_files


class AudioVisual(ClipDataset):
    """Base of the data sets of sound (``audio``) and frames (``visual``), classified.

    Audio is a spectrogram (1, F, T) float32 of `Recipe`: of ``<audio>/<clip>.wav``, or taken from ``.npy``, ``.pt`` or
    ``.pkl``, whose shape must be that of the recipe. Geometry and statistics of pictures do not touch it. Frames are
    the images in the folder ``<visual>/<clip>``. The names of both folders are in ``folders``.

    Args:
        root: See `ClipDataset`, as all that is not named here.
        recipe: How spectrograms are made: fd_cmkd, ogm_ge_cremad or ogm_ge_vggsound. They are not interchangeable.
        seconds: The length of the sound; None for that of the data set in FD-CMKD, and of the other recipes' own.
        sample_rate: Samples a second; None for the recipe's.
        shape: (F, T) of features that were made otherwise; see `Spectrograms`.
        columns: Frames of the spectrogram after padding at its end; None for no padding.
    """

    all_modalities = ('audio', 'visual')
    all_channels: ClassVar[dict[str, int]] = {'audio': 1, 'visual': 3}
    apart = ('audio',)
    seconds: ClassVar[float] = 10.0

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        size: int | Sequence[int] = 224,
        augment: bool | None = None,
        frames: int = 1,
        recipe: str = 'fd_cmkd',
        seconds: float | None = None,
        sample_rate: int | None = None,
        shape: Sequence[int] | None = None,
        columns: int | None = None,
        lists: Mapping[str, str] | None = None,
        folders: Mapping[str, str] | None = None,
        val_fraction: float = 0.0,
        on_missing: str | None = None,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        self.spectrograms = self._spectrograms(recipe, seconds, sample_rate, shape, columns)
        super().__init__(
            root, split, modalities, size, augment, frames, lists, folders, val_fraction, on_missing, transforms
        )

    @classmethod
    def _spectrograms(
        cls,
        recipe: str = 'fd_cmkd',
        seconds: float | None = None,
        sample_rate: int | None = None,
        shape: Sequence[int] | None = None,
        columns: int | None = None,
        **others: Any,
    ) -> Spectrograms:
        seconds = cls.seconds if seconds is None and recipe == 'fd_cmkd' else seconds
        return Spectrograms(cls.__name__, recipe, seconds, sample_rate, shape, columns)

    def find(self, modality: str) -> dict[str, str]:
        owner = type(self).__name__
        if modality == 'audio':
            self.spectrograms.check_folder(self.folder('audio'))
            return list_files(self.folder('audio'), owner, SUFFIXES)
        return list_clips(self.folder('visual'), owner, self.least_frames)

    def wanted(self, modality: str, name: str) -> str:
        if modality == 'audio':
            return f'{self.folder("audio") / name}.wav ({", ".join(SUFFIXES[1:])})'
        least = f'{self.least_frames} frames' if self.least_frames > 1 else 'a frame'
        return f'the folder {self.folder("visual") / name} with at least {least}'

    def read(self, modality: str, where: str, positions: Sequence[float]) -> Tensor:
        if modality == 'visual':
            return read_frames(where, positions)
        try:
            return self.spectrograms.read(Path(where), self.augment)
        except FileNotFoundError:
            raise InputError(f'{where}: no such file any more; it was there when the folder was listed.') from None

    def check_annotations(self) -> None:
        """Read the headers of the ``.npy`` files.

        Raises:
            InputError: One whose shape is not that of the recipe.
        """
        from rich.progress import track

        files = [e.files['audio'] for e in self.entries if e.files.get('audio', '').endswith('.npy')]
        title = f'Checking spectrograms of {type(self).__name__}'
        for file in track(files, title, transient=True, disable=len(files) <= MANY):
            self.spectrograms.check_header(file)

    @classmethod
    def own_sizes(
        cls, size: int | Sequence[int] = 224, frames: int = 1, **arguments: Any
    ) -> dict[str, tuple[int, ...]]:
        """That of the spectrogram, and of several frames."""
        sizes = {'audio': cls._spectrograms(**arguments).shape}
        if frames > 1:
            sizes['visual'] = (frames, *image_size(size))
        return sizes

    @classmethod
    def _read_file(cls, modality: str, file: Path, **arguments: Any) -> Tensor:
        return read_image(file) if modality == 'visual' else cls._spectrograms(**arguments).read(file)
