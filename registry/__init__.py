"""Names to classes: the registries of Counterpoise. Imports no model code before a name is asked for.

``HOSTS``, ``PLUGINS`` and the parts register by decorator and are built from ``dict(type=NAME, ...)``:

>>> from registry import FUSIONS
>>> FUSIONS.name
'fusion'
"""

import mmengine.registry as _mm

from .errors import InputError, NameNotFound, PluginWarning, nearest, unknown_name
from .registry import SCOPE, Registry, build_foreign, build_from_config, check_arguments

HOSTS = Registry('host', parent=_mm.MODELS, locations=['zoo'])
PLUGINS = Registry('plugin', parent=_mm.HOOKS, locations=['plugins'])
ENCODERS = Registry('encoder', locations=['zoo'])
FUSIONS = Registry('fusion', locations=['zoo'])
NECKS = Registry('neck', locations=['zoo'])
HEADS = Registry('head', locations=['zoo'])
LOSSES = Registry('loss', locations=['zoo'])
ATTACKS = Registry('attack', locations=['zoo'])
DATASETS = Registry('dataset', parent=_mm.DATASETS, locations=['zoo'])
TRANSFORMS = Registry('transform', parent=_mm.TRANSFORMS, locations=['zoo'])
METRICS = Registry('metric', parent=_mm.METRICS, locations=['zoo'])
LOOPS = Registry('loop', parent=_mm.LOOPS)
DATA_SAMPLERS = Registry('sampler', parent=_mm.DATA_SAMPLERS)
OPTIMIZERS = Registry('optimizer', parent=_mm.OPTIMIZERS)
OPTIM_WRAPPERS = Registry('optimizer wrapper', parent=_mm.OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = Registry('optimizer wrapper constructor', parent=_mm.OPTIM_WRAPPER_CONSTRUCTORS)
LOG_PROCESSORS = Registry('log processor', parent=_mm.LOG_PROCESSORS)
# these three keep mmengine's own way of building
PARAM_SCHEDULERS = Registry('parameter scheduler', parent=_mm.PARAM_SCHEDULERS, build_func=None)
VISUALIZERS = Registry('visualizer', parent=_mm.VISUALIZERS, build_func=None)
VISBACKENDS = Registry('visualizer backend', parent=_mm.VISBACKENDS, build_func=None)

__all__ = [
    'ATTACKS',
    'DATASETS',
    'DATA_SAMPLERS',
    'ENCODERS',
    'FUSIONS',
    'HEADS',
    'HOSTS',
    'LOG_PROCESSORS',
    'LOOPS',
    'LOSSES',
    'METRICS',
    'NECKS',
    'OPTIMIZERS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS',
    'PLUGINS',
    'SCOPE',
    'TRANSFORMS',
    'VISBACKENDS',
    'VISUALIZERS',
    'InputError',
    'NameNotFound',
    'PluginWarning',
    'Registry',
    'build_foreign',
    'build_from_config',
    'check_arguments',
    'nearest',
    'unknown_name',
]
