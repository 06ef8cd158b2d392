"""A data set several times as long: each sample in each of a few fixed views."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from registry import DATASETS

from .base import MultimodalDataset, Sample
from .transforms import VIEWS, RandomView
from .transforms.geometry import names_of
from .wrapping import build_part


@DATASETS.register_module()
class AllViews(MultimodalDataset):
    """Each sample of a data set in all views of `RandomView`, one after the other: sample ``i`` in view ``i % 4``.

    This is the augmentation of MAIL as its paper has it, a training set four times as long. An epoch then has four
    times as many steps; `RandomView` among the transforms of a data set draws one view in each epoch instead.

    Args:
        dataset: The config of the data set; its own transforms come first, a `Resize` for instance.
        views: See `RandomView`.
        degrees: See `RandomView`.
        shift: See `RandomView`.
        blur: See `RandomView`.
        nearest: See `RandomView`.
        transforms: What comes after the view, see `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown view or data set.
        InputError: A data set of something else than images, or an argument out of its range.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | MultimodalDataset,
        views: Sequence[str] | str = VIEWS,
        degrees: float = 20.0,
        shift: Sequence[float] = (5, 5),
        blur: int = 3,
        nearest: Sequence[str] | str = (),
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        self.dataset = build_part(dataset, 'AllViews')
        self.all_modalities, self.all_channels = self.dataset.modalities, self.dataset.channels
        super().__init__(None, transforms)
        RandomView(views)  # which refuses an empty list
        settings = dict(type='RandomView', degrees=degrees, shift=shift, blur=blur, nearest=nearest)
        self.views = [self._build_transform({**settings, 'views': view}) for view in names_of(views)]
        self.classes = self.dataset.classes
        # what the engine and the checks look at
        for name in ('ragged', 'invalid', 'channel_order', 'list', 'names', 'apart', 'frames'):
            if hasattr(self.dataset, name):
                setattr(self, name, getattr(self.dataset, name))

    @property
    def num_classes(self) -> int | dict[str, int]:
        """That of the data set."""
        return self.dataset.num_classes

    def __len__(self) -> int:
        return len(self.views) * len(self.dataset)

    def source(self, index: int) -> str:
        return self.dataset.source(index // len(self.views))

    def load(self, index: int) -> Sample:
        index, view = divmod(index, len(self.views))
        self.dataset.epoch = self.epoch
        return self.transformed(self.views[view], self.dataset[index])

    def load_target(self, index: int) -> Any:
        return self.dataset.load_target(index // len(self.views))

    def presence(self) -> Tensor | None:
        presence = self.dataset.presence()
        return presence if presence is None else presence.repeat_interleave(len(self.views), dim=0)

    def check_annotations(self) -> None:
        self.dataset.check_annotations()
