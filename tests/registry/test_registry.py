"""Names to classes: what is found, and what is said when nothing is."""

import importlib
import sys
from types import ModuleType

import mmengine.dataset
import mmengine.registry as mm
import pytest
import torch
from torch import nn

import plugins  # noqa: F401
import registry
import zoo
from registry import (
    DATASETS,
    ENCODERS,
    FUSIONS,
    HEADS,
    HOSTS,
    LOSSES,
    PLUGINS,
    InputError,
    NameNotFound,
    Registry,
    nearest,
    unknown_name,
)


@pytest.fixture
def shapes():
    table = Registry('shape')

    @table.register_module()
    class RoundDisk:
        def __init__(self, radius, colour='red'):
            self.radius, self.colour = radius, colour

    @table.register_module()
    class Anything:
        def __init__(self, **arguments):
            self.arguments = arguments

    @table.register_module()
    def square(side=1):
        return ('square', side)

    return table


@pytest.mark.parametrize(
    ('config', 'arguments'),
    [
        (dict(type='RoundDisk', radius=2), {}),
        (dict(type='zoo.RoundDisk', radius=2), {}),
        (dict(type='round_disk', radius=2), {}),
        (dict(type='ROUNDDISK', radius=2), {}),
        ('RoundDisk', dict(radius=2)),
        (dict(type='RoundDisk'), dict(default_args=dict(radius=2))),
        (dict(type='RoundDisk', radius=2), dict(default_args=dict(radius=9))),
        (dict(type='RoundDisk', radius=2, _scope_='zoo'), {}),
    ],
)
def test_a_name_is_found_whatever_its_spelling(shapes, config, arguments):
    disk = shapes.build(config, **arguments)
    assert type(disk) is shapes.find('RoundDisk')
    assert (disk.radius, disk.colour) == (2, 'red')


def test_a_class_and_a_function_build_too(shapes):
    assert shapes.build(dict(type=shapes.find('RoundDisk'), radius=3)).radius == 3
    assert shapes.build(dict(type='square', side=4)) == ('square', 4)
    assert shapes.build(shapes.find('square')) == ('square', 1)


@pytest.mark.parametrize(
    ('pattern', 'names'),
    [
        ('*', ['Anything', 'RoundDisk', 'square']),
        ('r*', ['RoundDisk']),
        ('*D?SK', ['RoundDisk']),
        ('[as]*', ['Anything', 'square']),
        ('nothing', []),
    ],
)
def test_names_are_listed_by_wildcard(shapes, pattern, names):
    assert shapes.list(pattern) == names


@pytest.mark.parametrize(
    ('config', 'error', 'message'),
    [
        (
            'RoundDsk',
            NameNotFound,
            r"No shape named 'RoundDsk'\. Did you mean 'RoundDisk'\? Known: Anything, RoundDisk",
        ),
        ('Zzz', NameNotFound, r"No shape named 'Zzz'\. Known: Anything, RoundDisk, square\."),
        (dict(type='RoundDisk', raduis=1), InputError, r"RoundDisk has no argument 'raduis'\. Did you mean 'radius'\?"),
        (dict(type='RoundDisk'), InputError, "RoundDisk can not be built: missing a required argument: 'radius'"),
        (dict(type='square', edge=1), InputError, r"square has no argument 'edge'\. It takes: side\."),
        (dict(radius=1), InputError, r'has no "type"\. Known: Anything, RoundDisk, square'),
        (dict(type=3), InputError, 'type of the shape must be a name or a class, got 3'),
        (3, InputError, r'The shape must be dict\(type=NAME, ...\) or a name, got 3'),
        (None, InputError, r'The shape must be dict\(type=NAME, ...\) or a name, got None'),
    ],
)
def test_a_mistake_is_answered_in_one_line(shapes, config, error, message):
    with pytest.raises(error, match=message) as caught:
        shapes.build(config)
    assert '\n' not in str(caught.value)


def test_an_argument_that_the_caller_sets_is_no_choice_of_the_config(shapes):
    with pytest.raises(InputError, match='radius of the shape RoundDisk can not be chosen'):
        shapes.build(dict(type='RoundDisk', radius=1), radius=2)


def test_variable_arguments_are_passed_on(shapes):
    assert shapes.build(dict(type='Anything', a=1), b=2).arguments == {'a': 1, 'b': 2}


@pytest.mark.parametrize('name', ['this', 'random', 'antigravity'])
def test_an_unknown_name_imports_no_module_of_that_name(name):
    sys.modules.pop('antigravity', None)
    with pytest.raises(NameNotFound, match=f'No host named {name!r}'):
        HOSTS.build(name)
    assert 'antigravity' not in sys.modules


def test_long_lists_are_cut():
    message = str(unknown_name('word', 'x', [f'name{i:02}' for i in range(40)]))
    assert message.endswith('name29, ... (40 in all).')
    assert nearest('mwma', ['MWAM', 'OGMGE']) == " Did you mean 'MWAM'?"
    assert nearest('zzz', ['MWAM']) == ''


def test_there_is_one_child_for_each_parent():
    assert HOSTS.parent is mm.MODELS
    assert PLUGINS.parent is mm.HOOKS
    assert DATASETS.parent is mm.DATASETS
    assert not any(r.parent for r in (ENCODERS, FUSIONS, HEADS, LOSSES))
    owned = [r for r in vars(registry).values() if isinstance(r, Registry) and r.parent is not None]
    assert len({id(r.parent) for r in owned}) == len(owned)
    with pytest.raises(AssertionError, match='scope zoo exists'):
        Registry('second', parent=mm.MODELS)


def test_roots_of_mmengine_find_our_classes_and_ours_find_theirs():
    assert mm.MODELS.get('zoo.LateFusion') is zoo.hosts.LateFusion
    assert DATASETS.find('RepeatDataset') is mmengine.dataset.RepeatDataset
    with pytest.raises(NameNotFound, match=r"No dataset named 'RepeatDataste'\. Did you mean 'RepeatDataset'"):
        DATASETS.find('RepeatDataste')


@pytest.mark.parametrize(('table', 'name'), [(PLUGINS, 'EMAHook'), (HOSTS, 'BaseDataPreprocessor')])
def test_what_mmengine_registers_is_neither_a_host_nor_a_plugin(table, name):
    assert table.parent.get(name)
    with pytest.raises(NameNotFound, match=f'No {table.name} named {name!r}'):
        table.build(name)


@pytest.mark.filterwarnings('ignore')  # mmseg says what it would like to be installed
def test_a_prefixed_name_is_built_by_the_library_that_owns_it():
    importlib.import_module('mmseg.models')
    head = HEADS.build(dict(type='mmseg.FCNHead', in_channels=6, channels=4, num_classes=3, num_convs=1))
    assert type(head).__module__.startswith('mmseg')
    assert head([torch.randn(2, 6, 5, 7)]).shape == (2, 3, 5, 7)
    with pytest.raises(NameNotFound, match=r"No head in mmseg named 'FCNHed'\. Did you mean 'FCNHead'"):
        HEADS.build('mmseg.FCNHed')
    with pytest.raises(InputError, match=r"'mmseg\.FCNHead' can not be built: .*'num_clases'"):
        HEADS.build(dict(type='mmseg.FCNHead', in_channels=6, channels=4, num_clases=3))


def test_a_prefix_that_is_no_package_says_so():
    with pytest.raises(InputError, match=r"'nolib\.Head' needs the package 'nolib', which does not import"):
        HEADS.build('nolib.Head')


def test_what_is_asked_for_is_imported_first(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    part = 'from test_shapes import SHAPES\n@SHAPES.register_module()\nclass Oval: pass\n'
    library = '@SHAPES.library("lib")\ndef build(kind, arguments, registry): return kind\n'
    ways = {
        'oval': lambda shapes: shapes.find('oval').__name__ == 'Oval',
        'every': lambda shapes: shapes.list() == ['Oval'],
        'built': lambda shapes: type(shapes.build('Oval')).__name__ == 'Oval',
        'others': lambda shapes: shapes.build('lib.Shape') == 'lib.Shape',
    }
    for name, way in ways.items():
        table = ModuleType('test_shapes')
        table.SHAPES = Registry('shape', locations=[f'shapes_{name}'])
        monkeypatch.setitem(sys.modules, 'test_shapes', table)
        (tmp_path / f'shapes_{name}.py').write_text(part + library)
        assert f'shapes_{name}' not in sys.modules
        assert way(table.SHAPES)


@pytest.mark.parametrize('table', [HOSTS, PLUGINS, FUSIONS, LOSSES], ids=lambda table: table.name)
def test_the_project_says_where_its_own_are(table):
    for location in table._locations:  # what mmengine calls them
        importlib.import_module(location)
    assert table._locations
    assert table.module_dict.keys() == set(table.list())


USERS_MODULE = '''
import torch
from torch import nn
from registry import FUSIONS, PLUGINS
from plugins import Plugin
from zoo.fusion import Fusion

@FUSIONS.register_module()
class UsersMaximum(Fusion):
    """Largest value among the modalities that are present."""

    def merge(self, features, mask):
        return torch.stack([features[m] for m in self.modalities]).amax(0)

@PLUGINS.register_module()
class UsersPlugin(Plugin):
    def __init__(self, weight, name=None):
        super().__init__(name)
        self.weight = weight

    def on_losses(self, host, batch, outputs, losses):
        return {**losses, 'loss_users': self.weight * outputs.prediction.square().mean()}
'''


def test_users_classes_register_by_decorator_and_are_used_like_ours(tmp_path, monkeypatch):
    (tmp_path / 'users_module.py').write_text(USERS_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        importlib.import_module('users_module')
        host = zoo.create_host(
            'late_fusion',
            modalities=['rgb', 'depth'],
            num_classes=3,
            encoder='test_resnet',
            fusion='users_maximum',
            plugins=[dict(type='UsersPlugin', weight=0.5)],
        )
        assert isinstance(host.fusion, nn.Module)
        assert 'UsersMaximum' in FUSIONS.list('users*')
        inputs = {m: torch.randn(2, 3, 32, 48) for m in host.modalities}
        losses = host(inputs, target=torch.tensor([0, 2]), mode='loss')
        assert list(losses) == ['loss_task', 'loss_users']
        with pytest.raises(InputError, match=r"plugin UsersPlugin has no argument 'wieght'\. Did you mean 'weight'"):
            PLUGINS.build(dict(type='UsersPlugin', wieght=1))
    finally:
        FUSIONS.module_dict.pop('UsersMaximum', None)
        PLUGINS.module_dict.pop('UsersPlugin', None)
        sys.modules.pop('users_module', None)


def test_a_name_registers_once():
    with pytest.raises(KeyError, match='Concat is already registered'):
        FUSIONS.register_module(module=type('Concat', (nn.Module,), {}))
