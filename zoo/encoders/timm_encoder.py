"""Any model of timm as the encoder of one modality."""

import os
from pathlib import Path
from typing import Any

import timm
from timm.models import load_state_dict
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
        if not timm.is_model(model):
            raise unknown_name('timm model', model, timm.list_models())
        arguments = dict(pretrained=bool(pretrained), in_chans=in_chans, num_classes=0, **kwargs)
        if isinstance(pretrained, (str, os.PathLike)):
            # with the classifier gone and declared so, timm loads strictly: else any file would do, and change nothing
            overlay = {'state_dict': _read(model, Path(pretrained)), 'num_classes': 0}
            arguments.update(pretrained=True, pretrained_cfg_overlay=overlay)
        try:
            self.model = _create(model, arguments)
        except (OSError, RuntimeError) as error:
            if not pretrained:
                raise
            raise InputError(
                f'Pretrained weights of {model} could not be loaded ({_brief(error)}). '
                'Use pretrained=False, or pretrained=FILE for weights that are on disk.'
            ) from error
        getattr(self.model, 'pretrained_cfg', {}).pop('state_dict', None)  # a second copy of the weights
        # some heads widen the pooled features (MobileNetV3)
        self.out_channels: int = getattr(self.model, 'head_hidden_size', None) or self.model.num_features

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, out_channels)."""
        return self.model(x)


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
    if 'dynamic_img_size' not in arguments:
        try:
            return timm.create_model(model, dynamic_img_size=True, **arguments)
        except TypeError:  # only the transformers of timm know the argument
            pass
    try:
        return timm.create_model(model, **arguments)
    except TypeError as error:
        raise InputError(f'The timm model {model} can not be built: {error}.') from None


def _brief(error: Exception) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f'{text[:300]} ...'
