"""Where distillation reads a host: features of one modality or of all, before or behind an activation."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from registry import InputError, unknown_name
from zoo.batch import Outputs
from zoo.host import MultimodalHost

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish)
PLACES = ('pre_activation', 'features', 'fused')
WIDTHS = ('out_channels', 'num_features', 'out_features')


class Place:
    """One point of a host at which features are read in every pass.

    Args:
        host: What is read; `MultimodalHost.tap` is asked for what it does not give by itself.
        modality: Whose features; None for what is fused.
        name: ``'pre_activation'``, what the last rectifier of the modality's encoder is given, averaged over all places
            where the encoder gives vectors; ``'features'``, what the encoder gives; ``'fused'``, what the fusion block
            gives; of pyramids each time the coarsest map; or the path of a module, whose output it is. None takes
            ``'pre_activation'``, else ``'features'``, of a modality, and ``'fused'`` without one.
        who: Of messages: ``'student'``, ``'teacher'``.

    Attributes:
        width: D of the features (B, D, ...).

    Raises:
        InputError: The host has no such features.
        NameNotFound: It has no such place: those that it has are named.
    """

    def __init__(self, host: MultimodalHost, modality: str | None, name: str | None, who: str) -> None:
        encoder = dict(getattr(host, 'encoders', {}).items()).get(modality)
        rectifier = last_rectifier(encoder)
        known = {
            'pre_activation': rectifier is not None,
            'features': encoder is not None and hasattr(encoder, 'out_channels'),
            'fused': bool(fusion_blocks(host)),
        }
        if name is None:
            able = [k for k in (PLACES[:2] if modality else PLACES[2:]) if known[k]]
            if not able:
                what = f'encoder of {modality}' if modality else 'fusion block'
                raise InputError(
                    f'The {who}, {type(host).__name__}, has no {what} of known width. Its modules of known width: '
                    f'{", ".join(measured_modules(host)[:12])}.'
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
        """The features of a pass: (B, D), (B, D, L) of tokens (B, L, D), or (B, D, H, W).

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
        if not isinstance(x, Tensor) or x.ndim < 2 or self.width not in (x.shape[1], x.shape[-1]):
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f'The {self.who} gives {found} at {self.name!r}, where {self.width} channels are expected.'
            )
        return x

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
        encoder = dict(getattr(host, 'encoders', {}).items()).get(modality)
        self.modality, self.keys = modality, []
        widths = getattr(encoder, 'out_channels', None)
        info = getattr(getattr(encoder, 'model', None), 'feature_info', None)
        if isinstance(widths, Sequence):
            self.width = list(widths)
        elif isinstance(info, list) and all(hasattr(encoder.model, s['module'].split('.')[0]) for s in info):
            # the stem has no stage of its own
            stages = [s for s in info if s['module'].split('.')[0] not in ('act1', 'bn1', 'conv_stem', 'stem')]
            self.width = [s['num_chs'] for s in stages]
            for s in stages:
                self.keys.append(f'{s["module"]} of {modality}')
                host.tap(self.keys[-1], encoder.model.get_submodule(s['module']), output=True)
        else:
            what = f'encoder of {modality} without known stages' if encoder is not None else 'encoder of one modality'
            raise InputError(f'The {who}, {type(host).__name__}, has {what if encoder is not None else f"no {what}"}.')

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


def last_rectifier(encoder: nn.Module | None) -> nn.Module | None:
    """The last rectifier among the modules of an encoder: that after the last addition of a ResNet, the ReLU6 that ends
    a MobileNetV2; None where there is none, as in transformers."""
    found = [m for m in encoder.modules() if isinstance(m, RECTIFIERS)] if encoder is not None else []
    return found[-1] if found else None


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
