"""The one kind of registry of this project: mmengine's, with checked arguments and helpful errors."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

import mmengine.registry as mm

from .errors import InputError, NameNotFound, nearest, unknown_name

SCOPE = 'zoo'  # mmengine imports `<scope>.registry` when it switches to a scope, and warns where it can not


def build_from_config(
    cfg: Mapping | str, *args: Any, registry: mm.Registry, default_args: Mapping | None = None, **kwargs: Any
) -> Any:
    """Build what ``cfg['type']`` names, after checking the name and the names of the arguments.

    Args:
        cfg: ``dict(type=NAME, **arguments)``, or only the name. A prefixed name (``mmseg.FCNHead``) is built by that
            library's own registry.
        args: Positional arguments for the class.
        registry: Where to look the name up; its parents are searched too.
        default_args: Arguments that ``cfg`` may overwrite.
        kwargs: Arguments that ``cfg`` may not name.

    Raises:
        NameNotFound: The name is not registered; the message proposes the nearest.
        InputError: ``cfg`` has no type, an argument that the class does not take, or lacks one that it needs.
    """
    if isinstance(cfg, str) or callable(cfg):
        cfg = {'type': cfg}
    if not isinstance(cfg, Mapping):
        raise InputError(f'The {registry.name} must be dict(type=NAME, ...) or a name, got {cfg!r}.')
    given = {**(default_args or {}), **cfg}
    kind = given.pop('type', None)
    given.pop('_scope_', None)
    if kind is None:
        raise InputError(
            f'The {registry.name} {dict(cfg)} has no "type". Known: {", ".join(sorted(registry.module_dict))}.'
        )
    if not isinstance(kind, str) and not callable(kind):
        raise InputError(f'The type of the {registry.name} must be a name or a class, got {kind!r}.')
    if fixed := [key for key in given if key in kwargs]:
        raise InputError(f'{" and ".join(fixed)} of the {registry.name} {kind} can not be chosen: leave it out.')
    if isinstance(kind, str) and '.' in kind and (library := kind.split('.')[0]) != SCOPE:
        if library not in registry.libraries:
            registry.import_from_location()
        build = registry.libraries.get(library, build_foreign)
        return build(kind, {**given, **kwargs}, registry)
    cls = lookup(kind, registry) if isinstance(kind, str) else kind
    check_arguments(cls, registry.name, args, {**given, **kwargs})
    try:
        return cls(*args, **given, **kwargs)
    except (InputError, NameNotFound):
        raise
    except (TypeError, ValueError) as error:  # a value of the wrong type; the cause keeps the traceback
        name = getattr(cls, '__name__', str(cls))
        raise InputError(f'The {registry.name} {name} can not be built: {error}') from error


def lookup(name: str, registry: mm.Registry) -> Callable:
    """The class or function registered as ``name``, whatever its case and underscores (``late_fusion`` finds
    ``LateFusion``), or an error that proposes the nearest name.

    Parents are searched too, except for hosts and plugins: mmengine's models and hooks are neither. Its own ``get``
    would import any module that is called like an unknown name.
    """
    name = name.removeprefix(f'{SCOPE}.')
    if name not in registry.module_dict:
        registry.import_from_location()
    own, tables = registry.module_dict, [registry.module_dict]
    parent = None if registry.name in ('host', 'plugin') else registry.parent
    while parent is not None:
        tables.append(parent.module_dict)
        parent = parent.parent
    for table in tables:
        if name in table:
            return table[name]
    plain = {_squash(known): known for known in own}
    if _squash(name) in plain:
        return own[plain[_squash(name)]]
    raise unknown_name(registry.name, name, set().union(*tables))


def _squash(name: str) -> str:
    return name.replace('_', '').lower()


def check_arguments(cls: Callable, kind: str, args: tuple, kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that ``cls`` does not take, and missing ones, before anything is built."""
    name = getattr(cls, '__name__', str(cls))
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):  # builtins and some extension classes have none
        return
    parameters = signature.parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in kwargs:
            if key not in named:
                takes = ', '.join(named) or 'none'
                raise InputError(f'The {kind} {name} has no argument {key!r}.{nearest(key, named)} It takes: {takes}.')
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InputError(f'The {kind} {name} can not be built: {error}. It takes: {", ".join(named)}.') from None


def build_foreign(kind: str, arguments: Mapping[str, Any], registry: mm.Registry) -> Any:
    """Build a type of another library of the mmengine family, which registers itself in mmengine's roots.

    Args:
        kind: ``library.NAME``.
        arguments: Those of its class.
        registry: What it is wanted as.

    Raises:
        NameNotFound: The library has no such name.
        InputError: It is not installed, or the arguments do not fit.
    """
    scope, name = kind.split('.', 1)
    try:
        import_module(f'{scope}.registry')
    except ImportError as error:
        raise InputError(
            f'The {registry.name} {kind!r} needs the package {scope!r}, which does not import: {error}'
        ) from error
    root = registry
    while root.parent is not None:
        root = root.parent
    owner = root if root.name != registry.name and scope in root.children else mm.MODELS
    child = owner.children.get(scope)
    cls = child.get(name) if child is not None else owner.get(kind)
    if cls is None:
        raise unknown_name(f'{registry.name} in {scope}', name, child.module_dict if child is not None else ())
    check_arguments(cls, registry.name, (), arguments)
    try:
        with mm.DefaultScope.overwrite_default_scope(scope):  # its own parts are found under unprefixed names
            return cls(**arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:  # unknown arguments reach a base class
        reason = ' '.join(str(error).split()).rstrip('.') or 'its arguments do not fit'
        raise InputError(f'The {registry.name} {kind!r} can not be built: {reason}.') from error


class Registry(mm.Registry):
    """A table of names, in the scope of this project.

    Args:
        name: Of what it holds, in the words of errors.
        parent: The registry of mmengine's whose names are known here, too.
        build_func: Builds what a config names.
        locations: Modules that register something here; imported when a name is not there yet, or all are asked for.

    >>> SHAPES = Registry('shape')
    >>> @SHAPES.register_module()
    ... class Circle:
    ...     '''A round shape.'''
    >>> SHAPES.list('C*')
    ['Circle']
    """

    def __init__(
        self,
        name: str,
        parent: mm.Registry | None = None,
        build_func: Callable | None = build_from_config,
        locations: Sequence[str] = (),
    ) -> None:
        super().__init__(name, build_func=build_func, parent=parent, scope=SCOPE, locations=[*locations])
        self.libraries: dict[str, Callable] = {}

    def library(self, name: str) -> Callable[[Callable], Callable]:
        """Decorator: this function builds the types ``name.X``; `build_foreign` those of libraries without one."""

        def keep(build: Callable) -> Callable:
            self.libraries[name] = build
            return build

        return keep

    def list(self, pattern: str = '*') -> list[str]:
        """The registered names that match a shell pattern, without regard to case, sorted."""
        self.import_from_location()
        return sorted(name for name in self.module_dict if fnmatchcase(name.lower(), pattern.lower()))

    def find(self, name: str) -> Callable:
        """The registered class or function; an unknown name is answered with the nearest.

        Raises:
            NameNotFound: Nothing of that name is registered.
        """
        return lookup(name, self)
