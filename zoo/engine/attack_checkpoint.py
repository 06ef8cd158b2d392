"""How a checkpoint holds up under attack: on subsets of its modalities, with some of them attacked, over strengths."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch.utils.data import DataLoader

from registry import InputError
from zoo.attacks.attack import check_count
from zoo.digest import weights_digest
from zoo.host import MultimodalHost

from . import checkpoint as ckpt
from .attempt import attempt, draws_at_random
from .config import check_config, keep_structural, load_config, plain_config
from .data import build_dataloader
from .devices import pick_device, under_torchrun
from .evaluate import build_host, check_dataset, check_metric, make_writable
from .progress import progress_bar
from .robustness import Robustness
from .sweep import build_metric, parse_subsets, plugin_settings
from .trial import plan, ranges_of

DRAWS, EOT = 10, 20  # of hosts that draw at random


def attack_checkpoint(
    cfg: Config,
    path: str | Path,
    attacks: Sequence[str] = ('PGD',),
    eps: Sequence[float] = (4 / 255,),
    steps: Sequence[int] = (),
    attacked: str = 'all,each',
    eot: Sequence[int] | None = None,
    draws: int | None = None,
    bounds: Mapping[str, Any] | None = None,
    surrogate: tuple[str, str] | None = None,
    out: Path | None = None,
    device: str | None = None,
    trust: bool = False,
    batch_size: int | None = None,
    count: int | None = None,
    seed: int = 0,
) -> Robustness:
    """Attack a checkpoint on the test data of its config.

    Args:
        cfg: As `load_config` returns it. Subsets are those of ``test_cfg``.
        path: The checkpoint.
        attacks: See `plan`, as for the next three.
        eps: Strengths.
        steps: Of attacks that have some.
        attacked: What is perturbed.
        eot: Draws for each gradient; by default 1, where the attacked host draws at random 1 and 20.
        draws: Passes in which an attacked batch is scored; by default 1, of a host that draws at random 10.
        bounds: Modality to its range, on the scale of the data; those that are not named have (0, 255) where the data
            are 8-bit integers, else (0, 1). ``''`` stands for all.
        surrogate: Config and checkpoint of another host, on which attacks are crafted: a transfer attack.
        out: Where to write; the folder of the checkpoint when None.
        device: See `Runner`.
        trust: Unpickle anything from checkpoints.
        batch_size: That of the config when None.
        count: At most so many samples.
        seed: Of all draws.

    Raises:
        InputError: A config, a checkpoint or values that do not fit.
        NameNotFound: An unknown attack or modality.
    """
    for name, value in (('draws', draws), ('batch_size', batch_size), ('count', count)):
        if value is not None:
            check_count(name, value, 1)
    if under_torchrun():
        raise InputError('Attacks run in one process: start the tool without torchrun.')
    if not cfg.get('test_dataloader'):
        raise InputError('The config has no test_dataloader.')
    saved = ckpt.load(path, trust)
    host = _load(cfg, saved, path).to(pick_device(device))
    check_metric(host, cfg.test_evaluator, 'test_evaluator')
    crafter = _surrogate(host, *surrogate, trust) if surrogate else host
    loader = _loader(cfg, host, saved, batch_size)
    random = draws_at_random(host)
    draws = draws or (DRAWS if random else 1)
    eot = eot or ([1, EOT] if draws_at_random(crafter) else [1])
    subsets = parse_subsets((cfg.get('test_cfg') or {}).get('subsets', 'all'), host.modalities)
    trials = plan(crafter.modalities, subsets, attacks, eps, steps, attacked, eot)
    ranges = ranges_of(host, next(iter(loader)), bounds or {})
    for trial in trials:  # whatever is wrong with one is said before the first runs
        if attack := trial.build(ranges):
            attack.check_host(crafter)
    out = out or Path(path).parent
    make_writable(out)
    metric = build_metric(cfg.test_evaluator, host)
    run = {
        'config': Path(cfg.filename).name if cfg.filename else None,
        **_identity(path, host),
        'surrogate': _identity(surrogate[1], crafter) if surrogate else None,
        'data': json.loads(plain_config(cfg))['test_dataloader']['dataset'],
        'samples': count,
        'batch_size': loader.batch_size,
        'bounds': {m: list(b) if b else None for m, b in ranges.items()},
        'draws': draws,
        'random': random,
        'seed': seed,
        'settings': {**host.settings, **plugin_settings(host), **metric.settings},
    }
    unit = metric.units.get(metric.name, '%')
    result = Robustness(metric.name, host.modalities, run, higher_is_better=metric.higher_is_better, unit=unit)
    result.resume(out)
    todo = [t for t in trials if not result.has(t)]
    with progress_bar() as bar:
        task = bar.add_task('attacks', total=len(todo) * len(loader))
        for trial in todo:
            values = attempt(
                host, loader, cfg.test_evaluator, trial, ranges, draws, seed, count, crafter, lambda: bar.advance(task)
            )
            result.add(trial, values)
            result.save(out)
    result.save(out)
    result.save_tables(out)
    return result


def _load(cfg: Config, saved: Mapping[str, Any], path: str | Path) -> MultimodalHost:
    keep_structural(cfg)
    check_config(cfg)
    host = build_host(cfg)
    ckpt.load_weights(host, saved, path)
    return host


def _surrogate(host: MultimodalHost, config: str, path: str, trust: bool) -> MultimodalHost:
    """Another host, on the device of the first."""
    crafter = _load(load_config(config), ckpt.load(path, trust), path).to(host.device)
    if lacking := [m for m in crafter.modalities if m not in host.modalities]:
        raise InputError(
            f'The surrogate has modalities that the host lacks: {", ".join(lacking)}. The host has '
            f'{", ".join(host.modalities)}.'
        )
    return crafter


def _loader(cfg: Config, host: MultimodalHost, saved: Mapping[str, Any], batch_size: int | None) -> DataLoader:
    """Of the test data."""
    wanted = cfg.test_dataloader if batch_size is None else {**cfg.test_dataloader, 'batch_size': batch_size}
    trained = saved.get('meta', {}).get('seed') or 0
    classes = getattr(host, 'num_classes', None)
    loader = build_dataloader(wanted, False, trained, cuda=host.device.type == 'cuda', num_classes=classes)
    check_dataset(host, loader.dataset.dataset, 'test_dataloader')
    return loader


def _identity(path: str | Path, host: MultimodalHost) -> dict[str, str]:
    return {'checkpoint': Path(path).name, 'weights': weights_digest(host)}
