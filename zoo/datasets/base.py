"""What every data set of the zoo delivers, and the checks that name the file at fault."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from registry import TRANSFORMS, InputError, unknown_name
from zoo.batch import is_words

from .images import read_image, read_plane

IGNORE = 255  # the label of mask pixels that count neither in the loss nor in the metric
UNLABELLED = -1  # the label of a task, in a dict of tasks, that a sample says nothing about
MANY = 500  # samples; reading more takes long enough for a progress bar

Sample = dict[str, Any]


class Mixing:
    """Base of the transforms that make one sample of several: a subclass says how (`mix`).

    It stands in the ``transforms`` of a `MultimodalDataset`, which finds the others. Whatever is drawn at random comes
    from torch's global generator, which the engine seeds for each sample. Geometry is drawn once and used for all
    modalities. A modality is present in the result only if it is in all parts.
    """

    def mix(self, sample: Sample, partner: Callable[[], Sample], epoch: int) -> Sample:
        """The mixed sample; what it is made of is not changed.

        Args:
            sample: The sample, through the transforms before this one.
            partner: Each call gives another sample, drawn uniformly among those that have the same modalities (the
                same one may come up), through the transforms before this one, mixing ones included.
            epoch: The epoch, from 0; always 0 where nothing is trained.
        """
        raise NotImplementedError

    def __call__(self, sample: Sample) -> Sample:
        """Refused: one sample is not enough."""
        raise InputError(f'{type(self).__name__} mixes samples: it belongs into the transforms of a MultimodalDataset.')


class MultimodalDataset(Dataset):
    """Base of all data sets: subclasses say what they hold (`__len__`) and read one sample (`load`).

    A sample is ``{'inputs': {modality: tensor}, 'present': bool (M,), 'target': ...}`` and may carry a dict ``'info'``.
    Inputs are (C, H, W): uint8 for 8-bit images (the host's preprocessor normalises on the device), else float. A text
    is (2, L) int64, ids of words and their mask; neither transforms of pictures nor their checks concern it. The tensor
    of an absent modality may be left out. The target is an int64 class (), an int64 mask (H, W) of classes and
    `IGNORE`, or a dict of ``boxes`` (N, 4) float32, corners (x1, y1, x2, y2) in pixels, and ``labels`` (N,) int64;
    where modalities are labelled each by itself it also holds ``own``, modality to such a dict, with the same
    modalities in every sample. With several tasks it is a dict of task to class (), `UNLABELLED` (-1) where the sample
    has no label of that task; ``classes`` and ``num_classes`` are then dicts of the same tasks. A mask has the size of
    its image, or deliberately one of its own, which ``info['mask_size']`` then says.

    Attributes:
        all_modalities: What the data set can deliver; the class says it.
        all_channels: Modality to number of channels; the class says it.
        spatial_dims: 2 for images; 3 for volumes, whose inputs are (C, D, H, W) and masks (D, H, W).
        apart: Modalities that are no picture of the scene, spectrograms for instance: (C, H, W) of a size of their own,
            which transforms that move pixels (`Geometry`) do not see.
        frames: Pictures of each other modality in a sample; of several the inputs are (C, T, H, W).
        modalities: What this instance delivers; the columns of ``present`` in this order.
        channels: Modality to number of channels, of ``modalities`` only.
        classes: The names of the classes; their number is ``num_classes``.
        epoch: The epoch, from 0, that the next sample is for; the engine sets it.

    Args:
        modalities: A subset of ``all_modalities`` in any order, or one name; None for all.
        transforms: What is done to each sample, in order: ``dict(type=NAME, ...)`` of a registered transform, its
            name, or any function from sample to sample.

    Raises:
        NameNotFound: A modality that the data set does not have, here or in the config of a transform, or a transform
            that nobody registered.
        InputError: A modality twice, none at all, or ``transforms`` that is no list.
    """

    all_modalities: ClassVar[tuple[str, ...]] = ()
    all_channels: ClassVar[dict[str, int]] = {}
    spatial_dims: ClassVar[int] = 2
    apart: tuple[str, ...] = ()
    frames: int = 1
    classes: tuple[str, ...] = ()
    epoch: int = 0

    def __init__(
        self,
        modalities: Sequence[str] | str | None = None,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        self.modalities = choose_modalities(modalities, self.all_modalities, type(self).__name__)
        self.channels = {m: self.all_channels[m] for m in self.modalities}
        if isinstance(transforms, (Mapping, str)):
            raise InputError(f'transforms is a list of transforms, got {transforms!r}: write [{transforms!r}].')
        self.transforms = [t if callable(t) else self._build_transform(t) for t in transforms]

    def _build_transform(self, cfg: Mapping[str, Any] | str) -> Callable[[Sample], Sample]:
        """A transform from its config; what it says about modalities must be about those of the data set."""
        transform = TRANSFORMS.build(cfg)
        for key in ('modalities', 'nearest', 'fill', 'flow'):
            given = getattr(transform, key, None)
            names = (given,) if isinstance(given, str) else given if isinstance(given, (Sequence, Mapping)) else ()
            for name in names:
                if name not in self.all_modalities:
                    owner = f'{type(self).__name__} (in {key} of {type(transform).__name__})'
                    raise unknown_name(f'modality of {owner}', name, self.all_modalities)
        return transform

    @property
    def num_classes(self) -> int:
        """The number of classes, that of the background included where there is one."""
        return len(self.classes)

    @property
    def metainfo(self) -> dict[str, Any]:
        """What mmengine's loops hand to a visualizer."""
        return {'classes': self.classes, 'modalities': self.modalities}

    def __len__(self) -> int:
        raise NotImplementedError

    def load(self, index: int) -> Sample:
        """Read sample ``index``, 0 <= index < len(self), before any transform."""
        raise NotImplementedError

    def presence(self) -> Tensor | None:
        """Which sample has which modality, found without reading images; mixing transforms need it.

        Returns:
            (N, M) bool, columns as ``modalities``, before any transform; None: all samples have all of them.
        """
        return None

    def source(self, index: int) -> str:
        """Where sample ``index`` comes from, for messages: a file, a line of a list, or the index."""
        return f'{type(self).__name__}[{index}]'

    def load_target(self, index: int) -> Any:
        """The target of sample ``index``, before any transform; overridden where it can be read alone."""
        return self.load(index).get('target')

    def check_annotations(self) -> None:
        """Called once before training and testing; data sets that read labels lazily look at all of them here.

        Raises:
            InputError: An annotation that can not be used.
        """

    def label_counts(self) -> tuple[Tensor, Tensor]:
        """How often each class occurs in the targets, which may be classes or masks, before any transform.

        Returns:
            pixels: (K,) int64, the pixels of each class; of single classes, the samples.
            of_images: (K,) int64, all pixels, ignored ones included, of the images in which the class occurs.

        Raises:
            InputError: A target that is neither, or a label out of range.
        """
        from rich.progress import track

        pixels = torch.zeros(self.num_classes, dtype=torch.int64)
        of_images = torch.zeros_like(pixels)
        name = f'Counting labels of {type(self).__name__}'
        for index in track(range(len(self)), name, transient=True, disable=len(self) <= MANY):
            target = self.load_target(index)
            if (
                not isinstance(target, Tensor)
                or target.ndim not in (0, self.spatial_dims)
                or target.is_floating_point()
            ):
                raise InputError(f'{self.source(index)}: only classes and masks can be counted, not {type(target)}.')
            self._check_target(target, tuple(target.shape), self.source(index))
            here = torch.bincount(target.flatten(), minlength=self.num_classes)[: self.num_classes]  # without IGNORE
            pixels += here
            of_images += (here > 0) * target.numel()
        return pixels, of_images

    @classmethod
    def own_sizes(cls, **arguments: Any) -> dict[str, tuple[int, ...]]:
        """Modality to the size of its inputs, (H, W), (T, H, W) or, of a text, (L,), where that is not the one of the
        pictures.

        Args:
            arguments: Those of the data set.
        """
        return {}

    @classmethod
    def input_folders(cls, **arguments: Any) -> dict[str, str]:
        """Modality to the name of its folder, where that is not the modality's own and users' files may lie so too.

        Args:
            arguments: Those of the data set.
        """
        return {}

    @classmethod
    def find_files(cls, path: Path) -> dict[str, dict[str, Path]] | None:
        """The samples that a folder or file of users holds in a layout of the data set's own.

        Returns:
            Name to files by modality; None where the layout is another.
        """
        return None

    @classmethod
    def read_files(cls, files: Mapping[str, str | Path], **arguments: Any) -> tuple[dict[str, Tensor], Any]:
        """The files of one sample as its inputs before the transforms; the data set need not be there.

        Each is read by itself (`read_input`); data sets whose modalities are prepared together override this.

        Args:
            files: Modality to file.
            arguments: Those of the data set.

        Returns:
            inputs: Modality to tensor.
            grid: What `write_prediction` needs; None where the data set writes no predictions.
        """
        return {m: cls.read_input(m, f, **arguments) for m, f in files.items()}, None

    @classmethod
    def write_prediction(cls, path: Path, labels: np.ndarray, grid: Any) -> Path:
        """Write predicted classes as the data set keeps its labels.

        Args:
            path: Without a suffix.
            labels: Of the size of the inputs.
            grid: What `read_files` returned.

        Returns:
            The file.
        """
        raise NotImplementedError

    @classmethod
    def read_input(cls, modality: str, file: str | Path, **arguments: Any) -> Tensor:
        """One file of a modality as a sample would hold it before its transforms; the data set need not be there.

        Three channels are read as a colour image, one channel as an image of 8 bits (uint8) or 16 bits (float32);
        data sets with files of another kind override `_read_file`.

        Args:
            modality: One of ``all_modalities``.
            file: The file.
            arguments: Those of the data set; each class takes what matters to reading a file and ignores the rest.

        Returns:
            (C, H, W).

        Raises:
            NameNotFound: A modality that the data set does not have.
            InputError: No such file, or one that can not be read as this modality.
        """
        choose_modalities(modality, cls.all_modalities, cls.__name__)
        try:
            return cls._read_file(modality, Path(file), **arguments).contiguous()
        except FileNotFoundError:
            raise InputError(f'{file}: no such file.') from None

    @classmethod
    def _read_file(cls, modality: str, file: Path, **arguments: Any) -> Tensor:
        channels = cls.all_channels[modality]
        if channels not in (1, 3):
            raise InputError(f'{file}: {cls.__name__} can not read single files of {modality} ({channels} channels).')
        if channels == 3:
            return read_image(file)
        plane = read_plane(file)
        return plane if plane.dtype == torch.uint8 else plane.float()

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f'{type(self).__name__} has {len(self)} samples, no index {index}')
        used: list[int] = []
        sample = self._prepare(index % len(self), len(self.transforms), used)
        # decoded images lie in memory as (H, W, C): stacked like that they would change the host's memory format
        sample = {**sample, 'inputs': {m: x.contiguous() for m, x in sample['inputs'].items()}}
        source, *partners = map(self.source, dict.fromkeys(used))
        self.check_sample(sample, f'{source} (mixed with {", ".join(partners)})' if partners else source)
        return sample

    def _prepare(self, index: int, stop: int, used: list[int]) -> Sample:
        """Sample ``index`` through the first ``stop`` transforms; ``used`` collects the indices of all its parts."""
        used.append(index)
        sample = self.load(index)
        for i, transform in enumerate(self.transforms[:stop]):
            if isinstance(transform, Mixing):
                sample = transform.mix(sample, lambda i=i: self._prepare(self._partner(index), i, used), self.epoch)
                continue
            try:
                sample = self.transformed(transform, sample)
            except InputError as error:  # a transform does not know whose sample it has
                raise InputError(f'{self.source(index)}: {error}') from None
        return sample

    def transformed(self, transform: Callable[[Sample], Sample], sample: Sample) -> Sample:
        """The sample through one transform, which does not see the modalities `apart` if it moves pixels."""
        inputs = sample['inputs']
        pictures = {m: x for m, x in inputs.items() if m not in self.apart}
        if len(pictures) == len(inputs) or not getattr(transform, 'moves_pixels', False):
            return transform(sample)
        if not pictures:
            return sample
        moved = transform({**sample, 'inputs': pictures})
        return {**moved, 'inputs': {m: moved['inputs'].get(m, x) for m, x in inputs.items()}}

    def _partner(self, index: int) -> int:
        """A sample drawn uniformly among those with the modalities of sample ``index``."""
        if self._groups is None:
            return int(torch.randint(len(self), ()))
        order, begin, number = self._groups
        return int(order[begin[index] + torch.randint(int(number[index]), ())])

    @cached_property
    def _groups(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """The samples ordered by what they have; of each, where those like it begin and how many they are."""
        if (presence := self.presence()) is None:
            return None
        got, expected = tuple(presence.shape), (len(self), len(self.modalities))
        if got != expected:
            raise InputError(f'{type(self).__name__}: presence() has the shape {got}, expected {expected}.')
        _, group, number = presence.unique(dim=0, return_inverse=True, return_counts=True)
        return group.argsort(stable=True), (number.cumsum(0) - number)[group], number[group]

    def check_sample(self, sample: Sample, source: str) -> None:
        """Refuse a sample that no host could use.

        Args:
            sample: As described above.
            source: What the message begins with, see `source`.

        Raises:
            InputError: No modality present; one without tensor, of another shape than (C, H, W) or another size than
                the others; NaN or Inf in it; a label out of range; a mask or boxes that do not fit the image, unless
                ``info['mask_size']`` says the size of the mask.
        """
        size = check_inputs(
            sample['inputs'],
            sample['present'],
            self.modalities,
            source,
            self.channels,
            self.spatial_dims + (self.frames > 1),
            self.apart,
        )
        self._check_target(sample.get('target'), size, source, sample.get('info', {}).get('mask_size'))

    def _check_target(
        self, target: Any, size: tuple[int, ...], source: str, mask_size: tuple[int, ...] | None = None
    ) -> None:
        mask = isinstance(target, Tensor) and target.ndim >= 2
        if mask and tuple(target.shape) not in (size, mask_size):
            raise InputError(f'{source}: the mask has the size {tuple(target.shape)}, its image {size}.')
        if isinstance(target, Mapping) and 'boxes' in target:
            check_boxes(target, size, source)
            for modality, own in target.get('own', {}).items():
                choose_modalities(modality, self.all_modalities, f'the own labels of {source}')
                self._check_target(own, size, f'{source}, labels of {modality}')
            target = target['labels']
        if not isinstance(target, Tensor) or not self.classes:
            return
        if (wrong := wrong_label(target, self.num_classes, [IGNORE] if mask else [])) is not None:
            raise InputError(f'{source}: label {wrong} is out of range, expected 0..{self.num_classes - 1}.')


def wrong_label(target: Tensor, num_classes: int, ignored: Iterable[int]) -> int | None:
    """A class index that is out of range; None where there is none, and of what holds no integers.

    Args:
        target: Of any shape.
        num_classes: K.
        ignored: Values that stand for no label.
    """
    if target.is_floating_point() or target.dtype == torch.bool or not target.numel():
        return None
    low, high = torch.aminmax(target)
    if low < 0 or high >= num_classes:
        for value in ignored:
            target = torch.where(target == value, 0, target)
        low, high = torch.aminmax(target)
    return int(low) if low < 0 else int(high) if high >= num_classes else None


def check_inputs(
    inputs: Mapping[str, Tensor],
    present: Tensor,
    modalities: Sequence[str],
    source: str,
    channels: Mapping[str, int] | None = None,
    spatial_dims: int = 2,
    apart: Collection[str] = (),
) -> tuple[int, ...]:
    """Refuse inputs that no host could use; returns the size (H, W, ...) that all present ones share but for texts and
    those apart.

    Args:
        inputs: Modality to tensor (C, H, W), or (C, ...) where ``channels`` is None; of a text (C, L) int64.
        present: (M,) bool.
        modalities: The names of the columns of ``present``.
        source: What the message begins with.
        channels: What C must be.
        spatial_dims: 2 for images (C, H, W), 3 for volumes (C, D, H, W) and several frames (C, T, H, W); not looked at
            where ``channels`` is None.
        apart: Modalities (C, H, W) of a size of their own.

    Raises:
        InputError: See `MultimodalDataset.check_sample`.
    """
    here = present.tolist()
    if not any(here):
        raise InputError(f'{source}: none of its modalities ({", ".join(modalities)}) is present.')
    sizes = {}
    for modality in (m for m, is_here in zip(modalities, here) if is_here):
        x = inputs.get(modality)
        if x is None:
            raise InputError(f'{source}: {modality} is marked as present but has no tensor.')
        letters = 'L' if is_words(x) else 'DHW'[-(2 if modality in apart else spatial_dims) :]
        if channels is not None and (x.ndim != 1 + len(letters) or x.shape[0] != channels[modality] or 0 in x.shape):
            expected = f'({channels[modality]}, {", ".join(letters)})'
            raise InputError(f'{source}: {modality} has the shape {tuple(x.shape)}, expected {expected}.')
        # the sum is the cheap test; a large but finite image may overflow it
        if x.is_floating_point() and not x.sum().isfinite() and (bad := (~x.isfinite()).sum().item()):
            raise InputError(f'{source}: {modality} holds NaN or Inf in {bad} of {x.numel()} values.')
        if not (modality in apart or is_words(x)):
            sizes[modality] = tuple(x.shape[1:])
    if len(set(sizes.values())) > 1:
        listed = ', '.join(f'{m} {"x".join(map(str, size))}' for m, size in sizes.items())
        raise InputError(
            f'{source}: the modalities differ in size (H x W): {listed}. The transform Resize aligns them.'
        )
    return next(iter(sizes.values()), ())


def check_boxes(target: Mapping[str, Tensor], size: tuple[int, int], source: str) -> None:
    """Refuse boxes that are empty, leave the image of ``size`` (H, W), or do not match their labels in number."""
    boxes, labels = target['boxes'], target['labels']
    if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        raise InputError(
            f'{source}: boxes have the shape {tuple(boxes.shape)} and labels {tuple(labels.shape)}, '
            'expected (N, 4) and (N,).'
        )
    limit = boxes.new_tensor([size[1], size[0]])
    bad = (boxes[:, 2:] <= boxes[:, :2]).any(1) | (boxes[:, :2] < 0).any(1) | (boxes[:, 2:] > limit).any(1)
    bad |= ~boxes.isfinite().all(1)
    if bad.any():
        box = [round(v, 2) for v in boxes[bad][0].tolist()]
        raise InputError(f'{source}: the box {box} (x1, y1, x2, y2) is empty or leaves its image of {size} (H, W).')


def check_types(tensors: Iterable[Tensor], modality: str, owner: str) -> None:
    """Refuse images of one modality that differ in their type.

    Args:
        tensors: The images.
        modality: Its name.
        owner: Whose images they are, what the message begins with.

    Raises:
        InputError: They do.
    """
    if len(types := {str(t.dtype).removeprefix('torch.') for t in tensors}) > 1:
        raise InputError(
            f'{owner} differ in the type of {modality!r}: {", ".join(sorted(types))}. Files of 8 bits (uint8) and of '
            '16 bits (float32) are mixed: convert them to one of both.'
        )


def choose_modalities(given: Sequence[str] | str | None, known: Sequence[str], owner: str) -> tuple[str, ...]:
    """The modalities to deliver, in the order given.

    >>> choose_modalities(['ir', 'rgb'], ['rgb', 'depth', 'ir'], 'CASIASURF')
    ('ir', 'rgb')

    Raises:
        NameNotFound: One that is not ``known``.
        InputError: One twice, or none at all.
    """
    chosen = tuple(known) if given is None else (given,) if isinstance(given, str) else tuple(given)
    for name in chosen:
        if name not in known:
            raise unknown_name(f'modality of {owner}', name, known)
    if len(set(chosen)) < len(chosen):
        raise InputError(f'{owner} got a modality twice: {list(chosen)}.')
    if not chosen:
        raise InputError(f'{owner} needs at least one modality of: {", ".join(known)}.')
    return chosen


def image_size(size: int | Sequence[int], least: int = 1) -> tuple[int, int]:
    """(H, W) of a size given as one number or as a pair.

    >>> image_size(48), image_size((48, 64))
    ((48, 48), (48, 64))

    Raises:
        InputError: Anything but one or two integers of at least ``least``.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    if len(pair) != 2 or any(not isinstance(s, int) or isinstance(s, bool) or s < least for s in pair):
        raise InputError(f'A size is an integer or a pair (H, W), each at least {least}, got {size!r}.')
    return pair


def choose_split(split: str, known: Iterable[str], owner: str) -> str:
    """``split`` itself.

    Raises:
        NameNotFound: It is not ``known``.
    """
    if split not in known:
        raise unknown_name(f'split of {owner}', split, known)
    return split
