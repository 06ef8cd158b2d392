"""The one door to ultralytics, an optional extra under AGPL-3.0: imported late, offline, and without a trace."""

import atexit
import os
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
from mmengine.fileio import load

from registry import InputError, unknown_name

EXTRA = 'counterpoise[yolo]'
SCALED = r'(\d)([a-z])(-[^-].*)?$'  # of names: the letter of the scale stands behind the version
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
    if isinstance(model, Mapping):
        config = _plain(model)
    else:
        file, scale = (Path(model), _scale_of(model)) if model.endswith(('.yaml', '.yml')) else _packaged(model)
        if not file.is_file():
            raise InputError(f'{model}: no such file.')
        config = load(file)
        if not isinstance(config, dict):
            raise InputError(f'{model}: a definition is a mapping with backbone and head.')
        config.setdefault('scale', scale)
    if missing := [k for k in ('backbone', 'head') if not config.get(k)]:
        raise InputError(f'The definition of a YOLO model needs backbone and head, this one lacks {missing}.')
    if (kind := config['head'][-1][2]) != 'Detect':
        raise InputError(f'The head of {model!r} is a {kind}; hosts are built from models with a Detect.')
    if config.get('scales') and config.get('scale') not in config['scales']:
        raise InputError(
            f'{model!r} names no scale: one of {", ".join(config["scales"])}, as in yolov8n, or as "scale" in a file.'
        )
    config.setdefault('nc', 80)  # read while parsing, then replaced
    return {**config, 'end2end': False} if 'end2end' in config else config


def _packaged(model: str) -> tuple[Path, str]:
    """The file of a packaged model, never one of the current folder, and the letter of its scale."""
    folder = Path(ultralytics_module('ultralytics').__file__).parent / 'cfg' / 'models'
    files = {file.stem: file for file in sorted(folder.glob('*/*.yaml'))}
    scale = '' if model in files else _scale_of(model)
    stem = re.sub(SCALED, r'\1\3', model) if scale else model
    if stem in files and (not scale or scale in (load(files[stem]).get('scales') or ())):
        return files[stem], scale
    names = []
    for name, file in files.items():
        config = load(file)
        if config['head'][-1][2] == 'Detect':
            names += [re.sub(r'(\d)(-.+)?$', rf'\g<1>{s}\g<2>', name) for s in config.get('scales') or ['']]
    raise unknown_name('YOLO model', model, names)


def _scale_of(model: str) -> str:
    """The letter behind the version in a name, as in yolov8n-p2; '' where there is none."""
    found = re.search(SCALED, Path(model).stem)
    return found[2] if found else ''


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
    except Exception:  # what a damaged file makes of the unpickler has many names
        try:
            saved = ultralytics_module('ultralytics.nn.tasks').torch_safe_load(str(file), safe_only=True)[0]
        except Exception as error:
            reason = ' '.join(str(error).split())
            raise InputError(f'{file}: no weights of ultralytics that can be loaded safely ({reason}).') from error
    saved = (saved.get('ema') or saved.get('model', saved)) if isinstance(saved, Mapping) else saved
    saved = saved.state_dict() if isinstance(saved, torch.nn.Module) else saved
    named = saved.items() if isinstance(saved, Mapping) else ()
    found = {str(k).replace('model.model.', 'model.', 1): v for k, v in named if isinstance(v, torch.Tensor)}
    weights = {k: v.float() for k, v in found.items() if k.startswith('model.')}
    if not weights:
        raise InputError(f'{file}: no weights of a model of ultralytics (keys model.0.conv.weight, ...).')
    return weights


def _plain(value: Any) -> Any:
    """A copy in dicts and lists: the library changes what it is given."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
