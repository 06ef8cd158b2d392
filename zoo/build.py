"""For people who never open a config: build and list hosts and plugins by name."""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

from registry import HOSTS, PLUGINS

from .host import MultimodalHost


def create_host(
    name: str, *, plugins: str | Mapping | Iterable[str | Mapping] = (), **arguments: Any
) -> MultimodalHost:
    """Build a host.

    Args:
        name: As `list_hosts` gives it, or the name of the class.
        plugins: Names or configs of plugins to attach, in this order.
        arguments: The host's own.

    >>> host = create_host('late_fusion', modalities=['rgb', 'depth'], num_classes=4, encoder='test_resnet')
    >>> host.modalities
    ('rgb', 'depth')

    Raises:
        NameNotFound: No such host or plugin; the nearest is proposed.
        InputError: Arguments that the host does not take.
    """
    host = HOSTS.build({'type': name, **arguments})
    configs = [plugins] if isinstance(plugins, (str, Mapping)) else list(plugins)
    if configs:
        import_module('plugins')  # registers them, by name: zoo does not depend on any of them
    return host.plug(*(PLUGINS.build(p) for p in configs))


def list_hosts(pattern: str = '*') -> list[str]:
    """Names for `create_host` that match a shell pattern.

    >>> list_hosts('late*')
    ['late_fusion']
    """
    names = (re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', name).lower() for name in HOSTS.list())
    return sorted(n for n in names if fnmatchcase(n, pattern.lower()))


def list_plugins(pattern: str = '*') -> list[str]:
    """Names of plugins that match a shell pattern, as configs and ``--plugins`` take them."""
    import_module('plugins')
    return PLUGINS.list(pattern)
