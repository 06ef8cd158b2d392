"""Where distillation reads a host: features of one modality or of all, before or behind an activation."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from registry import InputError, unknown_name
from zoo.batch import Outputs
from zoo.host import MultimodalHost

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish)
PLACES = ('pre_activation', 'features', 'fused')
STEMS = ('act1', 'bn1', 'conv_stem', 'stem')
WIDTHS = ('out_channels', 'num_features', 'out_features')


class Place:
    """One point of a host at which features are read in every pass.

    Args:
        host: What is read; `MultimodalHost.tap` is asked for what it does not give by itself.
        modality: Whose features; None for what is fused.
        name: ``'pre_activation'``, what the rectifier that ends the modality's encoder is given, averaged over all
            places where the encoder gives vectors; ``'features'``, what the encoder gives; ``'fused'``, what the fusion
            block gives; of pyramids each time the coarsest map; or the path of a module, whose output it is. None takes
            ``'pre_activation'``, else ``'features'``, of a modality, and ``'fused'`` without one.
        who: Of messages: ``'student'``, ``'teacher'``.

    Attributes:
        width: D of the features (B, D, ...).

    Raises:
        InputError: The host has no such features.
        NameNotFound: It has no such place: those that it has are named.
    """

    def __init__(self, host: MultimodalHost, modality: str | None, name: str | None, who: str) -> None:
        encoder = find_encoder(host, modality)
        sized = hasattr(encoder, 'out_channels')
        rectifier = last_rectifier(encoder, host.in_chans[modality]) if sized else None
        known = {
            'pre_activation': rectifier is not None,
            'features': sized and host.separable,
            'fused': bool(fusion_blocks(host)),
        }
        if name is None:
            able = [k for k in (PLACES[:2] if modality else PLACES[2:]) if known[k]]
            if not able:
                what = f'n encoder of {modality}' if modality else ' fusion block'
                raise InputError(
                    f'The {who}, {type(host).__name__}, gives no features of a{what} that could be read. Its '
                    f'modules of known width: {", ".join(measured_modules(host)[:12])}.'
                )
            name = able[0]
        self.who, self.modality, self.name = who, modality, name
        self.pooled = False
        modules = dict(host.named_modules())
        if known.get(name):
            if name == 'fused':
                self.width = fusion_blocks(host)[-1].out_channels
            else:
                widths = encoder.out_channels
                self.width = int(widths[-1] if isinstance(widths, Sequence) else widths)
                self.pooled = not isinstance(widths, Sequence)
        elif name in modules and (width := module_width(modules[name])) is not None:
            self.width = width
        else:
            places = [k for k, there in known.items() if there]
            modules = measured_modules(host)
            near = [m for m in modules if m.endswith(f'.{name}')] or get_close_matches(name, modules, 5)
            raise unknown_name(f'place to read the {who} (or module of known width)', name, [*places, *near[:5]])
        self.key = None
        if name == 'pre_activation':
            self.key = f'pre_activation of {modality}'
            host.tap(self.key, rectifier)
        elif name not in PLACES:
            self.key = name
            host.tap(name, modules[name], output=True)

    def read(self, outputs: Outputs) -> Tensor:
        """The features of a pass: (B, D), (B, D, L) of tokens (B, L, D), or (B, D, H, W), of maps (B, H, W, D) too.

        Raises:
            InputError: The pass did not come by, or gave features of another width.
        """
        if self.key is not None:
            x = outputs.features.tapped.get(self.key)
            if x is None:
                raise InputError(
                    f'The pass of the {self.who} gave nothing at {self.name!r}: the module was not called.'
                )
            if self.name == 'pre_activation' and self.pooled and x.ndim > 2:
                x = x.flatten(2).mean(2)
        else:
            x = coarsest(outputs.extras.get('fused') if self.name == 'fused' else outputs.features[self.modality])
        fits = [i for i in (1, -1) if isinstance(x, Tensor) and x.ndim > 1 and x.shape[i] == self.width]
        if not fits or (x.ndim == 3 and fits == [1, -1]):  # tokens or places, who knows
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f'The {self.who} gives {found} at {self.name!r}, where {self.width} channels are expected along one '
                'axis.'
            )
        return x if fits[0] == 1 else x.movedim(-1, 1)

    @property
    def encoded(self) -> bool:
        """Whether features are there once a batch is encoded, before anything is fused."""
        return self.name in PLACES[:2]


class Stages:
    """All stages of a modality's encoder: its pyramid, or what timm takes for the stages of a model that pools.

    Args:
        host: What is read.
        modality: Whose encoder.
        who: Of messages.

    Attributes:
        width: The channels of each stage, finest first.
        encoded: As in `Place`.

    Raises:
        InputError: There are no stages that give maps.
    """

    encoded = True

    def __init__(self, host: MultimodalHost, modality: str | None, who: str) -> None:
        encoder = find_encoder(host, modality)
        self.modality, self.keys = modality, []
        widths = getattr(encoder, 'out_channels', None)
        model = getattr(getattr(encoder, 'encoder', encoder), 'model', None)  # of each frame
        if isinstance(widths, Sequence) and host.separable:
            maps = probe(encoder, host.in_chans[modality])
            self.width = list(widths)
        else:
            # the stem has no stage of its own
            info = getattr(model, 'feature_info', None)
            info = [s for s in info if s['module'].split('.')[0] not in STEMS] if isinstance(info, list) else []
            names = dict(model.named_modules()) if info else {}
            stages = {s['module']: names[s['module']] for s in info if s['module'] in names}
            maps = probe(encoder, host.in_chans[modality], list(stages.values())) if stages else None
            self.width = [s['num_chs'] for s in info]
            for name, module in stages.items():
                self.keys.append(f'{name} of {modality}')
                host.tap(self.keys[-1], module, output=True)
        maps = [x for x in maps or () if x is not None]
        if [x.shape[1] if x.ndim == 4 else 0 for x in maps] != self.width or not self.width:
            which = 'one modality' if encoder is None else modality
            raise InputError(f'The {who}, {type(host).__name__}, has no encoder of {which} whose stages give maps.')

    def read(self, outputs: Outputs) -> list[Tensor]:
        """Maps (B, C_i, H_i, W_i), finest first."""
        tapped = outputs.features.tapped
        maps = [tapped[k] for k in self.keys] or outputs.features[self.modality]
        return [x for x in maps if x is not None]


def coarsest(value: Any) -> Any:
    """The last map of a pyramid that is there."""
    if isinstance(value, (list, tuple)):
        return next((x for x in reversed(value) if x is not None), None)
    return value


def find_encoder(host: MultimodalHost, modality: str | None) -> nn.Module | None:
    """The encoder of one modality, where the host has one."""
    return dict(getattr(host, 'encoders', {}).items()).get(modality)


def last_rectifier(encoder: nn.Module, in_chans: int) -> nn.Module | None:
    """The rectifier that ends an encoder: that after the last addition of a ResNet, the ReLU6 of a MobileNetV2. None
    where none does, as in transformers, and pyramids of blocks that end without one.

    It is found by a pass: its result has to be that of the encoder, averaged over all places of a vector.
    """
    found = [m for m in encoder.modules() if isinstance(m, RECTIFIERS)]
    if not found:
        return None
    seen = probe(encoder, in_chans, found[-1:], inputs=True)
    if seen is None:
        return None
    whole, given = seen
    result = coarsest(whole)
    with torch.no_grad():
        x = type(found[-1]).forward(found[-1], given.clone())
    x = x.flatten(2).mean(2) if result.ndim == 2 and x.ndim > 2 else x
    return found[-1] if x.shape == result.shape and torch.allclose(x, result, 1e-4, 1e-5) else None


def probe(
    encoder: nn.Module, in_chans: int, modules: Sequence[nn.Module] = (), inputs: bool = False
) -> list[Any] | None:
    """Run an encoder in eval mode on noise, without a trace.

    Args:
        encoder: Of images.
        in_chans: Its channels.
        modules: What is noted.
        inputs: Note what they are given, and what the encoder gives before that; else what they give.

    Returns:
        What was noted; without modules the maps of the encoder. None where it does not take images of usual sizes, or
        a module was not called.
    """
    noted: dict[int, Any] = {}
    handles = []
    for i, m in enumerate(modules):
        if inputs:
            handles.append(m.register_forward_pre_hook(lambda _, args, i=i: noted.update({i: args[0].clone()})))
        else:
            handles.append(m.register_forward_hook(lambda _, args, y, i=i: noted.update({i: y})))
    parameter = next(encoder.parameters())
    modes = {m: m.training for m in encoder.modules()}
    try:
        encoder.eval()
        for size in ((64, 96), (224, 224)):
            x = torch.randn(2, in_chans, *size, device=parameter.device, dtype=parameter.dtype)
            try:
                with torch.no_grad():
                    result = encoder(x)
            except (RuntimeError, ValueError, AssertionError, TypeError):
                continue
            if len(noted) < len(modules):
                return None
            found = [noted[i] for i in range(len(modules))]
            return [result, *found] if inputs else found or list(result)
        return None
    finally:
        for m, training in modes.items():
            m.training = training
        for handle in handles:
            handle.remove()


def fusion_blocks(host: MultimodalHost) -> list[nn.Module]:
    """The fusion blocks of a host whose width is known, coarsest last."""
    blocks = getattr(host, 'fusions', None)
    blocks = list(blocks.values()) if isinstance(blocks, nn.ModuleDict) else []
    return [b for b in (*blocks, getattr(host, 'fusion', None)) if hasattr(b, 'out_channels')]


def module_width(module: nn.Module) -> int | None:
    """The width of what a module gives, as it or its last submodule that says so declares it; None where none does."""
    for m in (module, *reversed(list(module.modules()))):
        for name in WIDTHS:
            value = getattr(m, name, None)
            value = value[-1] if isinstance(value, (list, tuple)) and value else value
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


def measured_modules(host: MultimodalHost) -> list[str]:
    """Paths of modules that can be read, the upper ones first."""
    paths = [k for k, m in host.named_modules() if k and not k.startswith('plugins') and module_width(m) is not None]
    return sorted(paths, key=lambda k: k.count('.'))
