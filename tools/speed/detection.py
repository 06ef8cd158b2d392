"""Detection with YOLOv8n: what a second stream, MWAM and the sweep cost, and where a training step spends its time."""

import copy
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from registry import HOSTS, METRICS, PLUGINS
from zoo.batch import Batch
from zoo.datasets.digit_rendering import Difficulty, render
from zoo.datasets.digit_scenes import CLASSES, split_digits
from zoo.engine import build_optim_wrapper, sweep
from zoo.engine.ema import WarmupEMA
from zoo.host import Clock, MultimodalHost
from zoo.losses.yolo_loss import flatten

from .plugin_steps import watch
from .segmentation import multiply_accumulates
from .timing import Laps, interleaved, rounds

SIZE, BATCH = 320, 8
CHANNELS = {'rgb': 3, 'ir': 1}
OPTIMISER = {
    'optimizer': {'type': 'SGD', 'lr': 1e-3, 'momentum': 0.937, 'nesterov': True, 'weight_decay': 5e-4},
    'paramwise_cfg': {'norm_decay_mult': 0, 'bias_decay_mult': 0},
    'clip_grad': {'max_norm': 10},
}
CANDIDATES = 1000  # (place, class) pairs of an image with a score that counts, before suppression

Call = Callable[[], object]


def measure_streams(
    device: str = 'cpu', repeats: int | None = None, size: int = SIZE, batch: int = BATCH
) -> list[dict[str, Any]]:
    """The difference that an infrared stream makes, over its backbone alone; the rest is fusion and bookkeeping.

    A training step is that of `Step`; the backbone and the fusion alone run forward and backward there. Evaluation goes
    from images to the dense prediction, without suppression.

    Args:
        device: On a GPU batches are eight times as large.
        repeats: Rounds; all calls run in each, and the medians are those of a round's own differences and ratios.
        size: Height and width of the images.
        batch: Images.

    Returns:
        Rows for training, evaluation, and the multiply-accumulates of the second.
    """
    repeats = repeats or (15 if device == 'cpu' else 30)
    data = scenes(batch * (1 if device == 'cpu' else 8), size, device)
    one, two = detector('rgb').to(device), detector('rgb', 'ir').to(device)
    inputs = two.data_preprocessor(data)['inputs']
    alone, backbone = {'rgb': inputs['rgb']}, two.backbones['ir']
    warm_up = 1 if device == 'cpu' else 5
    with torch.no_grad():
        features = two.features(two.make_batch(inputs))
    maps = [x.requires_grad_() for m in two.modalities for x in features[m]]
    mask = torch.ones(len(inputs['rgb']), 2, dtype=torch.bool, device=device)

    def fuse() -> list[Tensor]:
        return two.fuse(features, mask)

    training = {
        'one': Step(one, {**data, 'inputs': {'rgb': data['inputs']['rgb']}}),
        'two': Step(two, data),
        'backbone': ForwardBackward(partial(backbone, inputs['ir']), list(backbone.parameters())),
        'fusion': ForwardBackward(fuse, [*two.fusions.parameters(), *maps]),
    }
    rows = [{'pass': 'training step', **_second(rounds(training, device, repeats, warm_up))}]
    for thing in (one.eval(), two.eval(), *maps):
        thing.requires_grad_(False)
    evaluation = {
        'one': partial(one, alone),
        'two': partial(two, inputs),
        'backbone': partial(backbone, inputs['ir']),
        'fusion': fuse,
    }
    evaluation = {name: torch.inference_mode()(call) for name, call in evaluation.items()}
    rows.append({'pass': 'evaluation', **_second(rounds(evaluation, device, repeats, warm_up))})
    gmac = {name: [multiply_accumulates(call) / 1e12] for name, call in evaluation.items()}
    return [*rows, {'pass': 'evaluation, GMAC', **_second(gmac)}]


def _second(seconds: dict[str, list[float]]) -> dict[str, float]:
    """The columns of one row, from the seconds of each round."""
    one, two, backbone, fusion = (np.array(seconds[name]) for name in ('one', 'two', 'backbone', 'fusion'))
    columns = {
        'one stream': 1e3 * one,
        'two streams': 1e3 * two,
        'backbone': 1e3 * backbone,
        'fusion': 1e3 * fusion,
        'difference / backbone': (two - one) / backbone,
        'without fusion': (two - one - fusion) / backbone,
        'fusion / two streams': fusion / two,
    }
    return {name: float(np.median(values)) for name, values in columns.items()}


def measure_mwam(
    device: str = 'cpu', repeats: int | None = None, size: int = SIZE, batch: int = BATCH
) -> list[dict[str, Any]]:
    """MWAM on the rates of the branches, on a step of two streams: of whole steps, which differ by several percent from
    one to the next on a CPU, and there inside the plugin's own points."""
    host = detector('rgb', 'ir').to(device)
    data = scenes(batch * (1 if device == 'cpu' else 8), size, device)
    host.plug(PLUGINS.build({'type': 'MWAM', 'apply': 'lr'}))
    plugin = host.plugins.pop('MWAM')
    inside: list[float] = []
    if device == 'cpu':
        watch(plugin, inside)
    step = Step(host, data)

    def with_plugins(*plugins: Any) -> None:
        host.plugins.clear()
        host.plugins.update({p.name: p for p in plugins})
        step()

    routes = {'plain': with_plugins, 'MWAM': partial(with_plugins, plugin)}
    timings = interleaved(routes, device, repeats or (10 if device == 'cpu' else 50), 1 if device == 'cpu' else 5)
    rows = [{'step': name, **timing} for name, timing in timings.items()]
    if inside:
        rows[1]['inside the plugin, ms'] = 1e3 * median(inside)
        rows[1]['inside / plain'] = rows[1]['inside the plugin, ms'] / rows[0]['ms']
    return rows


def measure_sweep(
    device: str = 'cpu', repeats: int | None = None, size: int = SIZE, batch: int = BATCH
) -> list[dict[str, Any]]:
    """Time over the 3 subsets of two streams and of the parts, over that of the complete set alone.

    Scores are such that `CANDIDATES` of an image enter the suppression in the complete set; the metric's part has its
    summary, which sweeps of many batches make once. The last row has the ratio of the multiply-accumulates, below which
    no implementation of the same sums gets.
    """
    data = scenes(batch * (1 if device == 'cpu' else 8), size, device)
    host = detector('rgb', 'ir').to(device).eval()
    with torch.inference_mode():
        batch_ = host.make_batch(**host.data_preprocessor(data))
        spread_scores(host, batch_)
        features = host.features(batch_)
        fused = host.fuse(features, batch_.mask)
        outputs = host.decode(fused, features)
        found = host.postprocess(outputs)

    def score() -> None:
        metric = METRICS.build('MeanAP')
        metric.update(found, batch_)
        metric.compute()

    complete, subsets = (partial(sweep, host, [data], 'MeanAP', which) for which in ('full', 'all'))
    parts = {
        'encode, once': partial(host.features, batch_),
        'fuse, complete set': partial(host.fuse, features, batch_.mask),
        'neck, head and boxes, each subset': partial(host.decode, fused, features),
        'suppression, each subset': partial(host.postprocess, outputs),
        'metric, each subset': score,
    }
    routes = {'complete set': complete, '3 subsets': subsets}
    routes |= {name: torch.inference_mode()(part) for name, part in parts.items()}
    rows = [{'evaluation': name, **t} for name, t in interleaved(routes, device, repeats or 7).items()]
    ratio = multiply_accumulates(subsets) / multiply_accumulates(complete)
    return [*rows, {'evaluation': '3 subsets, multiply-accumulates', 'ratio': ratio}]


def spread_scores(host: MultimodalHost, batch: Batch) -> None:
    """Make a detector without training answer the places of an image differently, as one with training does.

    Norm layers get the statistics of the batch, without which all places are alike, and all class logits one number
    more, so that `CANDIDATES` of an image reach the threshold on average.
    """
    norms = {m: m.momentum for m in host.modules() if isinstance(m, _BatchNorm)}
    for m in norms:
        m.momentum = 1
    host.train().run(batch)
    for m, momentum in norms.items():
        m.momentum = momentum
    logits = host.eval().run(batch).prediction[:, 4:].double().logit().flatten()
    least = logits.topk(min(CANDIDATES * len(batch), len(logits))).values[-1]
    threshold = torch.tensor(host.nms['confidence'], dtype=torch.float64, device=least.device).logit()
    for branch in host.head.detect.cv3:
        branch[-1].bias += threshold - least


def measure_parts(
    device: str = 'cpu', repeats: int | None = None, size: int = SIZE, batch: int = BATCH
) -> list[dict[str, Any]]:
    """Where a step of one stream spends its time, part by part, and whole steps with weights in channels-last memory.

    Returns:
        Rows with ``ms`` and the ``ratio`` to a whole step of the same round.
    """
    repeats = repeats or (10 if device == 'cpu' else 50)
    data = scenes(batch * (1 if device == 'cpu' else 8), size, device)
    data['inputs'].pop('ir')
    host = detector('rgb').to(device)
    last = copy.deepcopy(host).to(memory_format=torch.channels_last)
    step, other = Step(host, data), Step(last, data)
    target, pixels = data['target'], (size, size)
    inputs = host.data_preprocessor(data)['inputs']
    evaluate = [torch.inference_mode()(partial(h, inputs)) for h in (host, last)]
    seconds: dict[str, list[float]] = {}
    for i in range(repeats + 2):
        laps = Laps(device)
        step()
        laps.lap('step')
        step.in_parts(laps)
        laps.lap('between')  # what the step kept goes
        flatten(target['boxes'], target['labels'], pixels)
        laps.lap('(of the loss: making its targets of lists)')
        host.labelled(target)
        laps.lap('(of the loss: checking labels)')
        other()
        laps.lap('step, channels-last weights')
        host.eval(), last.eval()
        laps.lap('between')
        for h, name in zip(evaluate, ('evaluation', 'evaluation, channels-last weights')):
            h()
            laps.lap(name)
        host.train(), last.train()
        if i >= 2:
            for name, here in laps.seconds().items():
                seconds.setdefault(name, []).append(here)
    seconds.pop('between')
    whole = seconds['step']
    return [
        {'part': name, 'ms': 1e3 * median(s), 'ratio': median(a / b for a, b in zip(s, whole))}
        for name, s in seconds.items()
    ]


def detector(*modalities: str) -> MultimodalHost:
    """YOLOv8n with a backbone for each modality; with one it is ultralytics' own model."""
    torch.manual_seed(0)
    return HOSTS.build(
        {
            'type': 'TwoStreamYOLO',
            'modalities': list(modalities),
            'num_classes': len(CLASSES),
            'in_chans': {m: CHANNELS[m] for m in modalities},
            'fusion': 'ConcatConv' if len(modalities) > 1 else 'Mean',
            'data_preprocessor': {'std': dict.fromkeys(modalities, 255)},
        }
    )


def scenes(count: int, size: int, device: str = 'cpu') -> dict[str, Any]:
    """A collated batch of DigitScenes with one to three boxes each; images of 8 bits."""
    parts = render(*split_digits('train'), count, (size, size), 3, (0, 0), Difficulty(), count)
    records = next(parts)
    used = [r['labels'] >= 0 for r in records]
    return {
        'inputs': {m: torch.from_numpy(records[m].copy()).to(device) for m in CHANNELS},
        'target': {
            'boxes': [torch.from_numpy(r['boxes'][u]).to(device) for r, u in zip(records, used)],
            'labels': [torch.from_numpy(r['labels'][u].astype(np.int64)).to(device) for r, u in zip(records, used)],
        },
    }


class Step:
    """Calling it trains a host on one batch: images to floats, forward, loss, backward, clipping, SGD with momentum,
    and a moving average of weights and statistics, as ultralytics' trainer does between two batches.

    Args:
        host: The host, put into training mode.
        data: A collated batch.
    """

    def __init__(self, host: MultimodalHost, data: dict[str, Any]) -> None:
        self.host, self.data = host.train(), data
        self.wrapper = build_optim_wrapper(host, OPTIMISER)
        self.average = WarmupEMA(host)

    def __call__(self) -> dict[str, Tensor]:
        self.host.clock = Clock(iteration=self.host.clock.iteration + 1)
        losses = self.host.train_step(self.data, self.wrapper)
        self.average.update_parameters(self.host)
        return losses

    def in_parts(self, laps: Laps) -> None:
        """The same with a lap after each part."""
        host, wrapper = self.host, self.wrapper
        batch = host.make_batch(**host.data_preprocessor(self.data, True))
        laps.lap('images to floats')
        outputs = host.run(batch)
        laps.lap('network, forward')
        loss = sum(host.losses(outputs, batch).values())
        laps.lap('loss, forward')
        raw = [outputs.extras['raw'][k] for k in ('boxes', 'scores')]
        gradients = torch.autograd.grad(loss, raw)
        laps.lap('loss, backward')
        torch.autograd.backward(raw, gradients)
        laps.lap('network, backward')
        wrapper.clip_func([p for p in host.parameters() if p.grad is not None], **wrapper.clip_grad_kwargs)
        laps.lap('clipping')
        wrapper.optimizer.step()
        wrapper.zero_grad()
        laps.lap('SGD')
        self.average.update_parameters(host)
        laps.lap('moving average')


class ForwardBackward:
    """Calling it runs a function that returns tensors forward and backward, from gradients that are there.

    Args:
        forward: The function.
        leaves: What gradients are wanted of.
    """

    def __init__(self, forward: Callable[[], list[Tensor]], leaves: list[Tensor]) -> None:
        self.forward, self.leaves = forward, leaves
        self.gradients = [torch.randn_like(x) for x in forward()]

    def __call__(self) -> None:
        torch.autograd.grad(self.forward(), self.leaves, self.gradients)
