"""Names for sets of constructor arguments: what a published training run sets, in one word."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from registry import unknown_name


def presets(**known: Mapping[str, Any]) -> Callable[[Callable], Callable]:
    """Let the argument ``preset`` of a constructor stand for other arguments of it.

    A preset replaces defaults: an argument that the caller gives wins, so that a run can depart from a published one in
    a single point. ``None`` replaces none.

    >>> class House:
    ...     @presets(classic=dict(floors=2, roof='tiles'))
    ...     def __init__(self, floors=1, roof='straw', preset=None):
    ...         self.built = floors, roof
    >>> House().built, House(preset='classic').built, House(preset='classic', roof='slate').built
    ((1, 'straw'), (2, 'tiles'), (2, 'slate'))

    Args:
        known: Name to values by argument.

    Returns:
        A decorator of ``__init__``. The constructor raises NameNotFound for another name.
    """

    def decorate(init: Callable) -> Callable:
        signature = inspect.signature(init)

        @functools.wraps(init)
        def wrapper(*args: Any, **kwargs: Any) -> None:
            given = signature.bind(*args, **kwargs)
            preset = given.arguments.get('preset')
            if preset is not None and preset not in known:
                raise unknown_name('preset', preset, known)
            for name, value in known.get(preset, {}).items():
                given.arguments.setdefault(name, value)
            init(*given.args, **given.kwargs)

        return wrapper

    return decorate
