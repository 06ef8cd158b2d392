"""Every combination that the contract tests run, how each is built, and what is done with it."""

import importlib.util
import inspect
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import seeding
import torch
from torch import Tensor

import plugins  # noqa: F401
from registry import FUSIONS, HOSTS, PLUGINS, InputError
from zoo.engine.optim import build_optim_wrapper
from zoo.host import MultimodalHost

RECIPES = Path(__file__).parent.parent / 'recipes'
POOL = ('rgb', 'depth', 'ir', 'flair', 'audio')
COUNTS = (1, 2, 3, 5)
POINTS = ('on_inputs', 'on_features', 'on_losses', 'on_gradients', 'train_step')


@cache
def recipe(name: str) -> ModuleType:
    """``tests/recipes/<name>.py``, else that of the class it derives from, else an empty module."""
    cls = HOSTS.module_dict.get(name) or PLUGINS.module_dict.get(name) or FUSIONS.module_dict.get(name)
    names = [name, *(c.__name__ for c in inspect.getmro(cls or object)[1:])]
    path = next((p for n in names if (p := RECIPES / f'{n}.py').exists()), RECIPES / f'{name}.py')
    module = ModuleType(name)
    if path.exists():
        spec = importlib.util.spec_from_file_location(f'recipe_{name}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def needed(name: str, *attributes: str) -> ModuleType:
    """A recipe that has to be there."""
    module = recipe(name)
    if missing := [a for a in attributes if not hasattr(module, a)]:
        pytest.fail(f'Add a recipe for {name}: tests/recipes/{name}.py lacks {", ".join(missing)} (see its README).')
    return module


def ours(table) -> list[str]:
    """What the project registers; other tests may have registered something too."""
    return sorted(n for n, c in table.module_dict.items() if c.__module__.split('.')[0] in ('zoo', 'plugins'))


@dataclass(frozen=True)
class Case:
    """One combination."""

    host: str
    fusion: str | None
    plugin: str | None = None
    variant: int = 0

    def __str__(self) -> str:
        plugin = f'{self.plugin}{self.variant or ""}' if self.plugin else None
        return '-'.join(filter(None, (self.host, self.fusion, plugin)))

    @property
    def pool(self) -> tuple[str, ...]:
        return getattr(recipe(self.host), 'MODALITIES', POOL)

    def make_plugin(self):
        if self.plugin is None:
            return None
        variants = getattr(recipe(self.plugin), 'VARIANTS', [{}])
        try:
            return PLUGINS.build({'type': self.plugin, **variants[self.variant]})
        except InputError as error:
            needed(self.plugin, 'VARIANTS')
            raise AssertionError(f'tests/recipes/{self.plugin}.py: {error}') from error

    def make(self, modalities=None, *, seed=0, plugged=True, **arguments) -> MultimodalHost:
        """A host in training mode; the same weights for the same seed, plugin or not."""
        modalities = modalities or self.pool[:2]
        plugin = self.make_plugin()
        module = needed(self.host, 'arguments', 'shape', 'target')
        config = module.arguments(modalities, self.fusion, plugin.needs if plugin else frozenset())
        if self.fusion:
            config['fusion'] = {'type': self.fusion, **getattr(recipe(self.fusion), 'VARIANT', {})}
        seeding.seed(seed)
        host = HOSTS.build({'type': self.host, 'modalities': list(modalities), **config, **arguments})
        return host.plug(plugin).train() if plugin and plugged else host.train()

    def data(self, modalities=None, size=4, absent=(), fill=0.0, seed=1) -> dict:
        """The arguments of a forward; ``absent`` lists (row or None for all, modality), whose inputs hold ``fill``: of
        two values the first in even rows, the second in odd ones."""
        module = needed(self.host, 'arguments', 'shape', 'target')
        modalities = modalities or self.pool[:2]
        generator = torch.Generator().manual_seed(seed)
        present = torch.ones(size, len(modalities), dtype=torch.bool)
        # by name, so that another order of the modalities gives the same data
        inputs = {m: torch.randn(size, *module.shape(m), generator=generator) for m in self.pool}
        for row, m in absent:
            fills = fill if isinstance(fill, tuple) else (fill,)
            for i in range(size) if row is None else (row,):
                inputs[m][i] = fills[i % len(fills)]
                present[i, modalities.index(m)] = False
        target = module.target(size, generator)
        return {'inputs': {m: inputs[m] for m in modalities}, 'present': present, 'target': target}


def bare_cases() -> list[Case]:
    """Every host with every fusion block that it takes."""
    cases = []
    for host in ours(HOSTS):
        if (package := getattr(recipe(host), 'REQUIRES', None)) and find_spec(package) is None:
            continue
        takes = 'fusion' in inspect.signature(HOSTS.find(host)).parameters
        fusions = getattr(recipe(host), 'FUSIONS', ours(FUSIONS)) if takes else [None]
        fusions = [f for f in fusions if f is None or host in getattr(recipe(f), 'HOSTS', (host,))]
        if not any(callable(v) for v in vars(HOSTS.find(host)).values()):  # another name of its parent
            fusions = fusions[:1]
        cases += [Case(host, fusion) for fusion in fusions]
    return cases


def plugged_cases() -> list[Case]:
    """Every host with every plugin, and every fusion block with every plugin, but not all three at once; variants of a
    plugin with one fusion block of each host."""
    bare = [c for c in bare_cases() if not (c.fusion and getattr(recipe(c.fusion), 'PART_OF', None))]
    bare.sort(key=lambda c: c.host != 'LateFusion')  # its unimodal predictions depend on the block
    cases = []
    for plugin in ours(PLUGINS):
        hosts, fusions = set(), set()
        for case in bare:
            if plugin not in getattr(recipe(case.host), 'PLUGINS', (plugin,)):
                continue
            if case.host not in getattr(recipe(plugin), 'HOSTS', (case.host,)):
                continue
            blind = getattr(recipe(plugin), 'BLIND', False)
            if case.host in hosts and (blind or case.fusion in fusions):
                continue
            count = 1 if case.host in hosts else len(getattr(recipe(plugin), 'VARIANTS', [{}]))
            hosts.add(case.host)
            fusions.add(case.fusion)
            cases += [Case(case.host, case.fusion, plugin, i) for i in range(count)]
    return cases


def is_refused(case: Case) -> bool:
    """Whether the host's recipe says so, or the host does not offer what the plugin needs."""
    if case.plugin in getattr(recipe(case.host), 'REFUSES', ()):
        return True
    try:
        needs = case.make_plugin().needs
    except (Exception, pytest.fail.Exception):  # the tests say what is wrong
        return False
    return not needs <= HOSTS.find(case.host).offers


BARE = bare_cases()
REFUSED = [case for case in plugged_cases() if is_refused(case)]
PLUGGED = [case for case in plugged_cases() if case not in REFUSED]
every_bare = pytest.mark.parametrize('case', BARE, ids=str)
every_plugged = pytest.mark.parametrize('case', PLUGGED, ids=str)
every_case = pytest.mark.parametrize('case', [*BARE, *PLUGGED], ids=str)
# where only the plugin matters, not the fusion block
FIRST = {case.host: case.fusion for case in reversed(BARE)}
every_plugin = pytest.mark.parametrize('case', [c for c in PLUGGED if c.fusion == FIRST[c.host]], ids=str)


def wrapper(host, lr=0.5):
    return build_optim_wrapper(host, {'optimizer': {'type': 'SGD', 'lr': lr, 'momentum': 0.9}})


def tensors(tree, where='') -> dict[str, Tensor]:
    """Every tensor in a nest of dicts and sequences, by its path."""
    if isinstance(tree, Tensor):
        return {where: tree.detach().clone()}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    return {k: v for key, value in items for k, v in tensors(value, f'{where}/{key}').items()}


def assert_same(found, expected):
    found, expected = tensors(found), tensors(expected)
    assert found.keys() == expected.keys()
    for k, value in found.items():
        if not torch.equal(value, expected[k]):  # which is fast, but takes NaN for different
            torch.testing.assert_close(value, expected[k], rtol=0, atol=0, equal_nan=True, msg=k)


def assert_finite(tree):
    # a ratio without a denominator is none, so what is logged may be NaN
    values = {k: v for k, v in tensors(tree).items() if v.is_floating_point() and not k.startswith('/logged')}
    if not torch.cat([torch.zeros(0), *(v.flatten().cpu() for v in values.values())]).isfinite().all():
        assert not [k for k, v in values.items() if not v.isfinite().all()]


def train(host, *batches, optimizer=None, between=None) -> dict:
    """Steps with the optimiser wrapper of the project; everything that they leave behind."""
    optimizer = optimizer or wrapper(host)
    left = {}
    for i, data in enumerate(batches):
        seeding.seed(i)
        host.clock.iteration = i
        left[f'losses {i}'] = host.train_step(data, optimizer)
        left[f'logged {i}'] = {p.name: dict(p.logged) for p in host.plugins.values()}
        if between:
            between()
    return {**left, 'state': host.state_dict(), 'optimizer': optimizer.state_dict()['state']}


def gradients(host, data) -> dict[str, Tensor | None]:
    host.zero_grad()
    seeding.seed(5)
    sum(v for k, v in host(**data, mode='loss').items() if 'loss' in k).backward()
    return {name: p.grad for name, p in host.named_parameters() if p.requires_grad}


def predict(host, data):
    training = host.training
    with torch.no_grad():
        prediction = host.eval()(**{k: v for k, v in data.items() if k != 'target'})
    host.train(training)
    return prediction


def holes(case, fill):
    a, b = case.pool[:2]
    return [
        case.data(size=5, absent=[(1, a), (4, a), (2, b)], fill=fill, seed=1),
        case.data(size=4, absent=[(None, a)], fill=fill, seed=2),
        case.data(size=3, absent=[(0, b), (1, b)], fill=fill, seed=3),
    ]
