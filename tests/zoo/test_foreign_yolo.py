"""The door to ultralytics: what comes through, and what must not."""

import json
import os
import sys
from importlib.util import find_spec

import pytest
import torch

from registry import HOSTS, InputError, NameNotFound
from zoo.foreign_yolo import yolo_config, yolo_weights

pytestmark = pytest.mark.skipif(find_spec('ultralytics') is None, reason='needs ultralytics')

# a process of its own, since the first import is what matters
PROBE = """
import json, os, sys
del os.environ['OMP_NUM_THREADS']
import cv2, numpy, torch, warnings
from PIL import Image
import registry, zoo, plugins
early = 'ultralytics' in sys.modules

def state():
    patched = [torch.save is SAVE, Image.open is OPEN]
    printing = [vars(torch._tensor_str.PRINT_OPTS).copy(), numpy.get_printoptions()['linewidth']]
    others = {k: v for k, v in os.environ.items() if not k.startswith('YOLO_')}
    return [patched, printing, others, cv2.getNumThreads(), len(warnings.filters)]

SAVE, OPEN = torch.save, Image.open
cv2.setNumThreads(3)
torch.set_printoptions(precision=7)
before = state()
host = registry.HOSTS.build(dict(type='TwoStreamYOLO', modalities=['rgb', 'ir'], num_classes=2, aux_heads=True))
host({m: torch.rand(1, 3, 32, 32) for m in host.modalities}, mode='predict')
import ultralytics
print(json.dumps({
    'early': early,
    'same': before == state(),
    'engine': [k for k in sys.modules if k.startswith('ultralytics') and ('engine' in k or 'events' in k)],
    'sync': ultralytics.settings['sync'],
    'config': os.environ['YOLO_CONFIG_DIR'],
    'files': os.listdir(os.path.join(os.environ['YOLO_CONFIG_DIR'], 'Ultralytics')),
    'offline': os.environ['YOLO_OFFLINE'],
}))
"""


@pytest.fixture
def probe(tmp_path, start):
    """Run `PROBE` in an environment; returns what it prints, and the files that it has left in the user's home."""

    def run(**environment):
        home = tmp_path / 'home'
        home.mkdir()
        (tmp_path / 'probe.py').write_text(PROBE)
        environment = {'HOME': str(home), 'COUNTERPOISE_CACHE': str(tmp_path), **environment}
        (done,) = start([tmp_path / 'probe.py'], cwd=tmp_path, environment=environment)
        assert done.returncode == 0, done.stderr
        assert 'Ultralytics' not in done.stdout.replace('Ultralytics/', '')
        return json.loads(done.stdout), [str(p.relative_to(home)) for p in home.rglob('*') if p.is_file()]

    return run


def test_building_a_host_leaves_no_trace(probe):
    found, written = probe()
    assert found['early'] is False
    assert found['same'] is True
    assert found['engine'] == []
    assert found['sync'] is False
    assert found['offline'] == '1'
    assert written == []
    assert not os.path.exists(found['config'])  # it went with the process


def test_what_the_user_has_set_stays(probe, tmp_path):
    own = tmp_path / 'own'
    found, written = probe(YOLO_CONFIG_DIR=str(own), YOLO_OFFLINE='true')
    assert found['config'] == str(own)
    assert found['offline'] == 'true'
    assert found['sync'] is False
    assert json.loads((own / 'Ultralytics' / 'settings.json').read_text())['sync'] is True  # theirs to change
    assert written == []


def test_without_the_package_one_line_says_what_it_implies(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ultralytics', None)
    with pytest.raises(InputError, match=r"AGPL-3\.0.*pip install 'counterpoise\[yolo\]'") as caught:
        HOSTS.build({'type': 'TwoStreamYOLO', 'modalities': ['rgb', 'ir'], 'num_classes': 2})
    assert isinstance(caught.value.__cause__, ImportError)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        ('yolov8q', r"No YOLO model named 'yolov8q'. Did you mean 'yolov8"),
        ('yolo111n', r"Did you mean 'yolo11n'"),
        ('yolov8', r"'yolov8' names no scale: one of n, s, m, l, x"),
        ('yolov10n', r'The head of .yolov10n. is a v10Detect'),
        ('yolov8n-seg', r'is a Segment; hosts are built from models with a Detect'),
        ('missing.yaml', r'missing\.yaml: no such file'),
        ({'backbone': []}, r"needs backbone and head, this one lacks \['backbone', 'head'\]"),
    ],
)
def test_models_that_are_no_detectors_are_refused(model, message):
    with pytest.raises((InputError, NameNotFound), match=message):
        yolo_config(model)


def test_a_definition_is_a_copy():
    given = {'backbone': [[-1, 1, 'Conv', [8, 3, 2]]], 'head': [[[0], 1, 'Detect', ['nc']]], 'end2end': True}
    config = yolo_config(given)
    config['backbone'][0][3][0] = 99
    assert given['backbone'][0][3][0] == 8
    assert config['end2end'] is False


def test_weights_are_loaded_without_running_what_a_file_says(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / 'harm'), 'w'))

    torch.save({'model': Harmful()}, tmp_path / 'bad.pt')
    with pytest.raises(InputError, match=r'bad\.pt: no weights of ultralytics that can be loaded safely'):
        yolo_weights(tmp_path / 'bad.pt')
    assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize(
    ('content', 'message'),
    [(None, r'w\.pt: no such file of weights'), (b'text', r'w\.pt: '), ({'epoch': 3}, r'w\.pt: no weights of a model')],
)
def test_files_without_weights_are_refused(tmp_path, content, message):
    if isinstance(content, bytes):
        (tmp_path / 'w.pt').write_bytes(content)
    elif content:
        torch.save(content, tmp_path / 'w.pt')
    with pytest.raises(InputError, match=message):
        yolo_weights(tmp_path / 'w.pt')


def test_a_file_of_the_user_may_name_its_scale(tmp_path, monkeypatch):
    text = """
scales: {q: [0.33, 0.125, 256], r: [0.33, 0.25, 256]}
backbone: [[-1, 1, Conv, [64, 3, 2]]]
head: [[[0], 1, Detect, [nc]]]
"""
    (tmp_path / 'mine2q.yaml').write_text(text)
    (tmp_path / 'mine.yaml').write_text(text + 'scale: r\n')
    (tmp_path / 'none.yaml').write_text(text)
    assert yolo_config(str(tmp_path / 'mine2q.yaml'))['scale'] == 'q'
    assert yolo_config(str(tmp_path / 'mine.yaml'))['scale'] == 'r'
    with pytest.raises(InputError, match='names no scale: one of q, r'):
        yolo_config(str(tmp_path / 'none.yaml'))
    (tmp_path / 'yolov8n.yaml').write_text(text)
    monkeypatch.chdir(tmp_path)
    assert len(yolo_config('yolov8n')['backbone']) == 10  # a name is never a file of the current folder
    assert yolo_config('yolov8s-p2')['scale'] == 's'


def test_names_of_the_wrapper_are_known(tmp_path):
    torch.save({'model.model.0.conv.weight': torch.ones(2), 'model.model.1.x': 3}, tmp_path / 'w.pt')
    assert list(yolo_weights(tmp_path / 'w.pt')) == ['model.0.conv.weight']
