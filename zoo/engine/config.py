"""Configs: reading, changing by flags, and refusing what would only fail later."""

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from registry import PLUGINS, InputError, NameNotFound, nearest, unknown_name

KNOWN_KEYS = frozenset(
    'model plugins work_dir train_dataloader val_dataloader test_dataloader train_cfg val_cfg test_cfg optim_wrapper '
    'param_scheduler val_evaluator test_evaluator default_hooks custom_hooks custom_imports env_cfg '
    'log_processor log_level visualizer randomness experiment_name sync_bn find_unused_parameters '
    'compile_encoders'.split()
)


def load_config(
    path: str | Path,
    plugins: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Config:
    """Read a config and apply what the command line says.

    Args:
        path: A Python file.
        plugins: Expressions as `parse_plugin` reads them; they replace the config's. ``['none']`` leaves none.
        options: Dotted keys to values, as ``--cfg-options`` gives them.
        seed: Replaces ``randomness.seed``.

    Raises:
        InputError: No such file, not Python, or a key that means nothing.
    """
    path = Path(path)
    if not path.is_file():
        known = [str(p) for p in Path('configs').rglob('*.py')] if Path('configs').is_dir() else []
        raise InputError(f'No config {str(path)!r}.{nearest(str(path), known)}')
    try:
        cfg = Config.fromfile(path, import_custom_modules=False, lazy_import=False)
    except (NameNotFound, InputError):
        raise
    except SyntaxError as error:
        where = f'line {error.lineno}' if error.lineno else 'somewhere'
        raise InputError(f'{str(path)!r} is not a Python config: {error.msg} ({where}).') from None
    except Exception as error:  # a config is code: whatever it raises is the user's to see, in one line
        reason = (str(error).splitlines() or [''])[0]
        raise InputError(f'The config {str(path)!r} can not be read: {type(error).__name__}: {reason}') from None
    for key in [k for k in cfg if k.startswith('_')]:  # helpers of the file
        cfg.pop(key)
    if options:
        try:
            cfg.merge_from_dict(dict(options))
        except (KeyError, TypeError, IndexError) as error:
            raise InputError(f'--cfg-options do not fit the config: {error}') from None
    if plugins is not None:
        cfg.plugins = [parse_plugin(p) for p in plugins if p.lower() != 'none']
    if seed is not None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}
    import_users(cfg)
    check_keys(cfg)
    return cfg


def import_users(cfg: Config) -> None:
    """Import what ``custom_imports`` names, so that its classes register.

    Raises:
        InputError: A module that does not import.
    """
    wanted = cfg.get('custom_imports') or {}
    names = wanted.get('imports', []) if isinstance(wanted, Mapping) else wanted
    for name in [names] if isinstance(names, str) else names:
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(f'custom_imports: {name!r} does not import: {error}') from None


def parse_plugin(expression: str) -> dict[str, Any]:
    """A plugin's config from a short expression.

    >>> parse_plugin('MWAM(mode=hybrid, momentum=0.7)')
    {'type': 'MWAM', 'mode': 'hybrid', 'momentum': 0.7}

    Raises:
        InputError: Not a name, nor a call with named arguments.
    """
    shape = f'--plugins takes NAME or "NAME(argument=value, ...)", got {expression!r}'
    try:
        node = ast.parse(expression.strip(), mode='eval').body
    except SyntaxError:
        raise InputError(f'{shape}.') from None
    if isinstance(node, (ast.Name, ast.Attribute)):
        return {'type': ast.unparse(node)}
    if not isinstance(node, ast.Call):
        raise InputError(f'{shape}.')
    if node.args:
        raise InputError(f'{shape}: give each argument its name, as in {ast.unparse(node.func)}(alpha=0.3).')
    if any(k.arg is None for k in node.keywords):
        raise InputError(f'{shape}.')
    return {'type': ast.unparse(node.func), **{k.arg: _value(k.value, shape) for k in node.keywords}}


def _value(node: ast.expr, shape: str) -> Any:
    if isinstance(node, ast.Name):  # a bare word is a string: the shell has eaten the quotes
        return {'true': True, 'false': False, 'none': None}.get(node.id.lower(), node.id)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(n, shape) for n in node.elts]
    if isinstance(node, ast.Dict):
        return {_value(k, shape): _value(v, shape) for k, v in zip(node.keys, node.values)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return {k.arg: _value(k.value, shape) for k in node.keywords}
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise InputError(f'{shape}: {ast.unparse(node)!r} is not a plain value.') from None


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Values are Python literals with bare words as strings; what does not parse is a string as it stands.

    >>> parse_options(['optim_wrapper.optimizer.lr=0.1', 'model.modalities=[rgb, ir]', 'root=/my data'])
    {'optim_wrapper.optimizer.lr': 0.1, 'model.modalities': ['rgb', 'ir'], 'root': '/my data'}

    Raises:
        InputError: A pair without ``=``.
    """
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition('=')
        if not equals or not key:
            raise InputError(f'--cfg-options takes key=value, got {pair!r}.')
        try:
            options[key] = _value(ast.parse(value.strip(), mode='eval').body, key)
        except (SyntaxError, InputError):
            options[key] = value
    return options


def check_keys(cfg: Config) -> None:
    """Refuse top-level keys that nothing reads.

    Raises:
        NameNotFound: The nearest key is proposed.
    """
    for key in cfg:
        if key not in KNOWN_KEYS:
            error = unknown_name('config key', key, KNOWN_KEYS)
            raise NameNotFound(f'{error} Helper variables of a config start with an underscore.')


def check_config(cfg: Config) -> None:
    """Refuse a config that lacks a part.

    Raises:
        InputError: Names the part.
        NameNotFound: A key or a plugin that does not exist.
    """
    check_keys(cfg)
    if 'model' not in cfg:
        raise InputError('The config has no "model", for instance dict(type="LateFusion", ...).')
    training = [k for k in ('train_dataloader', 'train_cfg', 'optim_wrapper') if cfg.get(k)]
    if training and len(training) < 3:
        raise InputError(
            f'Training needs train_dataloader, train_cfg and optim_wrapper; the config has only {training}.'
        )
    for stage in ('val', 'test'):
        if cfg.get(f'{stage}_dataloader') and not cfg.get(f'{stage}_evaluator'):
            raise InputError(f'{stage}_dataloader needs {stage}_evaluator, a metric such as "Accuracy".')
    if isinstance(cfg.get('plugins'), str):
        cfg.plugins = [cfg.plugins]
    _check_nested(cfg)
    for plugin in cfg.get('plugins') or []:
        if not isinstance(plugin, (str, Mapping)):
            raise InputError(f'plugins is a list of names or dict(type=NAME, ...), it has {plugin!r}.')


def _check_nested(cfg: Config) -> None:
    for key, known in (('randomness', ('seed', 'deterministic', 'diff_rank_seed')), ('test_cfg', ('subsets',))):
        for name in cfg.get(key) or {}:
            if name not in known:
                raise unknown_name(f'key of {key}', name, known)
    seed = (cfg.get('randomness') or {}).get('seed', 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise InputError(f'The seed must be a whole number from 0 to 2**31 - 1, got {seed!r}.')
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in [schedulers] if isinstance(schedulers, (str, Mapping)) else schedulers:
        if not isinstance(scheduler, Mapping):
            raise InputError(f'param_scheduler is dict(type=NAME, ...) or a list of these, got {scheduler!r}.')


def what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The parts of two plain configs that must be equal for a run to go on, and are not. How data are loaded, for how
    long to train, and what is logged may change."""

    def loader(cfg: Mapping[str, Any]) -> dict[str, Any]:
        return {
            k: (cfg.get('train_dataloader') or {}).get(k) for k in ('dataset', 'batch_size', 'drop_last', 'shuffle')
        }

    changed = [k for k in ('model', 'optim_wrapper', 'param_scheduler') if before.get(k) != now.get(k)]
    changed += ['plugins'] if (before.get('plugins') or []) != (now.get('plugins') or []) else []
    return changed + (['train_dataloader'] if loader(before) != loader(now) else [])


def keep_structural(cfg: Config) -> None:
    """Drop the plugins that only act in training, and all that only training needs: what is left can be tested."""
    kept = []
    for plugin in cfg.get('plugins') or []:
        name = plugin if isinstance(plugin, str) else plugin['type']
        if PLUGINS.find(name).structural:
            kept.append(plugin)
    cfg.plugins = kept
    training = 'train_dataloader train_cfg val_dataloader val_cfg val_evaluator optim_wrapper param_scheduler'
    for key in training.split():
        cfg.pop(key, None)


def plugin_names(cfg: Mapping[str, Any]) -> list[str]:
    """The names of a config's plugins."""
    return [p if isinstance(p, str) else p.get('name') or p['type'] for p in cfg.get('plugins') or []]


def plain_config(cfg: Config) -> str:
    """The config as JSON."""
    return json.dumps(cfg.to_dict() if isinstance(cfg, (Config, ConfigDict)) else cfg, default=str)
