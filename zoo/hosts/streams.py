"""Encoders that are taken stage by stage, because something happens between their stages."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from registry import InputError
from zoo.batch import Batch
from zoo.host import MultimodalHost
from zoo.rows import Rows


class Streams:
    """The encoders of a host (``host.encoders``, with ``steps``) under way on one batch, each on the rows that
    ``host.encode_on`` names.

    Without training and gradients, an encoder whose modality no row has does not run.

    Args:
        host: The host.
        batch: Its own.

    Attributes:
        rows: Modality to its rows.
        idle: The modalities whose encoders do not run.
        zeroed: Whether all rows are zero behind a stage that lack the modality.
    """

    def __init__(self, host: MultimodalHost, batch: Batch) -> None:
        dense = host.encode_on == 'dense' or torch.compiler.is_compiling()
        seen = batch.available if host.encode_on == 'all' and host.training else batch.present
        self.zeroed = host.encode_on == 'present' and not dense
        self.encoders, self.taps = host.encoders, host.taps
        self.states: dict[str, Tensor] = {}
        self.rows: dict[str, Rows] = {}
        for i, m in enumerate(host.modalities):
            x = batch.inputs[m]
            if dense:
                x = x.where(batch.mask[:, i, None, None, None], x.new_zeros(()))
            self.rows[m] = Rows(None if dense else seen[:, i], x.device, len(batch))
            self.states[m] = self.rows[m].take(x)
        skips = not (dense or host.training or torch.is_grad_enabled())
        self.idle = {m for m in host.modalities if skips and not self.rows[m].count}
        self.steps = {m: e.steps for m, e in host.encoders.items() if m not in self.idle}

    def advance(self, stage: int) -> dict[str, Tensor]:
        """Run a stage of each encoder: modality to its map (B, C, h, w), zero in the rows that are not encoded."""
        for m, steps in self.steps.items():
            self.states[m] = self.rows[m].run(steps[stage], self.states[m])
            self.taps.restore(self.rows[m].put, len(self.states[m]))
        whole = {m: self.rows[m].put(self.states[m]) for m in self.steps}
        for m in self.idle:
            x = next(iter(whole.values()))
            whole[m] = x.new_zeros(()).expand(len(x), self.encoders[m].out_channels[stage], *x.shape[2:])
        return whole

    def go_on(self, modality: str, x: Tensor) -> None:
        """Let an encoder go on from another map (B, C, h, w) than its own."""
        if modality not in self.idle:
            self.states[modality] = self.rows[modality].take(x)


def check_steps(host: MultimodalHost, instead: str) -> None:
    """Refuse encoders without ``steps``.

    Args:
        host: With ``encoders``.
        instead: What else there is, a sentence.

    Raises:
        InputError: Names the first of them.
    """
    for m, e in host.encoders.items():
        if getattr(e, 'steps', None) is None:
            raise InputError(
                f'{type(host).__name__} fuses between the stages of its encoders, and that of {m} '
                f'({getattr(e, "name", type(e).__name__)}) can not be taken stage by stage. ResNetNBt1D, ERLAEncoder, '
                f'timm ResNets, ConvNeXts, Swin transformers and MobileNets can; {instead}'
            )


def stages(encoders: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The stages of encoders, which are called one by one; of those that are only a row of modules, these."""
    for encoder in encoders:
        own = {id(m) for m in encoder.modules()}
        for step in encoder.steps:
            yield from [step] if id(step) in own else step.children()
