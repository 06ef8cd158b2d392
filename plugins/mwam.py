"""MWAM: modalities rich in low frequencies dominate, so their branches or their losses get less weight."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine import dist
from torch import Tensor
from torch.optim import Optimizer

from registry import PLUGINS, InputError, nearest
from zoo.batch import Batch, Outputs
from zoo.host import MultimodalHost

from .frequency import check_metric, check_rank, frequency_ratio, frequency_sums, terms_per_sample
from .scaling import BranchScaler

__all__ = ['MWAM', 'allocation_weights', 'frequency_ratio']

MODES = ('gradient', 'loss', 'hybrid')
READINGS = ('paper', 'code')
METRIC = ('patch_size', 'block_size', 'sigma', 'rule', 'guard', 'compat')  # what the values in a bank depend on


def allocation_weights(
    frm: Tensor | Sequence[float],
    alpha: float = 1.5,
    beta: float = 1.0,
    gamma: float = 0.7,
    lam: float = 6.0,
    sigma: float = 1e-6,
) -> Tensor:
    """Weight of each modality from its frequency ratio (MWAM, Eqs. 5 and 6).

    ``T_m = F_m / (mean_c F_c + sigma)`` and ``K_m = alpha - beta * sigmoid(lam * (T_m - gamma))``: a larger ratio never
    gets a larger weight. With the paper's constants perfectly balanced modalities get 0.642 each, not 1; ``gamma=1``
    gives 1.

    >>> allocation_weights([2., 3., 4.])
    tensor([1.0498, 0.6419, 0.5219], dtype=torch.float64)

    Args:
        frm: (M,) frequency ratios, at least 0, M >= 2.
        alpha: Upper bound of K; above ``beta``.
        beta: Width of the range of K; above 0.
        gamma: The T at which K is in the middle of its range.
        lam: Steepness; above 0.
        sigma: Keeps the division finite; above 0.

    Returns:
        (M,) float64 in ``[alpha - beta, alpha)``; ones where all ratios are 0.

    Raises:
        InputError: ``frm`` is not (M,), has a negative or non-finite entry, or a constant is outside its range.
    """
    _check_allocation(alpha, beta, gamma, lam, sigma)
    frm = torch.as_tensor(frm, dtype=torch.float64).detach()
    if frm.ndim != 1 or len(frm) < 2:
        raise InputError(f'frm must hold one value for each of at least two modalities, got shape {tuple(frm.shape)}.')
    if not (frm.isfinite() & (frm >= 0)).all():
        raise InputError(f'frm must be finite and not negative, got {frm.tolist()}.')
    return _weights(frm, frm, torch.ones_like(frm, dtype=torch.bool), alpha, beta, gamma, lam, sigma)[0]


def _weights(
    value: Tensor, banked: Tensor, seen: Tensor, alpha: float, beta: float, gamma: float, lam: float, sigma: float
) -> tuple[Tensor, Tensor]:
    """K and T of :func:`allocation_weights`, unchecked: the step's form, in which nothing leaves the device.

    Args:
        value: (M,) numerators of T.
        banked: (M,) whose mean is the denominator.
        seen: (M,) bool; the others stay out of the mean and get K = 1.

    Returns:
        (M,) K and (M,) T. K is 1 for all with fewer than two modalities seen, or a mean of exactly 0.
    """
    count = seen.sum()
    mean = banked.masked_fill(~seen, 0).sum() / count.clamp(min=1)
    share = value / (mean + sigma)
    k = alpha - beta * torch.sigmoid(lam * (share - gamma))
    return k.masked_fill(~(seen & (count > 1) & (mean != 0)), 1), share


def _check_allocation(alpha: float, beta: float, gamma: float, lam: float, sigma: float) -> None:
    """Refuse arguments of :func:`allocation_weights` that are outside their range."""
    if not beta > 0:
        raise InputError(f'beta must be above 0, got {beta!r}.')
    if not alpha > beta:
        raise InputError(f'alpha must be above beta = {beta!r}, got {alpha!r}: weights would not be positive.')
    if not -math.inf < gamma < math.inf:
        raise InputError(f'gamma must be finite, got {gamma!r}.')
    if not lam > 0:
        raise InputError(f'lam must be above 0, got {lam!r}: a larger ratio must get a smaller weight.')
    if not 0 < sigma < math.inf:
        raise InputError(f'sigma must be above 0, got {sigma!r}.')


@PLUGINS.register_module()
class MWAM(BranchScaler):
    """Multimodal Weight Allocation Module: weights modalities by how much low frequency their inputs hold.

    At each step the frequency ratio of each modality's clean inputs (`frequency_ratio`) updates its bank, a running
    value (Eq. 2), and the banks become one weight K for each modality (`allocation_weights`), which by ``mode`` weights

    * ``'gradient'`` (Alg. 1): the gradients, or rates, of the modality's branch;
    * ``'loss'`` (Eq. 7): ``loss_task + sum_m K_m * loss_aux_m``, where ``loss_aux_m`` is the host's own auxiliary loss
      or, where it has none, its task loss on `MultimodalHost.unimodal`;
    * ``'hybrid'``: both, so that a branch gets K twice on the auxiliary part.

    Where we deviate from the paper or its code:

    * the bank holds the mean over all summed terms, not the sum, which would rank modalities by their number of pixels.
      ``compat='code'`` banks sums, compares the current ratio with the mean of the banks, and starts the banks at 0.
      With ``gamma=1, lam=10, guard=False`` it is the step of the official code, whose constants are not the paper's;
    * the division is guarded against its pole, see `frequency_ratio`; ``guard=False`` is the paper's form;
    * absent samples do not count. A modality without any in a step keeps its bank, and one never seen gets K = 1, as do
      all while fewer than two have been seen;
    * a ratio that is not finite leaves the bank as it is; one warning at the end of the epoch.

    Worth knowing: the ratio depends on the data and their normalisation, not on the model, so under a fixed pipeline K
    varies around a constant. Its running mean is logged (``K_mean``): compare with `StaticWeights`. With the paper's
    ``gamma=0.7`` perfectly balanced modalities get K = 0.642 each; with ``gamma=1`` they get 1. A constant factor on
    gradients cancels under Adam-type optimisers, see `BranchScaler`.

    Args:
        patch_size: See `frequency_ratio`.
        block_size: See `frequency_ratio`.
        sigma: See `frequency_ratio`; the same number guards the division of Eq. 6.
        rule: See `frequency_ratio`; the weight of ``'weighted'`` is the paper's 0.9.
        momentum: Weight of the bank's history, in [0, 1).
        alpha: See `allocation_weights`, as for the next three.
        beta: Width of the range of K.
        gamma: The share at which K is in the middle of its range.
        lam: Steepness.
        mode: ``'gradient'``, ``'loss'`` or ``'hybrid'``.
        guard: See `frequency_ratio`.
        apply: ``'grad'`` or ``'lr'``, see `BranchScaler`; not used by ``mode='loss'``.
        compat: ``'paper'``, or ``'code'`` as said above.
        name: See `Plugin`.

    Raises:
        InputError: A value outside its range.
    """

    looks = frozenset({'on_inputs'})  # the ratio is that of the clean inputs

    def __init__(
        self,
        patch_size: int = 8,
        block_size: int = 2,
        sigma: float = 1e-6,
        rule: str = 'ratio',
        momentum: float = 0.5,
        alpha: float = 1.5,
        beta: float = 1.0,
        gamma: float = 0.7,
        lam: float = 6.0,
        mode: str = 'gradient',
        *,
        guard: bool = True,
        apply: str = 'grad',
        compat: str = 'paper',
        name: str | None = None,
    ) -> None:
        super().__init__(apply, name)
        check_metric(patch_size, block_size, sigma, rule)
        _check_allocation(alpha, beta, gamma, lam, sigma)
        if not 0 <= momentum < 1:
            raise InputError(f'momentum must be in [0, 1), got {momentum!r}.')
        for argument, value, known in (('mode', mode, MODES), ('compat', compat, READINGS)):
            if value not in known:
                raise InputError(f'{argument} must be one of {", ".join(known)}, got {value!r}.{nearest(value, known)}')
        self.arguments = dict(
            patch_size=patch_size,
            block_size=block_size,
            sigma=sigma,
            rule=rule,
            momentum=momentum,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            lam=lam,
            mode=mode,
            guard=guard,
            apply=apply,
            compat=compat,
        )
        self.metric = dict(patch_size=patch_size, block_size=block_size, sigma=sigma, rule=rule, guard=guard)
        self.allocation = dict(alpha=alpha, beta=beta, gamma=gamma, lam=lam, sigma=sigma)
        self.momentum, self.mode, self.literal = momentum, mode, compat == 'code'
        self.scales = mode != 'loss'
        if mode != 'gradient':
            self.needs = frozenset({'unimodal'})
        self._window: Tensor | None = None  # (2, M) of this rank: sum of the terms and their number since the last step
        self._reduced: Tensor | None = None  # the same over all ranks, where `on_losses` has needed it

    def attach(self, host: MultimodalHost) -> None:
        """Make the state: one entry for each modality."""
        super().attach(host)
        self.modalities = host.modalities
        zeros = torch.zeros(len(host.modalities), dtype=torch.float64)
        self.register_buffer('bank', zeros.clone())  # (M,) running frequency ratio
        self.register_buffer('seen', zeros.bool())  # (M,) whether the bank holds a value
        self.register_buffer('updates', zeros.long())  # (M,) how often it was updated
        self.register_buffer('means', zeros.repeat(3, 1))  # (3, M) means of K, T and F over these updates
        self.register_buffer('failures', zeros.long(), persistent=False)  # (M,) ratios that were not finite

    @torch.no_grad()
    def on_inputs(self, host: MultimodalHost, batch: Batch) -> Batch:
        """Add this batch's terms to the window."""
        measured = self._measure(batch.view(host.modalities))
        self._window = measured if self._window is None else self._window + measured
        return batch

    def on_losses(
        self, host: MultimodalHost, batch: Batch, outputs: Outputs, losses: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Eq. 7."""
        if self.mode == 'gradient':
            return losses
        self._reduced = _over_ranks(self._window)
        k = self._decide(self._reduced)['K']
        batch = batch.view(host.modalities)
        keys = [f'loss_aux_{m}' for m in host.modalities]
        predictions = None
        if any(key not in losses for key in keys) and (predictions := host.unimodal(outputs)) is None:
            raise InputError(
                f'{self.name} with mode={self.mode!r} needs unimodal predictions, but this {type(host).__name__} gives '
                "none: mode='gradient' works without."
            )
        weighted = {}
        for i, (m, key) in enumerate(zip(host.modalities, keys)):
            auxiliary = losses[key] if key in losses else host.unimodal_loss(predictions[m], batch, batch.present[:, i])
            weighted[key] = k[i].to(auxiliary.dtype) * auxiliary
        return {**losses, **weighted}

    @torch.no_grad()
    def on_gradients(self, host: MultimodalHost, optimizer: Optimizer) -> None:
        """Commit the window to the bank and scale the branches."""
        total = _over_ranks(self._window) if self._reduced is None else self._reduced
        self._window = self._reduced = None
        if total is None:
            return
        decided = self._decide(total)
        fresh = decided.pop('fresh')
        self.bank.copy_(decided['bank'])
        self.seen |= fresh
        self.updates += fresh
        self.failures += (total[1] > 0) & ~fresh
        now = torch.stack([decided[key] for key in 'KTF'])
        self.means.copy_(torch.where(fresh, self.means + (now - self.means) / self.updates.clamp(min=1), self.means))
        if self.scales:
            self.scale(host, optimizer, decided['K'])
        means = {f'{key}_mean': mean for key, mean in zip('KTF', self.means)}
        self.log(host.modalities, **decided, **means)

    def after_train_epoch(self, runner: Any) -> None:
        """Say once that some ratios were not finite: looking at each step would wait for the device."""
        if failures := {m: n for m, n in zip(self.modalities, self.failures.tolist()) if n}:
            self.warn_once(
                'failures',
                f'{self.name}: the frequency ratio was not finite, steps by modality: {failures}. NaN inputs?',
            )

    def get_extra_state(self) -> dict[str, Any]:
        """The order of the modalities and what the bank's values depend on, as plain types."""
        return {'modalities': list(getattr(self, 'modalities', ())), 'arguments': dict(self.arguments)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Warn where the loaded bank was measured in another way."""
        saved = state['arguments']
        if changed := [k for k in METRIC if k in saved and saved[k] != self.arguments[k]]:
            listed = ', '.join(f'{k} was {saved[k]!r}, is {self.arguments[k]!r}' for k in changed)
            self.warn_once('arguments', f'{self.name}: the loaded bank was measured otherwise: {listed}.')

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if (extra := state_dict.get(f'{prefix}_extra_state')) is not None:
            saved = extra['modalities']
            if sorted(saved) != sorted(self.modalities):
                raise InputError(
                    f'{self.name} was saved for the modalities {", ".join(saved)}, the host has '
                    f'{", ".join(self.modalities)}.'
                )
            order = [saved.index(m) for m in self.modalities]
            keys = [prefix + name for name in ('bank', 'seen', 'updates', 'means')]
            state_dict = {**state_dict, **{k: state_dict[k][..., order] for k in keys if k in state_dict}}
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable, recurse: bool = True) -> 'MWAM':
        def convert(tensor: Tensor) -> Tensor:
            try:
                return fn(tensor)
            except TypeError:  # a device without float64 refuses the bank
                if tensor.dtype is not torch.float64:
                    raise
                return fn(tensor.float())

        return super()._apply(convert, recurse)

    def _measure(self, batch: Batch) -> Tensor:
        """(2, M): the sum of the terms of all samples present, and their number."""
        inputs = {m: batch.inputs[m] for m in batch.modalities if m in batch.inputs}
        for m, x in inputs.items():
            if not x.is_floating_point():
                raise InputError(f'{self.name} needs inputs of floating point; {m!r} is {x.dtype}.')
            check_rank(x, self.metric['patch_size'], f'The input {m!r}')
        sums = self._sums(inputs)
        terms = {
            m: terms_per_sample(x.shape, self.metric['patch_size'], self.metric['block_size'])
            for m, x in inputs.items()
        }
        mask, nothing = batch.mask, next(iter(sums.values())).new_zeros(())
        here = dict(zip(batch.modalities, mask.unbind(1)))
        value = [sums[m].masked_fill(~here[m], 0).sum() if m in sums else nothing for m in batch.modalities]
        count = [here[m].sum() * terms[m] if m in sums else nothing for m in batch.modalities]
        return torch.stack((torch.stack(value), torch.stack(count).to(nothing)))

    def _sums(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """(B,) for each modality. On a GPU those of one shape share their kernels, whose launch is what costs there."""
        groups: dict[Any, list[str]] = {}
        for m, x in inputs.items():
            groups.setdefault((x.shape, x.dtype) if x.is_cuda else m, []).append(m)
        sums = {}
        for names in groups.values():
            x = torch.cat([inputs[m] for m in names]) if len(names) > 1 else inputs[names[0]]
            sums.update(zip(names, frequency_sums(x, **self.metric).view(len(names), len(x) // len(names))))
        return sums

    @torch.no_grad()
    def _decide(self, total: Tensor) -> dict[str, Tensor]:
        """What a window (2, M) leads to, without committing it: each (M,)."""
        value, count = total
        ratio = value if self.literal else value / count.clamp(min=1)
        fresh = (count > 0) & ratio.isfinite()
        bank = _bank(self.bank, ratio, self.seen, fresh, self.momentum, soft=self.literal)
        ratio = torch.where(fresh, ratio, bank)
        k, share = _weights(ratio if self.literal else bank, bank, self.seen | fresh, **self.allocation)
        return {'K': k, 'T': share, 'F': ratio, 'bank': bank, 'fresh': fresh}


def _bank(bank: Tensor, ratio: Tensor, seen: Tensor, fresh: Tensor, momentum: float, soft: bool) -> Tensor:
    """Eq. 2, each (M,): the first value enters in full, or with ``soft`` as if the bank had been 0 before."""
    moved = momentum * bank + (1 - momentum) * ratio
    return torch.where(fresh, moved if soft else torch.where(seen, moved, ratio), bank)


def _over_ranks(window: Tensor | None) -> Tensor | None:
    if window is None:
        return None
    total = window.clone()
    dist.all_reduce(total)
    return total
