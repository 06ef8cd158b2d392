"""OGM-GE: slow the leading modality down, and put the noise back that a smaller step takes away."""

import math
from collections.abc import Sequence

import torch
from mmengine import dist
from torch import Tensor
from torch.optim import Optimizer

from registry import PLUGINS, InputError
from zoo.batch import Batch, Outputs
from zoo.host import MultimodalHost

from .scaling import BranchScaler, own_parameters


def modulation_coefficients(scores: Tensor | Sequence[float], alpha: float) -> Tensor:
    """Factor for each branch's gradient (Peng et al., CVPR 2022, arXiv:2203.15332, Eq. 10).

    ``rho_m = s_m / mean_{j != m} s_j`` is how far a modality leads; ``k_m = 1 - tanh(alpha * rho_m)`` where
    ``rho_m > 1``, else 1. For two modalities these are the paper's ratios. The jump at ``rho = 1`` is the paper's; at
    an exact tie, where its code damps the first modality, we damp none.

    >>> modulation_coefficients([20., 10.], alpha=0.1)
    tensor([0.8026, 1.0000], dtype=torch.float64)

    Args:
        scores: (M,) confidence of each modality alone, at least 0, M >= 2.
        alpha: Strength, at least 0.

    Returns:
        (M,) float64 in [0, 1]. Some entry is always 1; all are where all scores are 0. Where only one modality has a
        score above 0, its factor is 0 (for ``alpha > 0``).

    Raises:
        InputError: ``scores`` is not (M,) or has a negative or non-finite entry, or ``alpha`` is negative.
    """
    _check_alpha(alpha)
    scores = torch.as_tensor(scores, dtype=torch.float64).detach()
    if scores.ndim != 1 or len(scores) < 2:
        raise InputError(f'scores must hold one value for each of at least two modalities: {tuple(scores.shape)}.')
    if not (scores.isfinite() & (scores >= 0)).all():
        raise InputError(f'scores must be finite and not negative, got {scores.tolist()}.')
    return _modulation(scores, torch.ones_like(scores, dtype=torch.bool), alpha)[0]


def _modulation(scores: Tensor, seen: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """k and rho of `modulation_coefficients`, unchecked and without synchronisation.

    Args:
        scores: (M,).
        seen: (M,) bool; the others stay out of the means and get k = 1, and with fewer than two all do.
        alpha: Strength.
    """
    others = seen[None] & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)  # (M, M)
    total = scores.expand_as(others).masked_fill(~others, 0).sum(1)  # not `sum - own`: rounding would break exact ties
    rho = scores * others.sum(1) / total
    leads = seen & (seen.sum() > 1) & (rho > 1)
    bounded = rho.clamp(max=torch.finfo(rho.dtype).max)  # 0 * inf would be no number
    return (1 - torch.tanh(alpha * bounded)).masked_fill(~leads, 1), rho


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha < math.inf:
        raise InputError(f'alpha must be finite and not negative, got {alpha!r}.')


@PLUGINS.register_module()
class OGMGE(BranchScaler):
    """On-the-fly gradient modulation with generalisation enhancement (Peng et al., CVPR 2022, arXiv:2203.15332).

    The score of a modality is the mean probability that its own prediction (`MultimodalHost.unimodal`) gives to the
    true class, over the samples that have it. In ``on_gradients`` the leading branches are scaled by
    `modulation_coefficients`, then every selected gradient gets Gaussian noise of its own unscaled standard deviation,
    also where the factor is 1.

    Where we deviate from the paper or its code:

    * any number of modalities: a modality is compared with the mean of the others;
    * absent samples do not count, nor do those without anything to score; a modality that the whole window lacks keeps
      factor 1;
    * weights of any layer are modulated, not only convolutions: transformer branches would be skipped. ``min_ndim=4``
      is the code's choice for a convolutional branch;
    * ``alpha`` has a default, so that the name alone is enough on a command line;
    * dense tasks average the probability over valid pixels;
    * the noise comes from an own generator, alike on all ranks: gradients are already exchanged.

    A constant factor cancels under Adam-type optimisers, the noise does not; see `BranchScaler`.

    Args:
        alpha: Strength, at least 0. The paper has no default; its code's example uses 0.3, its results 0.1 (VGGSound)
            and 0.8 (CREMA-D).
        start_epoch: First epoch, from 0, in which it acts.
        end_epoch: Last epoch in which it acts, included.
        noise: Add the noise; without it this is OGM.
        seed: Changes the noise of runs that share their seed.
        min_ndim: Parameters with fewer dimensions are left alone (with ``apply='grad'``).
        apply: ``'grad'``, or ``'lr'`` (without noise, which a rate would scale too).
        name: See `Plugin`.

    Raises:
        InputError: A value outside its range, or ``apply='lr'`` with noise.
    """

    needs = frozenset({'unimodal'})

    def __init__(
        self,
        alpha: float = 0.3,
        start_epoch: int = 0,
        end_epoch: int = 50,
        noise: bool = True,
        *,
        seed: int = 0,
        min_ndim: int = 2,
        apply: str = 'grad',
        name: str | None = None,
    ) -> None:
        super().__init__(apply, name)
        _check_alpha(alpha)
        if not 0 <= start_epoch <= end_epoch:
            raise InputError(f'start_epoch must be from 0 to end_epoch = {end_epoch}, got {start_epoch}.')
        if min_ndim < 0:
            raise InputError(f'min_ndim must not be negative, got {min_ndim}.')
        if apply == 'lr' and noise:
            raise InputError("apply='lr' needs noise=False: the rate would scale the noise too.")
        self.alpha, self.start_epoch, self.end_epoch, self.noise = alpha, start_epoch, end_epoch, noise
        self.seed, self.min_ndim = seed, min_ndim
        self._window: Tensor | None = None  # (2, M): sum of scores and count since the last step
        self._drawn: Tensor | None = None  # where noise is drawn

    def attach(self, host: MultimodalHost) -> None:
        """Check that the host can score a modality alone."""
        super().attach(host)
        if type(host).true_class_probability is MultimodalHost.true_class_probability:
            raise InputError(
                f'{self.name} needs a task with classes, but {type(host).__name__} has no true_class_probability.'
            )

    def acts(self, host: MultimodalHost) -> bool:
        """Whether this epoch is inside the window."""
        return self.start_epoch <= host.clock.epoch <= self.end_epoch

    @torch.no_grad()
    def on_losses(
        self, host: MultimodalHost, batch: Batch, outputs: Outputs, losses: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Score each modality."""
        if not self.acts(host):
            return losses
        batch = batch.view(host.modalities)
        with host.aside():  # auxiliary heads may hold norm layers and dropout
            predictions = host.unimodal(outputs)
        if predictions is None:
            raise InputError(f'{self.name} needs unimodal predictions, but this {type(host).__name__} gives none.')
        scores = torch.stack([host.true_class_probability(predictions[m], batch) for m in host.modalities], 1)
        here = batch.mask & ~scores.isnan()  # a sample may have nothing to score: no valid pixel, no box
        sums = torch.stack((scores.masked_fill(~here, 0).sum(0), here.sum(0)))
        self._window = sums if self._window is None else self._window + sums
        return losses

    @torch.no_grad()
    def on_gradients(self, host: MultimodalHost, optimizer: Optimizer) -> None:
        """Scale the branches, then add the noise."""
        window, self._window = self._window, None
        if not self.acts(host) or window is None:
            return
        dist.all_reduce(window)
        sums, count = window
        scores = sums / count.clamp(min=1)
        factors, rho = _modulation(scores, count > 0, self.alpha)
        spreads = self._spreads(host) if self.noise else []  # of the unscaled gradients
        self.scale(host, optimizer, factors)
        self._add_noise(host, spreads)
        self.log(host.modalities, score=scores, rho=rho.nan_to_num(1.0), k=factors)  # alone, it is at par

    def _spreads(self, host: MultimodalHost) -> list[tuple[list[Tensor], list[Tensor]]]:
        """For each branch its gradients of more than one element, and their standard deviations (0-dim)."""
        found = []
        for parameters in own_parameters(host, self.min_ndim).values():
            if grads := [p.grad for p in parameters if p.grad is not None and p.numel() > 1]:
                spread = torch.stack([g.std() for g in grads])
                found.append((grads, list((spread + 1e-8).masked_fill(~spread.isfinite(), 0).unbind())))
        return found

    def _add_noise(self, host: MultimodalHost, spreads: list[tuple[list[Tensor], list[Tensor]]]) -> None:
        """Add normal noise of these standard deviations, alike on all ranks."""
        if not spreads:
            return
        device = spreads[0][0][0].device
        generator = self.generator(host, device, shared=True)
        generator.manual_seed((generator.initial_seed() + self.seed) % 2**63)
        largest = max(sum(g.numel() for g in grads) for grads, _ in spreads)
        if self._drawn is None or len(self._drawn) < largest or self._drawn.device != device:
            self._drawn = torch.empty(largest, device=device)  # kept: fresh pages cost a CPU as much as the drawing
        for grads, spread in spreads:
            sizes = [g.numel() for g in grads]
            drawn = torch.randn(sum(sizes), generator=generator, device=device, out=self._drawn[: sum(sizes)])
            noise = [n.view_as(g).to(g) for n, g in zip(drawn.split(sizes), grads)]
            torch._foreach_addcmul_(grads, noise, spread)
