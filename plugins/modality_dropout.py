"""ModalityDropout: train on incomplete samples, so that a host learns to do without."""

from collections.abc import Mapping

import torch
from torch import Tensor

from registry import PLUGINS, InputError, nearest, unknown_name
from zoo.batch import Batch
from zoo.host import MultimodalHost

from .plugin import Plugin

MODES = ('bernoulli', 'subsets')


@PLUGINS.register_module()
class ModalityDropout(Plugin):
    """Drops modalities of training samples, each sample on its own; every sample keeps at least one.

    Only `Batch.present` is cleared: what the data set delivered stays in `Batch.available`. Which rows an encoder then
    still sees is the host's choice (``encode_on``). Draws follow the run's seed and iteration, so that a resumed run
    repeats them, and differ between ranks.

    Args:
        p: Probability, in [0, 1], with which ``'bernoulli'`` drops each modality of a sample, alike for all or by name
            (0 for those that are not named). Where all would go, one that has the sample is kept: each with the
            same chance when ``p`` is alike.
        mode: ``'bernoulli'``, or ``'subsets'``: what remains is uniform over the non-empty subsets of what the sample
            has (``p`` is not used), as in the SF-MD baseline of MMANet (CVPR 2023).
        name: See `Plugin`.

    Raises:
        InputError: An unknown mode, or a probability outside [0, 1].
    """

    def __init__(self, p: float | Mapping[str, float] = 0.5, mode: str = 'bernoulli', name: str | None = None) -> None:
        super().__init__(name)
        if mode not in MODES:
            raise InputError(f'mode must be one of {", ".join(MODES)}, got {mode!r}.{nearest(mode, MODES)}')
        if not all(0 <= value <= 1 for value in (p.values() if isinstance(p, Mapping) else [p])):
            raise InputError(f'p must be in [0, 1], got {p!r}.')
        self.p = dict(p) if isinstance(p, Mapping) else p
        self.mode = mode

    def attach(self, host: MultimodalHost) -> None:
        """Check that ``p`` names modalities of the host."""
        super().attach(host)
        for m in self.p if isinstance(self.p, dict) else ():
            if m not in host.modalities:
                raise unknown_name('modality (in p)', m, host.modalities)

    def on_inputs(self, host: MultimodalHost, batch: Batch) -> Batch:
        """Clear entries of ``present``, in the host's own columns only."""
        names = [m for m in host.modalities if m in batch.modalities]
        columns = torch.tensor([batch.modalities.index(m) for m in names])
        present = batch.present[:, columns]
        generator = self.generator(host)
        if self.mode == 'subsets':
            kept = keep_subset(present, generator)
        else:
            p = [self.p.get(m, 0.0) for m in names] if isinstance(self.p, dict) else [self.p] * len(names)
            kept = keep_some(present, torch.tensor(p, dtype=torch.float64), generator)
        return batch.replace(present=batch.present.index_copy(1, columns, kept))


def keep_some(present: Tensor, p: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Drop each true entry of ``present`` (B, M) with its column's probability ``p`` (M,), but never a whole row."""
    u = torch.rand(present.shape, generator=generator, dtype=torch.float64)
    lead = torch.where(present, u - p, -2.0)  # the largest survives: among those below 0 by luck alone, if p is alike
    return present & ((lead >= 0) | (lead == lead.amax(1, keepdim=True)))


def keep_subset(present: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Keep a subset of the true entries of each row of ``present`` (B, M), uniform over the non-empty ones."""
    subsets = 2 ** present.sum(1) - 1
    u = torch.rand(len(present), generator=generator, dtype=torch.float64)
    code = 1 + (u * subsets).long()
    position = (present.cumsum(1) - 1).clamp(min=0)
    return present & ((code[:, None] >> position) & 1).bool()
