"""What to attack: the rows that a user asks for, and how people write them."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import torch

from registry import ATTACKS, InputError, unknown_name
from zoo.attacks import Attack
from zoo.host import MultimodalHost

from .config import parse_plugin
from .sweep import Subset, parse_subsets

CLEAN = 'clean'


@dataclass(frozen=True)
class Trial:
    """One row of the result.

    Attributes:
        present: The modalities that the host has.
        attacked: Those of them that are perturbed.
        attack: As the user wrote it, ``'PGD'``, ``'APGD(loss=dlr)'``; ``'clean'`` for none.
        eps: See `zoo.attacks.Attack`.
        steps: Of attacks that have some.
        eot: Draws for each gradient, of attacks that take some.
    """

    present: Subset
    attacked: Subset = ()
    attack: str = CLEAN
    eps: float = 0.0
    steps: int | None = None
    eot: int | None = None

    def plain(self) -> dict[str, Any]:
        """Its values as JSON has them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def build(self, bounds: Mapping[str, Any]) -> Attack | None:
        """The attack.

        Raises:
            InputError: Arguments that it does not take.
            NameNotFound: No such attack.
        """
        if self.attack == CLEAN:
            return None
        given = {'eps': self.eps, 'steps': self.steps, 'eot': self.eot, 'modalities': self.attacked}
        given['bounds'] = {m: bounds[m] for m in self.attacked}
        return ATTACKS.build({k: v for k, v in given.items() if v is not None} | parse_plugin(self.attack))


def plan(
    modalities: Sequence[str],
    subsets: Sequence[Subset],
    attacks: Sequence[str],
    eps: Sequence[float],
    steps: Sequence[int] = (),
    attacked: str = 'all,each',
    eot: Sequence[int] = (1,),
) -> list[Trial]:
    """The rows that these choices ask for: clean ones first, then weak attacks before strong ones.

    Args:
        modalities: Which can be attacked.
        subsets: What is present, see `parse_subsets`.
        attacks: Expressions such as ``'PGD'`` and ``'APGD(loss=dlr)'``.
        eps: Strengths; 0 is the clean row, which is always there.
        steps: Of attacks that have some; their own default when empty.
        attacked: ``'all'`` present modalities together, ``'each'`` alone, and subsets by name; several with commas.
            Where a subset is not present it is left out.
        eot: Draws for each gradient, of attacks that take some.

    Raises:
        InputError: An expression that is none, or one that names what these arguments do.
        NameNotFound: An unknown attack or modality.
    """
    if wrong := [e for e in eps if not 0 <= e < math.inf]:
        raise InputError(f'eps must be a finite number of at least 0, got {wrong[0]!r}.')
    trials = [Trial(s) for s in subsets]
    for expression in attacks:
        config = parse_plugin(expression)
        takes = inspect.signature(ATTACKS.find(config['type'])).parameters
        for key in ('eps', 'modalities', 'bounds'):
            if key in config:
                raise InputError(f'{expression}: {key} is not an argument of single attacks here, use the flag.')
        lengths = list(steps) if steps and 'steps' in takes and 'steps' not in config else [None]
        draws = list(eot) if 'eot' in takes and 'eot' not in config else [None]
        for present in subsets:
            for chosen in _attacked(attacked, present, modalities):
                for n in draws:
                    for length in lengths:
                        trials += [Trial(present, chosen, expression, e, length, n) for e in eps if e > 0]
    return list(dict.fromkeys(trials))


def _attacked(wanted: str, present: Subset, modalities: Sequence[str]) -> list[Subset]:
    found: list[Subset] = []
    for item in wanted.split(','):
        own = tuple(m for m in present if m in modalities)
        if item.strip() == 'all':
            found.append(own)
        elif item.strip() == 'each':
            found += [(m,) for m in own]
        else:
            found += [s for s in parse_subsets([item], modalities) if set(s) <= set(own)]
    return [s for s in dict.fromkeys(found) if s]


def ranges_of(host: MultimodalHost, data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The range of each modality: as given, else by the type of the data.

    Raises:
        NameNotFound: A modality that the host does not have.
    """
    for m in given:
        if m and m not in host.modalities:
            raise unknown_name('modality (in bounds)', m, host.modalities)
    found = {}
    for m in host.modalities:
        eight_bits = m in data['inputs'] and data['inputs'][m].dtype == torch.uint8
        found[m] = given.get(m, given.get('', (0, 255) if eight_bits else (0, 1)))
    return found


def parse_numbers(text: str, kind: Callable[[str], Any], flag: str) -> list[Any]:
    """Numbers with commas, fractions allowed.

    >>> parse_numbers('0,1/255', lambda t: float(Fraction(t)), '--eps')
    [0.0, 0.00392156862745098]

    Raises:
        InputError: Something else.
    """
    try:
        return [kind(item.strip()) for item in text.split(',')]
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f'{flag} takes numbers such as {"1,5,10" if kind is int else "0,4/255,0.1"}, got {text!r}.'
        ) from None


def parse_bounds(pairs: Sequence[str]) -> dict[str, tuple[float, float] | None]:
    """``['0,255', 'depth=0,10000', 'ir=none']`` -> modality, '' for all, to its range.

    Raises:
        InputError: Something else.
    """
    found: dict[str, tuple[float, float] | None] = {}
    for pair in pairs:
        name, _, text = pair.rpartition('=')
        if text.lower() == 'none':
            found[name] = None
            continue
        ends = parse_numbers(text, fraction, '--bounds')
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise InputError(f'--bounds takes LOW,HIGH or MODALITY=LOW,HIGH or none, got {pair!r}.')
        found[name] = (ends[0], ends[1])
    return found


def fraction(text: str) -> float:
    """``'4/255'`` and ``'0.1'`` as numbers."""
    return float(Fraction(text))


def short(eps: float) -> str:
    """A strength as people write it.

    >>> short(4 / 255), short(0.1)
    ('4/255', '0.1')
    """
    whole = eps * 255
    return f'{round(whole)}/255' if eps and abs(whole - round(whole)) < 1e-6 else f'{eps:.4g}'
