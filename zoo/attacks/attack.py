"""What every attack shares: its budget, what it may perturb, and that it leaves no trace on the host."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from registry import InputError, unknown_name
from zoo.batch import Batch
from zoo.host import MultimodalHost

from .problem import Problem, check_inputs

PER_MODALITY = 'one number, or one for each modality'


class Attack:
    """Changes the inputs of a batch by at most ``eps`` in each value (L-infinity), all modalities together.

    ``attack(host, batch)`` returns the batch with the changed inputs. It is crafted on the host in eval mode, with
    autocast and gradients of parameters off; modes, flags, gradients, statistics and random states of the host and the
    process are afterwards what they were. Inputs are those that the host gets, after its preprocessor, by whose scale
    ``eps`` and ``bounds`` are divided. Of absent samples, and in pixels without a measurement, nothing is changed.

    Args:
        eps: The largest change, as a share of the range: 4/255 means four grey values, be the data 0..1 or 0..255. One
            number, or a mapping of modality to its own; one that it does not name stays as it is.
        modalities: Which are perturbed; None for all.
        bounds: The range of valid values on the scale of the data, or a mapping of modality to it. None for no range:
            ``eps`` is then on the scale of the data itself.
        eot: Draws over which losses and gradients are averaged (expectation over transformation, Athalye et al., ICML
            2018): of a host that draws at random.

    Raises:
        InputError: A value outside its range.
    """

    per_sample = False  # it compares losses of single samples

    def __init__(
        self,
        eps: float | Mapping[str, float] = 4 / 255,
        modalities: Sequence[str] | None = None,
        bounds: Sequence[float] | Mapping[str, Sequence[float] | None] | None = (0, 1),
        eot: int = 1,
    ) -> None:
        for value in _values(eps):
            _check_number('eps', value, least=0)
        for pair in _values(bounds):
            if pair is not None and not (_is_pair(pair) and pair[0] < pair[1]):
                raise InputError(f'bounds must be (low, high) with low below high, or None, got {pair!r}.')
        check_count('eot', eot, 1)
        if modalities is not None and not modalities:
            raise InputError('modalities names nothing to attack; None stands for all.')
        self.eps = dict(eps) if isinstance(eps, Mapping) else eps
        self.modalities = (modalities,) if isinstance(modalities, str) else modalities and tuple(modalities)
        self.bounds = dict(bounds) if isinstance(bounds, Mapping) else bounds
        self.eot = eot

    # ---- what an attack defines

    def perturb(self, problem: Problem) -> Tensor:
        """The perturbation of each sample, (B, D) in units of eps, which is then projected to ball and range."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What results call it: what was run, where that depends on the host."""
        return type(self).__name__.lower()

    def by_modality(self) -> dict[str, Any]:
        """The arguments that may be mappings of modality to a value, by name."""
        return {'eps': self.eps, 'bounds': self.bounds}

    # ---- how it is used

    def __call__(
        self, host: MultimodalHost, batch: Batch, generator: torch.Generator | None = None, check: bool = True
    ) -> Batch:
        """Attack a batch.

        Args:
            host: In any mode.
            batch: As the host gets it, with the target whose loss is raised.
            generator: On the CPU; the same one in the same state gives the same attack, and no other random state
                changes. One number is drawn from torch's global state when None.
            check: Look for values that an attack can not take; this waits for the device.

        Raises:
            InputError: Inputs that are not floating point, NaN or outside the range; a host without what it needs.
            NameNotFound: A modality that the host does not have.
        """
        self.check_host(host)
        eps = {m: e for m, e in self._eps(host).items() if e > 0 and m in batch.inputs}
        view = batch.view(host.modalities)
        if batch.target is None:
            raise InputError('An attack raises the loss: the batch needs its target.')
        for m in eps:
            if not view.inputs[m].is_floating_point():
                raise InputError(
                    f'{m} holds {view.inputs[m].dtype} values, which no small change leaves valid: name the '
                    f'modalities to attack (modalities), without {m}.'
                )
        seed = int(torch.randint(2**62, (), generator=generator))
        if not eps:
            return batch
        bounds = {m: self.bounds.get(m, (0, 1)) if isinstance(self.bounds, dict) else self.bounds for m in eps}
        if check:
            check_inputs(host, view, tuple(eps), bounds)
        device = view.device
        with host.aside(training=False), untrained(host), torch.autocast(device.type, enabled=False):
            seed_device(seed, device)  # the draws of the host; `aside` puts the states back
            problem = Problem(host, view, eps, bounds, torch.Generator(device).manual_seed(seed + 1), self.eot)
            d = problem.project(self.perturb(problem).detach())
        changed = {}
        for (m, x), moved in zip(problem.result(d).items(), problem.split(d != 0).values()):
            clean = view.inputs[m]
            changed[m] = x.to(clean.dtype).where(moved, clean)
        return batch.replace(inputs={**batch.inputs, **changed})

    def check_host(self, host: MultimodalHost) -> None:
        """Refuse a host on which the attack can not work.

        Raises:
            InputError: It has no loss of single samples, which the attack needs.
            NameNotFound: A modality that it does not have.
        """
        named = [('modalities', self.modalities or ())]
        named += [(k, v) for k, v in self.by_modality().items() if isinstance(v, dict)]
        for argument, names in named:
            for m in names:
                if m not in host.modalities:
                    raise unknown_name(f'modality (in {argument})', m, host.modalities)
        if self.per_sample and 'sample_losses' not in host.offers:
            raise InputError(
                f'{type(self).__name__} compares losses of single samples, which {type(host).__name__} does not offer. '
                'FGSM, PGD, BIM and MIM do without.'
            )

    def _eps(self, host: MultimodalHost) -> dict[str, float]:
        own = self.eps if isinstance(self.eps, dict) else dict.fromkeys(host.modalities, self.eps)
        return {m: own.get(m, 0) for m in self.modalities or host.modalities}

    def __repr__(self) -> str:
        shown = {k: v for k, v in vars(self).items() if isinstance(v, (int, float, str, dict, tuple, list))}
        return f'{type(self).__name__}({", ".join(f"{k}={v!r}" for k, v in shown.items())})'


def check_count(name: str, value: Any, least: int = 0) -> None:
    """Refuse what is not a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f'{name} must be a whole number of at least {least}, got {value!r}.')


def _check_number(name: str, value: Any, least: float) -> None:
    if not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise InputError(f'{name} must be a finite number of at least {least}, got {value!r}.')


def check_positive(name: str, value: Any) -> None:
    """Refuse what is not a number above 0."""
    if not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InputError(f'{name} must be a number above 0, got {value!r}.')


def _values(given: Any) -> list[Any]:
    return list(given.values()) if isinstance(given, Mapping) else [given]


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value)


@contextmanager
def untrained(module: nn.Module) -> Iterator[None]:
    """No parameter needs a gradient."""
    learning = [p for p in module.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)


def seed_device(seed: int, device: torch.device) -> None:
    """Seed torch's random states of the CPU and of one device."""
    torch.default_generator.manual_seed(seed)
    if device.type == 'cuda':
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
