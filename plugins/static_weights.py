"""StaticWeights: one fixed factor for each branch, the control that every dynamic weighting has to beat."""

import math
from collections.abc import Mapping

from torch.optim import Optimizer

from registry import PLUGINS, InputError, unknown_name
from zoo.host import MultimodalHost

from .scaling import BranchScaler


@PLUGINS.register_module()
class StaticWeights(BranchScaler):
    """Scales the gradients or the learning rate of each branch by a fixed factor.

    Args:
        factors: Modality to a factor, at least 0; 1 for those that are not named. 0 with ``apply='lr'`` stops a branch
            completely, with ``'grad'`` weight decay and momentum go on.
        apply: ``'grad'`` or ``'lr'``, see `BranchScaler`.
        name: See `Plugin`.

    Raises:
        InputError: A factor is negative or not finite.
    """

    def __init__(self, factors: Mapping[str, float], apply: str = 'grad', name: str | None = None) -> None:
        super().__init__(apply, name)
        if not isinstance(factors, Mapping):
            raise InputError(f'factors must map modalities to numbers, got {factors!r}.')
        if wrong := {m: f for m, f in factors.items() if not 0 <= f < math.inf}:
            raise InputError(f'factors must be finite and not negative, got {wrong}.')
        self.factors = {m: float(f) for m, f in factors.items()}

    def attach(self, host: MultimodalHost) -> None:
        """Check that the factors name modalities of the host."""
        for m in self.factors:
            if m not in host.modalities:
                raise unknown_name('modality (in factors)', m, host.modalities)
        super().attach(host)

    def on_gradients(self, host: MultimodalHost, optimizer: Optimizer) -> None:
        """Scale each branch."""
        self.scale(host, optimizer, [self.factors.get(m, 1.0) for m in host.modalities])
