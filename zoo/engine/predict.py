"""Predictions for single samples, from the test data of a config or from files, on every subset of the modalities."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmengine.config import Config
from torch import Tensor

from registry import DATASETS, TRANSFORMS, InputError, unknown_name
from zoo.batch import map_target
from zoo.datasets import check_inputs
from zoo.datasets.transforms import Geometry, LetterBox, Resize
from zoo.datasets.transforms.volume import VolumeGeometry
from zoo.host import MultimodalHost
from zoo.visual import DRAWERS, Panel, Scene, draw, draw_scene, fused_picture

from . import checkpoint as ckpt
from .config import check_config, keep_structural
from .cost import input_shapes, without_weights
from .data import Collate, SeededDataset, build_dataset
from .devices import pick_device
from .evaluate import build_host, check_dataset, make_writable
from .progress import progress_bar
from .sample_curves import SampleCurves
from .sample_files import SampleFiles, find_samples
from .sweep import Subset, parse_subsets

T = TypeVar('T')
Classes = Sequence[str] | Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Item:
    """One sample.

    Attributes:
        scene: As it is shown.
        sample: As the host takes it: ``inputs``, modality to tensor (C, H, W) of the size that the test data deliver,
            and ``present`` (M,), in the order of the host's modalities.
        grid: Where its voxels lie in the files, if predictions are written beside the pictures; see
            `MultimodalDataset.read_files`.
    """

    scene: Scene
    sample: dict[str, Any]
    grid: Any = None


@dataclass
class Written:
    """What `predict_checkpoint` wrote.

    Attributes:
        pictures: One for each sample.
        labels: Files of predicted labels, one for each subset of each sample.
        fused: Fused images, one for each subset of each sample.
        missing: Modality to the number of samples that lack it.
        curves: The picture of precision over recall, where there is one.
    """

    pictures: list[Path]
    labels: list[Path]
    fused: list[Path]
    missing: dict[str, int]
    curves: Path | None = None


def predict_checkpoint(
    cfg: Config,
    path: str | Path,
    inputs: Sequence[str | Path] = (),
    out: str | Path = 'predictions',
    device: str | None = None,
    trust: bool = False,
    batch_size: int = 4,
    count: int | None = None,
) -> Written:
    """Draw what a checkpoint predicts, one picture for each sample with all subsets side by side.

    A detector on the test data also gets the precision-recall curves of these samples; files whose data set says how
    (`MultimodalDataset.write_prediction`: volumes) also the labels that each subset predicts, as files like theirs; of
    image fusion also what each subset was fused to, at the size of the sample and in colour where a source has some.

    Args:
        cfg: As `load_config` returns it. Subsets are those of ``test_cfg``.
        path: The checkpoint.
        inputs: See `find_samples`; the test data of the config when there are none.
        out: The folder of the pictures.
        device: See `Runner`.
        trust: Unpickle anything from the checkpoint.
        batch_size: Samples that run at a time.
        count: At most so many samples; None for all of ``inputs``, or the first 8 of the test data.

    Returns:
        What was written.

    Raises:
        InputError: A config, a checkpoint, or files that do not fit. What is wrong with a file's content is found
            when its turn comes, after the pictures before it.
        NameNotFound: An unknown part, or a host whose task nobody draws.
    """
    for name, value in (('batch_size', batch_size), ('count', count)):
        if value is not None and value < 1:
            raise InputError(f'{name} must be at least 1, got {value}.')
    target = pick_device(device)
    host = build_for_inference(cfg)
    if host.task not in DRAWERS:
        raise unknown_name(f'drawing for the task of {type(host).__name__}', host.task, DRAWERS)
    subsets = parse_subsets((cfg.get('test_cfg') or {}).get('subsets', 'all'), host.modalities)
    files = files_of(cfg, host, inputs)
    out = Path(out)
    make_writable(out)
    saved = ckpt.load(path, trust)
    items = items_of(cfg, host, saved.get('meta', {}), files, count)
    ckpt.load_weights(host, saved, path)
    host.to(target)
    curves = None
    if isinstance(items, TestItems) and host.task == 'detection':
        curves = SampleCurves(host, items.classes, cfg.get('test_evaluator') or 'MeanAP', subsets)

    fuses = host.task == 'fusion'
    volumes = files is not None and host.task == 'segmentation' and getattr(host, 'spatial_dims', 2) == 3

    def read(scene: Scene, prediction: Any) -> tuple[dict[str, Panel], Any]:
        kept = prediction if curves or fuses else prediction.argmax(0).byte().cpu().numpy() if volumes else None
        return draw(scene, host.task, prediction), kept

    written = Written([], [], [], dict.fromkeys(host.modalities, 0))
    with progress_bar() as bar:
        task = bar.add_task('pictures', total=len(items))
        for item, found in predict(host, items, subsets, read, batch_size):
            named = {' + '.join(s): _noted(item, s, found[s][0]) if s in found else {} for s in subsets}
            written.pictures.append(out / f'{item.scene.name}.png')
            draw_scene(item.scene, host.task, named).save(written.pictures[-1])
            for m, here in zip(host.modalities, item.sample['present'].tolist()):
                written.missing[m] += not here
            used = {tuple(m for m in s if m in item.scene.inputs): kept for s, (_, kept) in found.items()}
            if item.grid is not None and volumes:
                for subset, labels in used.items():
                    path = out / f'{item.scene.name}_{"+".join(subset)}'
                    written.labels.append(items.cls.write_prediction(path, labels, item.grid))
            if fuses:
                for subset, prediction in used.items():
                    written.fused.append(out / f'{item.scene.name}_{"+".join(subset)}_fused.png')
                    fused_picture(item.scene, subset, prediction).save(written.fused[-1])
            if curves:
                for subset, (_, prediction) in found.items():
                    curves.add(subset, prediction, item.scene.target)
            bar.advance(task)
    written.curves = curves.write(out) if curves else None
    return written


def build_for_inference(cfg: Config) -> MultimodalHost:
    """The host of a config that has test data, with its structural plugins; weights that it would begin with are not
    loaded, since those of a checkpoint follow.

    Raises:
        InputError: A config that does not fit.
    """
    if not cfg.get('test_dataloader'):
        raise InputError('The config has no test_dataloader.')
    keep_structural(cfg)
    check_config(cfg)
    cfg.model = without_weights(cfg.model)
    return build_host(cfg)


def files_of(cfg: Config, host: MultimodalHost, inputs: Sequence[str | Path]) -> list[SampleFiles] | None:
    """What `find_samples` finds in ``inputs``, in the layout of the config's data set; None without any."""
    return find_samples(inputs, host.modalities, *_layout(cfg)) if inputs else None


def items_of(
    cfg: Config, host: MultimodalHost, meta: Mapping[str, Any], files: Sequence[SampleFiles] | None, count: int | None
) -> Sequence[Item]:
    """Samples from files, or from the test data of a config.

    Args:
        cfg: The config.
        host: The host.
        meta: Of the checkpoint.
        files: What `find_samples` found; None for the test data.
        count: At most so many; None for all files, or the first 8 of the test data.
    """
    if files is None:
        return TestItems(cfg, host, meta.get('seed') or 0, 8 if count is None else count)
    return FileItems(files[:count], cfg, host, meta.get('classes') or ())


def predict(
    host: MultimodalHost,
    items: Sequence[Item],
    subsets: Sequence[Subset],
    read: Callable[[Scene, Any], T],
    batch_size: int = 4,
) -> Iterator[tuple[Item, dict[Subset, T]]]:
    """Run a host on samples, and on each subset of their modalities.

    Args:
        host: In any mode; it is put back into it.
        items: The samples; neighbours whose inputs have the same shapes run together.
        subsets: As `parse_subsets` returns them.
        read: What to keep of one sample's prediction; the predictions themselves are not kept, as they would fill the
            memory.
        batch_size: At most so many samples at a time.

    Yields:
        Each item with what ``read`` returned for the subsets of which it has anything.
    """
    masks = torch.tensor([[m in s for m in host.modalities] for s in subsets])
    collate = Collate(host.modalities)
    for group in batches(items, batch_size):
        if not group[0].sample['inputs']:  # the test data may have more modalities than the host
            yield from ((item, {}) for item in group)
            continue
        found: list[dict[Subset, T]] = [{} for _ in group]
        with host.aside(training=False), torch.inference_mode():
            data = host.data_preprocessor(collate([item.sample for item in group]), False)
            batch = host.make_batch(**data)
            for subset, mask, outputs in zip(subsets, masks, host.run_subsets(batch, masks)):
                rows = (batch.present & mask).any(1).nonzero().flatten().tolist()
                prediction = host.postprocess(outputs).prediction if rows else None
                for i, row in enumerate(rows):
                    found[row][subset] = read(group[row].scene, _row(prediction, i))
        yield from zip(group, found)


class TestItems(Sequence[Item]):
    """The first samples of a config's test data."""

    __test__ = False  # pytest takes every class Test... for one of its own

    def __init__(self, cfg: Config, host: MultimodalHost, seed: int, count: int) -> None:
        dataset = build_dataset(cfg.test_dataloader.dataset)
        check_dataset(host, dataset, 'test_dataloader')
        self.dataset = SeededDataset(dataset, seed, getattr(host, 'num_classes', None))
        self.host = host
        self.columns = [list(dataset.modalities).index(m) for m in host.modalities]
        self.blue_first = getattr(dataset, 'channel_order', 'rgb') == 'bgr'
        self.classes = getattr(dataset, 'classes', None) or ()
        self.count = min(count, len(dataset))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        given = self.dataset[0, index]
        present = torch.as_tensor(given['present'])[self.columns]
        inputs = {m: given['inputs'][m] for m, here in zip(self.host.modalities, present.tolist()) if here}
        target = given.get('target')
        size = _own_size(self.host.modalities, inputs or given['inputs'])
        if isinstance(target, Tensor) and target.ndim == 2:
            size = tuple(target.shape)
        scene = _scene(self.host, f'test_{index:05d}', inputs, size, self.classes, target, self.blue_first)
        return Item(scene, {'inputs': inputs, 'present': present})


class FileItems(Sequence[Item]):
    """Samples from files, brought to what the test data of a config deliver.

    Each file is read as the data set's class reads it and resized to the size of the test data, by their `LetterBox` if
    they have one: values of 16 bits and other floats take the nearest pixel, since a mean over the holes of a depth map
    is no depth. Volumes keep their size. Of the transforms that the config names those that do not move pixels follow.

    Args:
        files: The samples.
        cfg: The config.
        host: The host.
        classes: The names of the classes as the checkpoint has them, of several tasks a dict of them; those of the data
            set's class when there are none.

    Raises:
        InputError: The data set can not read single files.
    """

    def __init__(self, files: Sequence[SampleFiles], cfg: Config, host: MultimodalHost, classes: Classes) -> None:
        dataset = cfg.test_dataloader.dataset
        dataset = {'type': dataset} if isinstance(dataset, str) else dict(dataset)
        self.cls = DATASETS.find(dataset.pop('type'))
        if not hasattr(self.cls, 'read_files'):
            raise InputError(f'{self.cls.__name__} has no read_files: it can not read files outside its own data.')
        self.files, self.host, self.arguments = files, host, dataset
        self.shapes = input_shapes(cfg, host) or {}
        self.channels = getattr(host, 'in_chans', None) or getattr(self.cls, 'all_channels', None)
        own = getattr(self.cls, 'classes', ())  # empty or a property where the arguments say which
        candidates = [c for c in (classes, own) if isinstance(c, (list, tuple, Mapping))]
        self.classes = next((c for c in candidates if _count(c) == getattr(host, 'num_classes', None)), ())
        transforms = [t if callable(t) else TRANSFORMS.build(t) for t in dataset.get('transforms') or ()]
        self.letterbox = next((t for t in reversed(transforms) if isinstance(t, LetterBox)), None)
        self.transforms = [t for t in transforms if not isinstance(t, (Geometry, VolumeGeometry))]
        parameter = inspect.signature(self.cls).parameters.get('channel_order')
        order = dataset.get('channel_order', parameter.default if parameter else 'rgb')
        self.blue_first = order == 'bgr'

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Item:
        entry = self.files[index]
        read, grid = self.cls.read_files(entry.files, **self.arguments)
        size = _own_size(self.host.modalities, read)
        present = torch.tensor([m in read for m in self.host.modalities])
        inputs, place = self._resized(read, size)
        sample = {'inputs': inputs, 'present': present}
        for transform in self.transforms:
            sample = transform(sample)
        source, dims = ', '.join(dict.fromkeys(map(str, entry.files.values()))), getattr(self.cls, 'spatial_dims', 2)
        apart = getattr(self.cls, 'apart', ())
        check_inputs(sample['inputs'], sample['present'], self.host.modalities, source, self.channels, dims, apart)
        scene = _scene(self.host, entry.name, read, size, self.classes, None, self.blue_first)
        return Item(replace(scene, place=place), sample, grid)

    def _resized(
        self, read: Mapping[str, Tensor], size: tuple[int, ...]
    ) -> tuple[dict[str, Tensor], tuple[int, int, int, int] | None]:
        """Inputs (C, H, W) at the size of the test data, else at that of the sample's own picture, which is ``size``,
        and where this picture lies in them; any others stay."""
        if self.letterbox and all(x.ndim == 3 for x in read.values()):
            aligned = {m: _at_size(m, x, size) for m, x in read.items()}
            return self.letterbox({'inputs': aligned})['inputs'], self.letterbox.place(*size)
        inputs = {m: _at_size(m, x, tuple(self.shapes[m][1:]) if m in self.shapes else size) for m, x in read.items()}
        first = next(iter(inputs.values()))
        return inputs, (0, 0, *first.shape[1:]) if first.ndim == 3 else None


def _count(classes: Classes) -> int | dict[str, int]:
    """How many classes there are; of several tasks for each."""
    return {t: len(names) for t, names in classes.items()} if isinstance(classes, Mapping) else len(classes)


def _at_size(modality: str, x: Tensor, size: tuple[int, ...]) -> Tensor:
    """An image (C, H, W) at (H, W); anything else as it is."""
    if x.ndim != 3 or len(size) != 2 or tuple(x.shape[1:]) == size:
        return x
    nearest = modality if x.is_floating_point() else ()
    return Resize(size, nearest=nearest)({'inputs': {modality: x}})['inputs'][modality]


def _scene(
    host: MultimodalHost,
    name: str,
    inputs: Mapping[str, Tensor],
    size: tuple[int, ...],
    classes: Classes,
    target: Any,
    blue_first: bool,
) -> Scene:
    invalid = getattr(host.data_preprocessor, 'invalid', {})
    return Scene(name, host.modalities, inputs, size, classes, target, invalid, blue_first)


def _own_size(modalities: Sequence[str], inputs: Mapping[str, Tensor]) -> tuple[int, ...]:
    """(H, W) of the first input with three channels, else of the first one."""
    given = [inputs[m] for m in modalities if m in inputs]
    first = next((x for x in given if x.ndim == 3 and len(x) == 3), given[0])
    return tuple(first.shape[-2:])


def batches(items: Sequence[Item], batch_size: int) -> Iterator[list[Item]]:
    """Neighbours that share a modality, and whose inputs have the same shapes."""
    group: list[Item] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(len(items)):
        item = items[i]
        own = {m: tuple(x.shape) for m, x in item.sample['inputs'].items()}
        common = own.keys() & shapes.keys()
        if group and (len(group) == batch_size or not common or any(shapes[m] != own[m] for m in common)):
            yield group
            group, shapes = [], {}
        group.append(item)
        shapes.update(own)
    if group:
        yield group


def _row(prediction: Any, row: int) -> Any:
    return map_target(prediction, lambda x: x[row], lambda items: items[row])


def _noted(item: Item, subset: Subset, panels: Mapping[str, Panel]) -> Mapping[str, Panel]:
    """The panels of a subset, with a word on what the sample lacks of it."""
    if lacking := [m for m in subset if m not in item.scene.inputs]:
        word = f'{" and ".join(lacking)} absent'
        return {name: replace(p, note=', '.join([*filter(None, [p.note]), word])) for name, p in panels.items()}
    return panels


def _layout(cfg: Config) -> tuple[dict[str, str], Callable[[Path], Any]]:
    """What the config's data set calls the folders of its modalities, and how it finds samples in its own layout."""
    dataset = cfg.test_dataloader.dataset
    dataset = {'type': dataset} if isinstance(dataset, str) else dict(dataset)
    cls = DATASETS.find(dataset.pop('type'))
    folders = cls.input_folders(**dataset) if hasattr(cls, 'input_folders') else {}
    return folders, getattr(cls, 'find_files', lambda path: None)
