"""Decode heads of mmsegmentation on fused feature maps."""

import inspect
import logging
import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from registry import HEADS, InputError

SEVERAL = 'multiple_select'  # what mmseg calls a head that takes a list of maps


@HEADS.register_module()
class MmsegHead(nn.Module):
    """A decode head of mmsegmentation: maps -> logits (B, K, h, w) of the size of the maps it works on.

    ``head=dict(type='mmseg.ASPPHead', channels=256, dilations=(1, 6, 12, 18))`` in a host's config means this class.
    Only the network is used: the loss is the host's (``loss_decode`` is refused), and logits are resized by the host.

    Args:
        head: Name of the head: ASPPHead, DepthwiseSeparableASPPHead, FCNHead, PSPHead, UPerHead, SegformerHead, ...
        in_channels: Width of each map, finest first.
        reductions: Size of the input over that of each map.
        num_classes: K.
        in_index: Which maps it takes, as in mmseg: one index, or a list for heads of several maps. The last one by
            default, all of them where the head or ``input_transform`` takes several.
        norm_cfg: Norm layers; batch normalisation by default, as in mmseg's own configs.
        kwargs: Those of the head in mmseg.

    Raises:
        NameNotFound: mmseg has no such head.
        InputError: Arguments that it does not take.
    """

    def __init__(
        self,
        head: str,
        in_channels: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        in_index: int | Sequence[int] | None = None,
        norm_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # compiled operators of mmcv that no decode head here needs
            import mmseg.models  # noqa: F401  registers its heads
        from mmseg.registry import MODELS

        if 'loss_decode' in kwargs:
            raise InputError(f"loss_decode of mmseg.{head}: give it to the host, as loss=dict(type='mmseg.DiceLoss').")
        if in_index is None:
            cls = MODELS.module_dict.get(head)
            several = cls is not None and SEVERAL in inspect.getsource(cls.__init__)
            in_index = list(range(len(in_channels))) if several or 'input_transform' in kwargs else -1
        try:
            chosen = in_channels[in_index] if isinstance(in_index, int) else [in_channels[i] for i in in_index]
        except (IndexError, TypeError):
            raise InputError(
                f'in_index of mmseg.{head} must choose of {len(in_channels)} maps, got {in_index!r}.'
            ) from None
        self.head = HEADS.build(
            {
                'type': f'mmseg.{head}',
                'in_channels': chosen,
                'in_index': in_index,
                'num_classes': num_classes,
                'norm_cfg': norm_cfg or dict(type='BN'),
                'channels': 256,
                'loss_decode': dict(type='CrossEntropyLoss', avg_non_ignore=True),
                **kwargs,
            }
        )
        del self.head.loss_decode
        logging.disable(logging.INFO)  # it logs each parameter
        self.head.init_weights()  # as mmseg's own models are initialised
        logging.disable(logging.NOTSET)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps, finest first -> logits (B, K, h, w)."""
        logits = self.head(maps)
        return logits[0] if isinstance(logits, (list, tuple)) else logits  # some heads add auxiliary predictions
