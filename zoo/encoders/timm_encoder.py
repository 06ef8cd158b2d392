"""Any model of timm as the encoder of one modality: pooled to a vector, or as a pyramid of maps."""

import os
from pathlib import Path
from typing import Any

import timm
from timm.models import FeatureListNet, load_state_dict
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from registry import ENCODERS, InputError, unknown_name


@ENCODERS.register_module()
class TimmEncoder(nn.Module):
    """A timm model without its classifier: (B, in_chans, H, W) -> (B, out_channels).

    Args:
        model: A name that ``timm.list_models()`` knows.
        in_chans: Channels of the input; timm adapts pretrained stems to it.
        pretrained: True fetches the published weights (or takes them from the local cache); a path loads a file.
        kwargs: Passed on to the model, ``drop_path_rate=0.1`` for instance. Vision transformers accept images of any
            size that their patches tile (``dynamic_img_size``) unless told otherwise.

    Attributes:
        out_channels: Width of the features.

    Raises:
        InputError: Weights that can not be fetched or read.
        NameNotFound: timm does not know the model; the nearest names are proposed.
    """

    def __init__(
        self, model: str, in_chans: int = 3, pretrained: bool | str | os.PathLike = False, **kwargs: Any
    ) -> None:
        super().__init__()
        self.model = create_timm(model, in_chans, pretrained, num_classes=0, **kwargs)
        # some heads widen the pooled features (MobileNetV3)
        self.out_channels: int = getattr(self.model, 'head_hidden_size', None) or self.model.num_features

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, out_channels)."""
        return self.model(x)


@ENCODERS.register_module()
class TimmPyramid(nn.Module):
    """A timm model as a pyramid of feature maps: (B, in_chans, H, W) -> a list of (B, C_i, H / r_i, W / r_i).

    Args:
        model: A name that ``timm.list_models()`` knows, of a model that gives feature maps (``features_only``).
        in_chans: Channels of the input; timm adapts pretrained stems to it.
        pretrained: See `TimmEncoder`.
        kwargs: Passed on: ``out_indices=(1, 2, 3, 4)`` chooses maps, ``output_stride=16`` dilates the last stages where
            the architecture allows it, ``img_size=(480, 640)`` fits transformers that are bound to one size.

    Attributes:
        out_channels: Width of each map, finest first.
        reductions: Size of the input over that of each map.
        steps: Modules whose chain gives the maps one after the other; None where the architecture is no such chain.

    Raises:
        InputError: Weights that can not be fetched or read, or a model without feature maps.
        NameNotFound: timm does not know the model; the nearest names are proposed.
    """

    def __init__(
        self, model: str, in_chans: int = 3, pretrained: bool | str | os.PathLike = False, **kwargs: Any
    ) -> None:
        super().__init__()
        self.name = model
        self.model = create_timm(model, in_chans, pretrained, features_only=True, **kwargs)
        self.out_channels: list[int] = self.model.feature_info.channels()
        self.reductions: list[int] = self.model.feature_info.reduction()
        self._last = str(getattr(self.model, 'output_fmt', 'NCHW')).endswith('NHWC')

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) -> maps, finest first."""
        maps = self.model(x)
        return [m.permute(0, 3, 1, 2) for m in maps] if self._last else maps

    @property
    def steps(self) -> list[nn.Module] | None:
        """The stages one by one, each from map to map; their chain gives what `forward` gives."""
        chain = _chain(self.model)
        if chain is None:
            return None
        steps, row = [], []
        for module, gives_map in chain:
            row.append(module)
            if gives_map:
                if self._last:
                    row = [*([_Permute(0, 2, 3, 1)] if steps else []), *row, _Permute(0, 3, 1, 2)]
                steps.append(nn.Sequential(*row))
                steps[-1].training = self.training  # of the wrapper alone: the modules have their own
                row = []
        return steps


def _chain(model: nn.Module) -> list[tuple[nn.Module, bool]] | None:
    """The modules of a feature net in a row, each with whether a map is taken behind it; None where they are no row."""
    if isinstance(model, FeatureListNet):
        return [(module, name in model.return_layers) for name, module in model.items()]
    if isinstance(model, (EfficientNetFeatures, MobileNetV3Features)) and model.feature_hooks is None:
        stages = {info['stage'] for info in model.feature_info.get_dicts()}
        stem = [m for name in ('conv_stem', 'bn1', 'act1') if (m := getattr(model, name, None)) is not None]
        return [
            *((m, False) for m in stem[:-1]),
            (stem[-1], 0 in stages),
            *((block, i in stages) for i, block in enumerate(model.blocks, start=1)),
        ]
    return None


class _Permute(nn.Module):
    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


def create_timm(model: str, in_chans: int, pretrained: bool | str | os.PathLike, **kwargs: Any) -> nn.Module:
    """A timm model without its classifier; see `TimmEncoder` for the arguments and errors."""
    if not timm.is_model(model):
        raise unknown_name('timm model', model, timm.list_models())
    arguments = dict(pretrained=bool(pretrained), in_chans=in_chans, **kwargs)
    if isinstance(pretrained, (str, os.PathLike)):
        # with the classifier gone and declared so, timm loads strictly: else any file would do, and change nothing
        overlay = {'state_dict': _read(model, Path(pretrained)), 'num_classes': 0}
        arguments.update(pretrained=True, pretrained_cfg_overlay=overlay)
    try:
        net = _create(model, arguments)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise InputError(
            f'Pretrained weights of {model} could not be loaded ({_brief(error)}). '
            'Use pretrained=False, or pretrained=FILE for weights that are on disk.'
        ) from error
    getattr(net, 'pretrained_cfg', {}).pop('state_dict', None)  # a second copy of the weights
    return net


def _read(model: str, path: Path) -> dict[str, Tensor]:
    """The weights in a file but for the classifier's, without unpickling anything else."""
    if not path.is_file():
        raise InputError(f'Pretrained weights of {model}: no file {str(path)!r}.')
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # each format has its own
        raise InputError(f'Pretrained weights of {model}: {str(path)!r} can not be read ({_brief(error)}).') from error
    cfg = timm.get_pretrained_cfg(model)
    names = cfg.classifier if cfg is not None and cfg.classifier else ()
    dropped = tuple(f'{name}.' for name in ([names] if isinstance(names, str) else names))
    weights = {k: v for k, v in weights.items() if not k.startswith(dropped)}
    if not weights:
        raise InputError(f'Pretrained weights of {model}: {str(path)!r} holds none.')
    return weights


def _create(model: str, arguments: dict[str, Any]) -> nn.Module:
    # transformers that can take images of any size do so where one of these is said; the others know neither. In this
    # order, since Swin accepted the second before timm 1.0.31, and ignored it
    for defaults in ({'strict_img_size': False, 'dynamic_mask': True}, {'dynamic_img_size': True}):
        if not any(name in arguments for name in (*defaults, 'img_size')):
            try:
                return timm.create_model(model, **defaults, **arguments)
            except TypeError:
                pass
    try:
        return timm.create_model(model, **arguments)
    except (TypeError, AssertionError, AttributeError) as error:
        raise InputError(f'The timm model {model} can not be built: {_brief(error)}.') from None


def _brief(error: Exception) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f'{text[:300]} ...'
