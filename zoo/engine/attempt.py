"""One trial on the test data: attack each batch, score what the host makes of it."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from statistics import fmean, pstdev
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.attacks import Attack
from zoo.attacks.attack import seed_device
from zoo.batch import Batch
from zoo.host import MultimodalHost

from .sweep import build_metric
from .trial import CLEAN, Trial


def attempt(
    host: MultimodalHost,
    loader: DataLoader,
    metric: str | Mapping[str, Any],
    trial: Trial,
    bounds: Mapping[str, Any],
    draws: int = 1,
    seed: int = 0,
    count: int | None = None,
    crafter: MultimodalHost | None = None,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The row of one trial: what ran, its scores, and of how many samples.

    Args:
        host: Whose score it is.
        loader: Of the test data.
        metric: Name or config of a metric.
        trial: What to do.
        bounds: Modality to its range.
        draws: Passes in which each attacked batch is scored, with draws of their own.
        seed: Of all draws.
        count: At most so many samples.
        crafter: The host on which the attack is crafted; the same when None.
        advance: Called after each batch.
    """
    attack = trial.build(bounds)
    crafter = crafter or host
    classes = getattr(getattr(loader.dataset, 'dataset', None), 'classes', None) or ()
    metrics = [build_metric(metric, host, classes) for _ in range(draws)]
    mask = torch.tensor([m in trial.present for m in host.modalities])
    generator = torch.Generator().manual_seed(seed)
    samples = 0
    for data in _first(loader, count):
        batch = host.make_batch(**host.data_preprocessor(data, False)).view(host.modalities).restrict(mask)
        rows = batch.present.any(1)
        if rows.any():
            batch = batch if rows.all() else batch.select(rows)
            seen = attacked_batch(attack, host, crafter, batch, generator) if attack else batch
            samples += len(batch)
            with host.aside(training=False), torch.no_grad():
                for m in metrics:
                    seed_device(int(torch.randint(2**62, (), generator=generator)), host.device)
                    with ExitStack() as stack:
                        for plugin in host.plugins.values() if draws > 1 else ():
                            stack.enter_context(plugin.fresh_draw())
                        m.update(host.postprocess(host.run(seen)), batch)  # clean inputs
        advance()
    values = [{k: float(v) for k, v in m.compute().items() if not isinstance(v, Tensor) or not v.ndim} for m in metrics]
    scores = [v[metrics[0].name] for v in values]
    known = all(map(math.isfinite, scores))
    return {
        'name': attack.name + ''.join(trial.attack.partition('(')[1:]) if attack else CLEAN,
        'score': fmean(scores) if known else None,
        'std': pstdev(scores) if known and draws > 1 else None,
        'metrics': {k: _finite(fmean(v[k] for v in values)) for k in values[0]},
        'samples': samples,
    }


def attacked_batch(
    attack: Attack, host: MultimodalHost, crafter: MultimodalHost, batch: Batch, generator: torch.Generator
) -> Batch:
    """A host's batch with inputs that are attacked on a host, perhaps another one of other statistics."""
    if crafter is host:
        return attack(host, batch, generator)
    own, other = host.data_preprocessor, crafter.data_preprocessor
    raw = {m: own.restore(m, x) for m, x in batch.inputs.items()}
    view = batch.replace(inputs={m: other.normalise(m, x) for m, x in raw.items()}).view(crafter.modalities)
    rows = view.present.any(1)
    if not rows.any():
        return batch
    found = attack(crafter, view.select(rows), generator)
    index = rows.nonzero().squeeze(1).to(batch.device)
    changed = {}
    for m, x in found.inputs.items():
        if m in attack.modalities:
            moved = own.standardise(m, other.restore(m, x)).to(batch.inputs[m].dtype)
            moved = batch.inputs[m].index_copy(0, index, moved)
            measured = own.measured(m, batch.inputs[m])
            changed[m] = moved if measured is None else moved.where(measured, batch.inputs[m])
    return batch.replace(inputs={**batch.inputs, **changed})


def _first(loader: DataLoader, count: int | None) -> Iterator[dict[str, Any]]:
    """The batches of the first samples."""
    left = math.inf if count is None else count
    for data in loader:
        size = len(data['present'])
        if size > left:
            data = _cut(data, int(left), size)
        yield data
        left -= size
        if left <= 0:
            return


def _cut(value: Any, length: int, size: int) -> Any:
    if isinstance(value, Mapping):
        return {k: _cut(v, length, size) for k, v in value.items()}
    return value[:length] if isinstance(value, (Tensor, list)) and len(value) == size else value


def draws_at_random(host: MultimodalHost) -> bool:
    """Whether a plugin or a layer of the host draws in eval mode too (``random``)."""
    return any(getattr(m, 'random', False) is True for m in host.modules())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
