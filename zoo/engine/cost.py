"""What the host of a config costs, without its data and without weights."""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from registry import DATASETS, TRANSFORMS, InputError
from zoo.datasets.transforms import Geometry
from zoo.host import MultimodalHost

from .config import check_config, keep_structural
from .evaluate import build_host

COUNTER = 'torch.utils.flop_counter.FlopCounterMode'
NO_WEIGHTS = {'pretrained': False, 'encoder_weights': None}  # ours and timm's; segmentation-models-pytorch's

Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class Part:
    """What one module of a host costs, or a parameter that belongs to no smaller module.

    Attributes:
        name: Where it stands in the host: ``'encoders.rgb'``.
        parameters: Of it and all that it consists of.
        macs: As in `Cost`, but auxiliary heads and decoders count, too: what the unimodal predictions take. 0 for a
            parameter and what no pass calls; None where the size of the input is not known.
    """

    name: str
    parameters: int
    macs: int | None


@dataclass(frozen=True)
class Cost:
    """What a host costs.

    Attributes:
        host: The name of its class.
        modalities: Its inputs.
        parameters: All of the host's, plugins that only act in training left out.
        training_only: How many of these inference does not use: auxiliary heads and decoders.
        branches: Modality to the number of parameters of its own path.
        macs: Multiply-accumulates of one sample with all modalities, in eval mode; None where the size of the input is
            not known. It is that of the test data, else that of the training data.
        input: Modality to the shape of one sample, [C, H, W] or [C, D, H, W]; None where it is not known.
        parts: What it consists of, as deep as was asked for.
    """

    host: str
    modalities: tuple[str, ...]
    parameters: int
    training_only: int
    branches: dict[str, int]
    macs: int | None
    input: Shapes | None
    parts: tuple[Part, ...] = ()


def host_cost(cfg: Config, depth: int = 0) -> Cost:
    """Count the parameters and multiply-accumulates of a config's host.

    A multiply-accumulate is half of what torch's own counter calls a floating point operation: matrix products,
    convolutions and attention, as papers count them, and neither norms, activations nor interpolation. It sees every
    operator below the modules and runs without memory; counters that hook modules (thop) miss the products that a host
    calls as functions, and those that trace (fvcore) need real tensors.

    Nothing is read: the data set is not built, pretrained weights are not loaded, and parameters and inputs live on the
    ``meta`` device. Only a host whose code looks at values takes memory and time, on the CPU. Structural plugins are
    attached, others do not exist at inference.

    Args:
        cfg: The config.
        depth: How deep to list parts: 1 gives encoders, decoder and heads, 2 also what these consist of, and so on.
            Lists and dicts of modules are no level of their own.

    Raises:
        InputError: A config that can not work, as far as it shows without data.
        NameNotFound: An unknown part.
    """
    light = _without_training(cfg)
    try:
        with torch.device('meta'):
            host = build_host(light)
    except RuntimeError:  # its constructor looks at values, as `.item()` does
        host = build_host(light)
    try:
        return _count(host.to('meta'), cfg, depth)
    except RuntimeError:  # so does its forward, or it uses an operator without a meta form
        return _count(build_host(light), cfg, depth)


def cost_key(cfg: Config) -> str:
    """What `host_cost` depends on: it need not count two configs of the same key.

    Raises:
        InputError: A config that can not work, as far as it shows without building anything.
        NameNotFound: An unknown plugin.
    """
    return json.dumps([_without_training(cfg).to_dict(), _test_data(cfg), _training_data(cfg)], default=str)


def _without_training(cfg: Config) -> Config:
    check_config(cfg)
    model = without_weights(cfg.model)
    model.pop('data_preprocessor', None)  # costs nothing here, and checks its numbers, which the meta device has not
    light = Config({'model': model, 'plugins': list(cfg.get('plugins') or [])})
    keep_structural(light)
    return light


def without_weights(model: Any) -> Any:
    """A copy of a model's config, nested to any depth, in which nothing is pretrained.

    >>> without_weights({'encoder': [{'model': 'resnet18', 'pretrained': True}]})
    {'encoder': [{'model': 'resnet18', 'pretrained': False}]}
    """
    if isinstance(model, Mapping):
        return {k: NO_WEIGHTS[k] if k in NO_WEIGHTS else without_weights(v) for k, v in model.items()}
    if isinstance(model, (list, tuple)):
        return [without_weights(v) for v in model]
    return model


def input_shapes(cfg: Mapping[str, Any], host: MultimodalHost) -> Shapes | None:
    """The shape of one sample of each modality as the test data deliver it, from the config alone.

    The size is that of the last transform that gives one (`Resize`, `RandomCrop`, `LetterBox`, `RandomAffine`), else
    the argument ``size`` of the data set, else this argument's default, else the class's attribute ``size``, else the
    host's sliding window: one number for all sides, a sequence (H, W) or (D, H, W), or a mapping of one of these for
    each modality. What is no picture has a size of its own (`MultimodalDataset.own_sizes`). Channels are
    ``host.in_chans``, else the data set's ``all_channels``.

    Returns:
        Modality to [C, H, W] or [C, D, H, W], of a text [C, L]; None where the config does not say it.

    Raises:
        NameNotFound: An unknown data set or transform.
        InputError: A size that is none.
    """
    if (dataset := _test_data(cfg)) is None:
        return None
    cls = DATASETS.find(dataset.get('type', ''))
    if (size := _delivered_size(dataset, cls)) is None:
        size = getattr(host, 'window', None)
    channels = getattr(host, 'in_chans', None) or getattr(cls, 'all_channels', {})
    arguments = {k: v for k, v in dataset.items() if k != 'type'}
    apart = cls.own_sizes(**arguments) if hasattr(cls, 'own_sizes') else {}
    shapes = {}
    for m in host.modalities:
        own = apart.get(m) or (size.get(m) if isinstance(size, Mapping) else size)
        c = channels.get(m) if isinstance(channels, Mapping) else channels
        if own is None or c is None:
            return None
        sides = [own] * getattr(cls, 'spatial_dims', 2) if isinstance(own, int) else own
        if not isinstance(sides, Sequence) or not all(isinstance(s, int) and s > 0 for s in sides):
            raise InputError(f'The size of {m} must be a whole number above 0 or a sequence of these, got {own!r}.')
        shapes[m] = [c, *sides]
    return shapes


def _test_data(cfg: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The config of the test data, else of those that there are."""
    loaders = [cfg.get(f'{stage}_dataloader') for stage in ('test', 'val', 'train')]
    dataset = next((loader['dataset'] for loader in loaders if loader and loader.get('dataset')), None)
    return {'type': dataset} if isinstance(dataset, str) else dataset


def _training_data(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A config of its training data only."""
    return {'train_dataloader': {'dataset': (cfg.get('train_dataloader') or {}).get('dataset')}}


def _delivered_size(dataset: Mapping[str, Any], cls: type) -> Any:
    for transform in reversed(dataset.get('transforms') or ()):
        if isinstance(transform, Mapping) and transform.get('size') is not None:
            kind = TRANSFORMS.find(transform['type'])
            if inspect.isclass(kind) and issubclass(kind, Geometry):  # other sizes are none of the picture's
                return transform['size']
    if 'size' in dataset:
        return dataset['size']
    argument = inspect.signature(cls).parameters.get('size')
    default = getattr(cls, 'size', None) if argument is None else argument.default
    return default if isinstance(default, (int, Sequence, Mapping)) else None  # a class may have a property `size`


def _count(host: MultimodalHost, cfg: Mapping[str, Any], depth: int) -> Cost:
    # images of any size are tested as they are: what is published then is the cost of a training crop
    shapes = input_shapes(cfg, host) or input_shapes(_training_data(cfg), host)
    macs, by_module = (None, None) if shapes is None else _macs(host.eval(), shapes, depth > 0)
    return Cost(
        host=type(host).__name__,
        modalities=host.modalities,
        parameters=_numbers(host.parameters()),  # after the pass: lazy layers have a size now
        training_only=_numbers(host.training_only()),
        branches={m: _numbers(host.branch(m)) for m in host.modalities},
        macs=macs,
        input=shapes,
        parts=tuple(_parts(host, depth, by_module)),
    )


def _parts(module: nn.Module, depth: int, by_module: Mapping[str, int] | None, prefix: str = '') -> Iterator[Part]:
    if not depth or not (children := dict(module.named_children())):
        return
    for name, parameter in module.named_parameters(recurse=False):
        yield Part(prefix + name, parameter.numel(), None if by_module is None else 0)
    for name, child in children.items():
        if not any(True for _ in child.parameters()):
            continue
        inner = depth
        if not isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            macs = None if by_module is None else _macs_of(child, prefix + name, by_module)
            yield Part(prefix + name, _numbers(child.parameters()), macs)
            inner -= 1
        yield from _parts(child, inner, by_module, f'{prefix}{name}.')


def _macs_of(module: nn.Module, name: str, by_module: Mapping[str, int]) -> int:
    """Those of its calls, or of what it consists of, which others may call."""
    inner = sum(_macs_of(child, f'{name}.{n}', by_module) for n, child in module.named_children())
    return max(by_module.get(name, 0), inner)


def _macs(host: MultimodalHost, shapes: Shapes, alone: bool) -> tuple[int, dict[str, int]]:
    """Those of one sample; and of each module that was called, with ``alone`` also for the unimodal predictions."""
    from torch.utils.flop_counter import FlopCounterMode

    inputs = {m: _example(shape, host.device) for m, shape in shapes.items()}
    with torch.no_grad(), countable_attention(), FlopCounterMode(display=False) as counter:
        host(inputs)
        total, by_module = counter.get_total_flops() // 2, _by_module(counter)
        if alone and 'unimodal' in host.offers:
            host.unimodal(host.run(host.make_batch(inputs)))
            by_module = _by_module(counter) | by_module  # what the first pass called was called once more
    return total, by_module


def _example(shape: Sequence[int], device: torch.device) -> Tensor:
    """Zeros (1, *shape), of a text as the integers that it consists of."""
    return torch.zeros(1, *shape, device=device, dtype=torch.int64 if len(shape) == 2 else torch.float32)


def _by_module(counter: Any) -> dict[str, int]:
    counts = counter.get_flop_counts()
    return {name.partition('.')[2]: sum(counts[name].values()) // 2 for name in counts if '.' in name}


@contextmanager
def countable_attention() -> Iterator[None]:
    """In eval mode torch runs a transformer layer as one fused operator, and on a CPU attention as another; its own
    counter takes both for nothing."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _numbers(parameters: Iterator[nn.Parameter]) -> int:
    return sum(p.numel() for p in dict.fromkeys(parameters))
