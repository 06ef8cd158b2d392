"""The one door to ultralytics, an optional extra under AGPL-3.0: imported late, offline, and without a trace."""

import atexit
import os
import pickle
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from registry import InputError, unknown_name

EXTRA = 'counterpoise[yolo]'
# it would look names up in the DNS and send events, install packages while running, and print where its settings are
QUIET = {'YOLO_OFFLINE': '1', 'YOLO_AUTOINSTALL': '0', 'YOLO_VERBOSE': 'False'}


def ultralytics_module(name: str = 'ultralytics') -> ModuleType:
    """A module of ultralytics.

    Importing it writes settings to a folder for them: that of the environment variable ``YOLO_CONFIG_DIR``, else a
    temporary one that goes when the process ends. Unless the user has set them, ``YOLO_OFFLINE`` is on, and
    ``YOLO_AUTOINSTALL`` and ``YOLO_VERBOSE`` are off; its setting ``sync`` is off in this process. What the import
    changes elsewhere (environment variables, print options, threads of OpenCV, warning filters, ``torch.save`` and
    ``PIL.Image.open``) is put back.

    Args:
        name: Its full name. Nothing of ``ultralytics.engine`` is needed: trainers and validators send the events.

    Raises:
        InputError: The package is not installed.
    """
    with _without_traces():
        try:
            package = import_module('ultralytics')
            module = import_module(name)
        except ImportError as error:
            raise InputError(
                f'This needs the package ultralytics, which does not import ({error}). It is under AGPL-3.0: whoever '
                'distributes a work that uses it, or offers one over a network, has to offer the source under that '
                f"licence, models trained with it included. To install it: pip install '{EXTRA}'."
            ) from error
        dict.__setitem__(package.settings, 'sync', False)  # here only: its own method would write the user's file
    return module


@contextmanager
def _without_traces() -> Iterator[None]:
    if 'YOLO_CONFIG_DIR' not in os.environ:
        folder = tempfile.mkdtemp(prefix='counterpoise-yolo-')
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ['YOLO_CONFIG_DIR'] = folder
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    import cv2
    import numpy as np
    from PIL import Image

    environment, threads = dict(os.environ), cv2.getNumThreads()
    save, opener = torch.save, Image.open  # its own one would install what it needs for an image that it can not read
    options, numpy_options = vars(torch._tensor_str.PRINT_OPTS).copy(), np.get_printoptions()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        torch.save, Image.open = save, opener
        torch.set_printoptions(**options)
        np.set_printoptions(**numpy_options)
        cv2.setNumThreads(threads)
        for key in os.environ.keys() - environment.keys():
            del os.environ[key]
        os.environ.update(environment)


def yolo_config(model: str | Mapping[str, Any]) -> dict[str, Any]:
    """The definition of a detector as ultralytics keeps it in YAML files, as plain values of our own.

    Args:
        model: The name of a packaged model with its scale (``yolov8n``, ``yolov8s-p2``, ``yolo11m``), the path of a
            YAML file, or its content.

    Returns:
        ``backbone``, ``head`` and the rest. A head without NMS beside the usual one (YOLO26) is left out, so that one
        loss and one way to read predictions serve all of them.

    Raises:
        NameNotFound: No such model.
        InputError: No scale, or a model that detects no boxes, or whose head has a loss of its own (YOLOv10, RT-DETR).
    """
    tasks = ultralytics_module('ultralytics.nn.tasks')
    if isinstance(model, Mapping):
        config = _plain(model)
    elif model.endswith(('.yaml', '.yml')):
        if not Path(model).is_file():
            raise InputError(f'{model}: no such file.')
        config = tasks.yaml_model_load(model)
    else:
        try:
            config = tasks.yaml_model_load(f'{model}.yaml')
        except FileNotFoundError:
            raise unknown_name('YOLO model', model, _packaged()) from None
    if missing := [k for k in ('backbone', 'head') if not config.get(k)]:
        raise InputError(f'The definition of a YOLO model needs backbone and head, this one lacks {missing}.')
    if config.get('scales') and config.get('scale') not in config['scales']:
        scales = ', '.join(config['scales'])
        raise InputError(f'{model!r} has no scale: add one of {scales}.')
    if (kind := config['head'][-1][2]) != 'Detect':
        raise InputError(f'The head of {model!r} is a {kind}; hosts are built from models with a Detect.')
    config.setdefault('nc', 80)  # read while parsing, then replaced
    return {**config, 'end2end': False} if 'end2end' in config else config


def _packaged() -> list[str]:
    """Names of the packaged detectors, scales included."""
    from mmengine.fileio import load

    folder = Path(ultralytics_module('ultralytics').__file__).parent / 'cfg' / 'models'
    names = []
    for file in folder.glob('*/*.yaml'):
        config = load(file)
        if config['head'][-1][2] == 'Detect':
            scales = config.get('scales') or ['']
            names += [re.sub(r'(\d+)(-.+)?$', rf'\g<1>{s}\g<2>', file.stem) for s in scales]
    return names


def yolo_weights(file: str | Path) -> dict[str, torch.Tensor]:
    """The weights of a single-stream detector that ultralytics trained, ``model.<layer>.<name>`` to tensor, float32.

    Nothing is downloaded, and nothing but the layers of torch and ultralytics is unpickled.

    Raises:
        InputError: No such file, or none of a detector.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f'{file}: no such file of weights. They are not downloaded.')
    if not zipfile.is_zipfile(file):
        raise InputError(f'{file}: damaged, or no file of torch.save.')
    try:
        saved = torch.load(file, map_location='cpu', weights_only=True)  # a state dict
    except (pickle.UnpicklingError, RuntimeError):
        try:
            saved = ultralytics_module('ultralytics.nn.tasks').torch_safe_load(str(file), safe_only=True)[0]
        except (TypeError, AttributeError, ImportError, RuntimeError) as error:
            reason = ' '.join(str(error).split())
            raise InputError(f'{file}: no weights of ultralytics that can be loaded safely ({reason}).') from error
    saved = (saved.get('ema') or saved.get('model', saved)) if isinstance(saved, Mapping) else saved
    saved = saved.state_dict() if isinstance(saved, torch.nn.Module) else saved
    weights = {k: v.float() for k, v in saved.items() if k.startswith('model.')} if isinstance(saved, Mapping) else {}
    if not weights:
        raise InputError(f'{file}: no weights of a model of ultralytics (keys model.0.conv.weight, ...).')
    return weights


def _plain(value: Any) -> Any:
    """A copy in dicts and lists: the library changes what it is given."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
