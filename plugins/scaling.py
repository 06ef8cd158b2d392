"""What plugins share that make some branches learn slower or faster than others."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from registry import InputError, PluginWarning, nearest
from zoo.host import MultimodalHost

from .plugin import Plugin

FORMS = ('grad', 'lr')


class BranchScaler(Plugin):
    """Scales what each modality's own branch learns; heads, fusion and parameters in two branches stay untouched.

    ``'grad'`` multiplies gradients, after clipping on purpose: a factor then acts in full and equals ``'lr'`` under
    plain SGD. Adam-type optimisers divide a constant factor out: there only its fluctuation acts, and ``'lr'``, which
    multiplies the learning rate for this step, is the form that works. It needs parameter groups that lie inside one
    branch (`zoo.engine.parameter_groups` makes them) and something that puts the rates back after the step
    (`zoo.engine.BranchOptimWrapper` does). A rate that is a float costs one read-back of the factors for each step; one
    that is a tensor costs none.

    Args:
        apply: ``'grad'`` or ``'lr'``.
        name: See `Plugin`.

    Raises:
        InputError: Another ``apply``.
    """

    min_ndim = 0  # gradients with fewer dimensions are left alone
    scales = True

    def __init__(self, apply: str = 'grad', name: str | None = None) -> None:
        super().__init__(name)
        if apply not in FORMS:
            raise InputError(f'apply must be one of {", ".join(FORMS)}, got {apply!r}.{nearest(apply, FORMS)}')
        self.form = apply
        object.__setattr__(self, '_warned', set())

    def extra_repr(self) -> str:
        """Which form is on."""
        return f'apply={self.form!r}'

    def attach(self, host: MultimodalHost) -> None:
        """Check that every branch has parameters to scale."""
        super().attach(host)
        if not self.scales:
            return
        branches = own_parameters(host, self.min_ndim)
        if empty := [m for m, parameters in branches.items() if not parameters]:
            able = ', '.join(m for m in branches if m not in empty) or 'none'
            raise InputError(
                f'{self.name} has no parameters of its own to scale in the branch of {", ".join(empty)} '
                f'(host {type(host).__name__}, min_ndim={self.min_ndim}). Branches that have: {able}.'
            )
        if others := [p.name for p in host.plugins.values() if isinstance(p, BranchScaler) and p.scales]:
            self.warn_once(
                'others',
                f'{" and ".join([*others, self.name])} scale the same branches: their factors multiply. One that adds '
                'noise should come last, or the others scale its noise too.',
            )

    def scale(self, host: MultimodalHost, optimizer: Optimizer, factors: Tensor | Sequence[float]) -> None:
        """Multiply gradients, or this step's rates, by one factor for each modality, (M,) in the host's order.

        Raises:
            InputError: ``apply='lr'``, and a parameter group mixes a branch with other parameters.
        """
        if self.form == 'lr':
            return scale_rates(host, optimizer, factors)
        if 'SGD' not in type(optimizer).__name__:
            self.warn_once(
                'adaptive',
                f'{self.name} scales gradients, which {type(optimizer).__name__} normalises away where it is constant: '
                "apply='lr' scales the rates instead.",
            )
        for parameters, factor in zip(own_parameters(host, self.min_ndim).values(), factors):
            if grads := [p.grad for p in parameters if p.grad is not None]:
                torch._foreach_mul_(grads, factor.to(grads[0].dtype) if isinstance(factor, Tensor) else factor)
        return None

    def warn_once(self, key: str, message: str) -> None:
        """Warn, the first time only."""
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(message, PluginWarning, stacklevel=3)


def own_parameters(host: MultimodalHost, min_ndim: int = 0) -> dict[str, list[nn.Parameter]]:
    """The parameters of each branch that are in no other one and have at least ``min_ndim`` dimensions."""
    branches = {m: list(host.branch(m)) for m in host.modalities}
    owners: dict[nn.Parameter, int] = {}
    for parameters in branches.values():
        for parameter in parameters:
            owners[parameter] = owners.get(parameter, 0) + 1
    return {m: [p for p in ps if owners[p] == 1 and p.ndim >= min_ndim] for m, ps in branches.items()}


def scale_rates(host: MultimodalHost, optimizer: Optimizer, factors: Tensor | Sequence[float]) -> None:
    """Multiply the rate of every parameter group that lies inside one branch; whoever steps puts the rates back.

    Factors on a device stay there where the group's rate is a tensor or its optimiser is fused (``fused=True``); any
    other optimiser of torch's needs numbers, for which this waits for the device, once.

    Raises:
        InputError: A group mixes a branch with other parameters.
    """
    owner = {p: i for i, parameters in enumerate(own_parameters(host).values()) for p in parameters}
    numbers = None
    for group in optimizer.param_groups:
        inside = {owner.get(p) for p in group['params']}
        if inside == {None} or not inside:
            continue
        if len(inside) > 1:
            names = ', '.join('shared' if i is None else host.modalities[i] for i in inside)
            raise InputError(
                f"apply='lr' needs parameter groups that lie inside one branch, but one group mixes {names}. "
                'zoo.engine.parameter_groups(host) makes such groups.'
            )
        (i,) = inside
        if isinstance(factors, Tensor) and (isinstance(group['lr'], Tensor) or group.get('fused')):
            alike = group['lr'] if isinstance(group['lr'], Tensor) else torch.float32
            group['lr'] = group['lr'] * factors[i].to(alike)  # a new tensor: groups may share the old one
            continue
        if numbers is None:
            numbers = factors.tolist() if isinstance(factors, Tensor) else factors
        group['lr'] = group['lr'] * numbers[i]
