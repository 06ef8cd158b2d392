"""AutoAttack: several attacks one after the other, each on the samples that still stand."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from registry import ATTACKS, InputError, unknown_name
from zoo.host import MultimodalHost

from .apgd import TARGETED
from .attack import Attack
from .problem import Problem

VERSIONS = {'standard': ('apgd-ce', 'apgd-t', 'fab-t', 'square'), 'rand': ('apgd-ce', 'apgd-dlr')}
DRAWS = 20  # of 'rand'
LEAST_CLASSES = {'apgd-dlr': 3, 'apgd-t': 4}


@ATTACKS.register_module()
class AutoAttack(Attack):
    """The parameter-free ensemble of Croce & Hein (ICML 2020): the worst case of its members for each sample.

    ``'standard'`` is APGD-CE, APGD-T, FAB-T and Square, in this order; ``'rand'``, for hosts that draw at random,
    APGD-CE and APGD-DLR with gradients averaged over 20 draws. A member runs on the samples that stand after those
    before it. Members that need more classes than the host has are left out; `name` says what ran, and is
    ``autoattack-standard`` or ``autoattack-rand`` only if all did.

    Args:
        eps: See `Attack`.
        version: ``'standard'`` or ``'rand'``.
        members: Some of ``'apgd-ce'``, ``'apgd-dlr'``, ``'apgd-t'``, ``'fab-t'``, ``'square'``, instead of a version.
        options: Member to arguments of its attack that differ from the published ones: fewer steps or queries for a
            first look. The name then says so, too.
        modalities: See `Attack`.
        bounds: See `Attack`.
        eot: See `Attack`; None for 20 of ``'rand'`` and 1 otherwise.

    Raises:
        InputError: A value outside its range, or an option that a member does not take.
        NameNotFound: Another version or member.
    """

    per_sample = True

    def __init__(
        self,
        eps: float | Mapping[str, float] = 4 / 255,
        version: str = 'standard',
        members: Sequence[str] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        modalities: Sequence[str] | None = None,
        bounds: Any = (0, 1),
        eot: int | None = None,
    ) -> None:
        if version not in VERSIONS:
            raise unknown_name('version of AutoAttack', version, VERSIONS)
        usual = DRAWS if version == 'rand' and members is None else 1
        super().__init__(eps, modalities, bounds, usual if eot is None else eot)
        known = dict.fromkeys(m for names in VERSIONS.values() for m in names)
        self.version, self.options = version, {k: dict(v) for k, v in (options or {}).items()}
        self.members = (members,) if isinstance(members, str) else tuple(members or VERSIONS[version])
        for m in (*self.members, *self.options):
            if m not in known:
                raise unknown_name('member of AutoAttack', m, known)
        self.attacks = {m: self._build(m) for m in self.members}
        self.left_out: tuple[str, ...] = ()

    def _build(self, member: str) -> Attack:
        given = {'eps': self.eps, 'modalities': self.modalities, 'bounds': self.bounds}
        if member != 'square':
            given['eot'] = self.eot
        if member.startswith('apgd-'):
            given['loss'] = {'apgd-t': TARGETED}.get(member, member.removeprefix('apgd-'))
        options = self.options.get(member, {})
        if taken := [k for k in options if k in given]:
            raise InputError(f'{taken[0]} is no option of the member {member}: AutoAttack sets it.')
        return ATTACKS.build({'type': {'square': 'Square', 'fab-t': 'FAB'}.get(member, 'APGD'), **given, **options})

    @property
    def name(self) -> str:
        """``autoattack-<version>``, or the members that ran: ``apgd-ce+fab-t+square``."""
        ran = [m for m in self.members if m not in self.left_out]
        whole = tuple(ran) == VERSIONS[self.version] and not self.options
        whole &= self.version != 'rand' or self.eot >= DRAWS
        changed = {m: f'{m}({", ".join(f"{k}={v}" for k, v in self.options[m].items())})' for m in self.options}
        return f'autoattack-{self.version}' if whole else '+'.join(changed.get(m, m) for m in ran)

    def perturb(self, problem: Problem) -> Tensor:
        """The worst case of the members."""
        classes = [t.logits.shape[1] for t in problem.tasks() if t.logits.shape[2] == 1]
        if not classes:
            raise InputError(f'AutoAttack needs class labels, which {type(problem.host).__name__} does not predict.')
        self.left_out = tuple(m for m in self.members if min(classes) < LEAST_CLASSES.get(m, 2))
        return problem.worst_of([a.perturb for m, a in self.attacks.items() if m not in self.left_out])

    def check_host(self, host: MultimodalHost) -> None:
        """Also those of the members."""
        super().check_host(host)
        for attack in self.attacks.values():
            attack.check_host(host)
