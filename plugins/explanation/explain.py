"""What the predictions of a checkpoint lean on: which modality over all samples, which regions in some."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from plugins.masks import check_blocks
from registry import InputError
from zoo.attacks.attack import check_count, seed_device
from zoo.batch import Batch, map_target
from zoo.digest import weights_digest
from zoo.engine import checkpoint as ckpt
from zoo.engine.attempt import draws_at_random
from zoo.engine.data import Collate
from zoo.engine.devices import pick_device, under_torchrun
from zoo.engine.evaluate import make_writable
from zoo.engine.predict import Item, batches, build_for_inference, files_of, items_of
from zoo.engine.progress import progress_bar
from zoo.engine.sweep import plugin_settings
from zoo.host import MultimodalHost
from zoo.visual import draw_regions, predicted

from .explanation import Explanation
from .movement import movements, region_maps


def explain_checkpoint(
    cfg: Config,
    path: str | Path,
    inputs: Sequence[str | Path] = (),
    out: str | Path = 'explanation',
    device: str | None = None,
    trust: bool = False,
    batch_size: int | None = None,
    samples: int | None = None,
    count: int = 8,
    masks: int = 64,
    block: int | None = None,
    seed: int = 0,
) -> Explanation:
    """Measure what the predictions of a checkpoint lean on, and draw the regions for the first samples.

    Args:
        cfg: As `load_config` returns it.
        path: The checkpoint.
        inputs: See `find_samples`; the test data of the config when there are none.
        out: Where to write ``explanation.json``, ``.csv`` and ``.png``, and ``<sample>_regions.png``.
        device: See `Runner`.
        trust: Unpickle anything from the checkpoint.
        batch_size: Passes that run together; that of the config's test data when None.
        samples: At most so many; None for all.
        count: At most so many pictures; 0 for none.
        masks: See `region_maps`.
        block: See `movements`.
        seed: Of all draws.

    Raises:
        InputError: A config, a checkpoint, values or files that do not fit, or a host of one modality.
    """
    for name, value, least in (
        ('batch_size', batch_size, 1),
        ('samples', samples, 1),
        ('count', count, 0),
        ('masks', masks, 1),
        ('seed', seed, 0),
    ):
        if value is not None:
            check_count(name, value, least)
    if seed >= 2**31:
        raise InputError(f'seed must be below 2**31, got {seed}.')
    if block is not None:
        check_blocks(block, (0, 0), 0, 0)
    if under_torchrun():
        raise InputError('Explanations are made in one process: start the tool without torchrun.')
    target = pick_device(device)
    host = build_for_inference(cfg)
    if len(host.modalities) < 2:
        raise InputError(
            f'{type(host).__name__} has one modality, {host.modalities[0]}: an explanation compares at least two.'
        )
    files = files_of(cfg, host, inputs)
    out = Path(out)
    make_writable(out)
    saved = ckpt.load(path, trust)
    items = items_of(cfg, host, saved.get('meta', {}), files, sys.maxsize if samples is None else samples)
    ckpt.load_weights(host, saved, path)
    host.to(target)
    batch_size = batch_size or cfg.test_dataloader.get('batch_size', 1)
    count = min(count, len(items))
    run = {
        'config': Path(cfg.filename).name if cfg.filename else None,
        'checkpoint': Path(path).name,
        'weights': weights_digest(host),
        'modalities': list(host.modalities),
        'samples': len(items),
        'masks': masks,
        'block': block,
        'batch_size': batch_size,
        'seed': seed,
        'settings': {**host.settings, **plugin_settings(host)},
    }
    with one_draw(host, seed), torch.inference_mode(), progress_bar() as bar:
        task = bar.add_task('samples', total=len(items))
        generator = torch.Generator(target).manual_seed(seed)
        found: dict[str, list[Tensor]] = {}
        for group in batches(items, batch_size):
            if group[0].sample['inputs']:  # the test data may have more modalities than the host
                moved = movements(host, _batch(host, group), generator, block, draws_at_random(host))
                for change, x in moved.items():
                    found.setdefault(change, []).append(x)
            bar.advance(task, len(group))
        if not found:
            raise InputError(f'No sample has any of the modalities {", ".join(host.modalities)}.')
        result = Explanation.of({k: torch.cat(x) for k, x in found.items()}, host.modalities, run)
        result.save(out)
        task = bar.add_task('pictures', total=count)
        for i in range(count):
            if (item := items[i]).sample['inputs']:
                generator.manual_seed(seed + i)
                result.pictures.append(_picture(host, item, masks, generator, block, batch_size, out))
            bar.advance(task)
    result.save(out)
    return result


@contextmanager
def one_draw(host: MultimodalHost, seed: int) -> Iterator[None]:
    """The host in eval mode, and what its plugins draw is one draw; random layers begin at the seed."""
    with ExitStack() as stack:
        stack.enter_context(host.aside(training=False))
        for plugin in host.plugins.values():
            stack.enter_context(plugin.frozen(seed))
        seed_device(seed, host.device)
        yield


def _batch(host: MultimodalHost, group: Sequence[Item]) -> Batch:
    samples = [{**item.sample, 'target': item.scene.target} for item in group]
    return host.make_batch(**host.data_preprocessor(Collate(host.modalities)(samples), False))


def _picture(
    host: MultimodalHost,
    item: Item,
    masks: int,
    generator: torch.Generator,
    block: int | None,
    batch_size: int,
    out: Path,
) -> dict[str, Any]:
    """Write the picture of one sample; returns what is kept of it."""
    batch = _batch(host, [item])
    moved = movements(host, batch, generator, block)
    lost = {m: None if (x := moved[f'without {m}']).isnan() else float(x) for m in host.modalities}
    maps = region_maps(host, batch, masks, generator, block, batch_size)
    outputs = host.run(batch)
    prediction = map_target(host.postprocess(outputs).prediction, lambda x: x[0], lambda items: items[0])
    scene = item.scene
    shown = {m: _in_picture(x, item) for m, x in maps.items()}
    name = f'{scene.name}_regions'
    draw_regions(scene, shown, lost, predicted(scene, host.task, prediction)).save(out / f'{name}.png')
    return {'name': name, 'lost': lost, 'largest': {m: float(x.max()) for m, x in maps.items()}}


def _in_picture(values: Tensor, item: Item) -> Tensor:
    """Values (H, W) or (D, H, W) at places of an input: one slice, and of a padded input the picture in it."""
    scene = item.scene
    if values.ndim == 3:
        return values[int(scene.slice_at * len(values))]
    first = next(iter(item.sample['inputs'].values()))
    if scene.place is None or first.ndim != 3:
        return values
    top, left, height, width = scene.place
    rows, columns = (n / own for n, own in zip(values.shape, first.shape[1:]))
    return values[
        round(top * rows) : max(1, round((top + height) * rows)),
        round(left * columns) : max(1, round((left + width) * columns)),
    ]
