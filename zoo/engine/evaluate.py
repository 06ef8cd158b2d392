"""Scoring a checkpoint, and building what a config names."""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine.config import Config
from torch.utils.data import DataLoader

from registry import HOSTS, METRICS, PLUGINS, InputError, unknown_name
from zoo.datasets.transforms import Geometry, LetterBox, Mixing, Mosaic, RandomAffine, RandomCrop, RandomFlip, Resize
from zoo.host import MultimodalHost

from . import checkpoint as ckpt
from .config import check_config, keep_structural, plugin_names
from .data import build_dataloader
from .devices import pick_device, start_processes, under_torchrun
from .progress import is_main
from .sweep import Sweep, parse_subsets, sweep


def build_host(cfg: Config) -> MultimodalHost:
    """The host of a config with its plugins attached."""
    host = HOSTS.build(cfg.model)
    return host.plug(*(PLUGINS.build(p) for p in cfg.get('plugins') or []))


def evaluate_checkpoint(
    cfg: Config, path: str | Path, out: Path | None = None, device: str | None = None, trust: bool = False
) -> Sweep:
    """Sweep a checkpoint on the test data of a config, without a runner.

    Args:
        cfg: As `load_config` returns it.
        path: The checkpoint.
        out: Where to write the tables; its folder when None.
        device: See `Runner`.
        trust: Unpickle anything from the checkpoint.

    Raises:
        InputError: A config without test data, or a checkpoint that does not fit.
    """
    if not cfg.get('test_dataloader'):
        raise InputError('The config has no test_dataloader.')
    keep_structural(cfg)
    check_config(cfg)
    saved = ckpt.load(path, trust)
    target = pick_device(device)
    rank, world = 0, 1
    if under_torchrun():
        start_processes(target)
        rank, world = dist.get_rank(), dist.get_world_size()
    host = build_host(cfg).to(target)
    ckpt.load_weights(host, saved, path)
    check_metric(host, cfg.test_evaluator, 'test_evaluator')
    parse_subsets((cfg.get('test_cfg') or {}).get('subsets', 'all'), host.modalities)
    seed = saved.get('meta', {}).get('seed') or 0  # random transforms then draw what they drew after training
    classes = getattr(host, 'num_classes', None)
    loader = build_dataloader(cfg.test_dataloader, False, seed, rank, world, target.type == 'cuda', classes)
    check_dataset(host, loader.dataset.dataset, 'test_dataloader')
    out = out or Path(path).parent
    make_writable(out)
    return evaluate(host, loader, cfg, saved, Path(path), out)


def evaluate(
    host: MultimodalHost, loader: DataLoader, cfg: Config, saved: Mapping[str, Any], path: Path, out: Path
) -> Sweep:
    """Sweep a host whose weights come from the checkpoint ``saved``; the first process writes the tables to ``out``."""
    subsets = (cfg.get('test_cfg') or {}).get('subsets', 'all')
    result = sweep(host, loader, cfg.test_evaluator, subsets, 'modality sweep')
    meta = saved.get('meta', {})
    trained = json.loads(meta['config']) if 'config' in meta else cfg
    result.meta = {
        'plugins': plugin_names(trained),
        'config': _relative(cfg.filename),
        'checkpoint': path.name,
        'seed': meta.get('seed'),
    }
    if is_main():
        result.save(out)
    return result


def check_dataset(host: MultimodalHost, dataset: Any, where: str) -> None:
    """Refuse a data set that does not fit a host, and let it look at all its labels.

    Args:
        host: The host.
        dataset: The data set.
        where: The loader it is in, ``train_dataloader`` for instance.

    Raises:
        InputError: It lacks one of the host's modalities, has more classes, other channels or sizes, mixes samples
            outside training, or has a bad label.
    """
    mixing = [t for t in getattr(dataset, 'transforms', ()) if isinstance(t, Mixing)]
    if mixing and where != 'train_dataloader':
        raise InputError(f'{where}: {type(mixing[0]).__name__} mixes samples, which is for training only.')
    for m in host.modalities:
        if m not in dataset.modalities:
            error = unknown_name(f'modality (of the host, in {where})', m, dataset.modalities)
            raise InputError(f'{error} The host wants {", ".join(host.modalities)}.')
    delivered, expected = getattr(dataset, 'channels', {}), getattr(host, 'in_chans', {})
    for m in host.modalities:
        if m in delivered and m in expected and delivered[m] != expected[m]:
            raise InputError(f'{where}: {m} has {delivered[m]} channels, the host expects in_chans={expected[m]}.')
    preprocessor = host.data_preprocessor
    invalid = getattr(preprocessor, 'invalid', {})
    for m in (*getattr(preprocessor, 'normalised', ()), *invalid):
        if m not in dataset.modalities:
            raise unknown_name(f'modality (of data_preprocessor, in {where})', m, dataset.modalities)
    for m, value in getattr(dataset, 'invalid', {}).items():
        if m in host.modalities and invalid.get(m) != value:
            warnings.warn(
                f'{where}: {m} is {value} where nothing was measured, and the host takes that for a measurement; '
                f'model.data_preprocessor.invalid=dict({m}={value}) marks it.',
                stacklevel=2,
            )
    multiple, size = getattr(host, 'multiple', 1), delivered_size(dataset)
    if size and not getattr(host, 'pad_to', None) and any(s % multiple for s in size):
        raise InputError(
            f'{where}: images of {size[0]}x{size[1]} (H x W), but {type(host).__name__} takes sides that are multiples '
            f'of {multiple}. Choose another size, or give the host pad_to={multiple}.'
        )
    classes, known = getattr(dataset, 'num_classes', None), getattr(host, 'num_classes', None)
    if classes and known and classes > known:
        raise InputError(f'{where}: the data set has {classes} classes, the host num_classes={known}.')
    if hasattr(dataset, 'check_annotations'):
        dataset.check_annotations()


def check_metric(host: MultimodalHost, metric: str | Mapping[str, Any], where: str) -> None:
    """Refuse a metric of another task.

    Raises:
        InputError: Names those of the host's task.
        NameNotFound: An unknown metric.
    """
    built = METRICS.build(metric)
    if host.task and getattr(built, 'task', '') not in ('', host.task):
        fitting = sorted(n for n, m in METRICS.module_dict.items() if getattr(m, 'task', '') == host.task)
        raise InputError(
            f'{where}: {type(built).__name__} is for {built.task}, the host {type(host).__name__} is for {host.task}. '
            f'Metrics for that: {", ".join(fitting) or "none"}.'
        )


def delivered_size(dataset: Any) -> tuple[int, ...] | None:
    """The size (H, W) of a data set's images, where its last geometric transform or itself says one."""
    for transform in reversed(getattr(dataset, 'transforms', ())):
        if isinstance(transform, (Resize, RandomCrop, LetterBox, RandomAffine)) and transform.size:
            return transform.size
        if isinstance(transform, (Geometry, Mosaic)) and not isinstance(transform, (RandomFlip, RandomAffine)):
            return None
    size = getattr(dataset, 'size', None)
    return size if isinstance(size, tuple) and len(size) == 2 else None


def make_writable(folder: Path) -> None:
    """Make a folder, and see that files can be written there.

    Raises:
        InputError: They can not.
    """
    probe = folder / f'.probe-{os.getpid()}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f'The work directory {str(folder)!r} can not be written: {error.strerror}.') from None


def _relative(path: str | None) -> str | None:
    """A path as the user would type it, so that results do not name a machine."""
    return os.path.relpath(path) if path else None
