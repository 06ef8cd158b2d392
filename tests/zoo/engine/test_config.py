"""Reading configs and what the command line changes in them; the tools' tests cover most mistakes."""

import pytest

from registry import InputError
from zoo.engine import load_config, parse_options, parse_plugin


@pytest.mark.parametrize(
    ('expression', 'config'),
    [
        ('MWAM', {'type': 'MWAM'}),
        ('MWAM()', {'type': 'MWAM'}),
        ('MWAM(mode=hybrid,momentum=0.7)', {'type': 'MWAM', 'mode': 'hybrid', 'momentum': 0.7}),
        ("MWAM(mode='hybrid', guard=False)", {'type': 'MWAM', 'mode': 'hybrid', 'guard': False}),
        ('A(x=-1e-3, y=none, z=true)', {'type': 'A', 'x': -1e-3, 'y': None, 'z': True}),
        (
            'A(x=[rgb, 2], y={rgb: 0.5}, z=dict(ir=(1, b)))',
            {'type': 'A', 'x': ['rgb', 2], 'y': {'rgb': 0.5}, 'z': {'ir': [1, 'b']}},
        ),
        ('mmseg.Hook(x=1)', {'type': 'mmseg.Hook', 'x': 1}),
    ],
)
def test_plugin_expressions(expression, config):
    assert parse_plugin(expression) == config


@pytest.mark.parametrize(
    'expression', ['', 'MWAM(', 'MWAM(0.7)', 'MWAM(**x)', '1 + 1', 'a b', 'MWAM(x=1 + y)', 'f()()()+1']
)
def test_other_expressions_are_refused(expression):
    with pytest.raises(InputError, match='--plugins takes NAME'):
        parse_plugin(expression)


def test_options_are_literals_with_bare_words():
    options = parse_options(['a.b=1', 'c=x', 'd=[1, x]', 'e=/my data/x', 'f=a=b', 'g=', 'h=None'])
    assert options == {'a.b': 1, 'c': 'x', 'd': [1, 'x'], 'e': '/my data/x', 'f': 'a=b', 'g': '', 'h': None}


def test_flags_override_a_config_and_its_helpers_vanish(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text("_size = 3\nmodel = dict(type='LateFusion', num_classes=_size)\nplugins = ['MWAM']\n")
    cfg = load_config(path, ['none'], {'model.num_classes': 4}, seed=7)
    assert cfg.plugins == []
    assert cfg.model.num_classes == 4
    assert cfg.randomness == {'seed': 7}
    assert '_size' not in cfg


def test_a_missing_config_is_answered_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / 'r18_digits.py').write_text('')
    with pytest.raises(InputError, match=r"Did you mean 'configs/r18_digits\.py'"):
        load_config('configs/r18_digit.py')
