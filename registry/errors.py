"""Errors that end the search: they name the value, what was allowed, and the nearest valid choice."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A mistake in what the user gave (a config, an argument, a file): the tools print one line and exit with 2."""


class NameNotFound(LookupError):
    """A name that nobody registered. A plain ``KeyError`` would print quotes around its message."""


class PluginWarning(UserWarning):
    """What a plugin has to say about its use. The tools show it, unlike the warnings of the libraries below."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The part of a message that proposes what the user may have meant, or nothing.

    >>> nearest('MWAN', ['MWAM', 'OGMGE'])
    " Did you mean 'MWAM'?"
    """
    known = list(known)
    lower = {k.lower(): k for k in reversed(known)}
    close = [lower[c] for c in get_close_matches(str(name).lower(), lower, n=2, cutoff=0.6)]
    return f' Did you mean {" or ".join(map(repr, close))}?' if close else ''


def unknown_name(kind: str, name: str, known: Iterable[str], most: int = 30) -> NameNotFound:
    """The error for a name which is not among ``known``.

    >>> str(unknown_name('fusion', 'GatedSun', ['GatedSum', 'Concat']))
    "No fusion named 'GatedSun'. Did you mean 'GatedSum'? Known: Concat, GatedSum."
    """
    known = sorted(known)
    listed = ', '.join(known[:most]) + (f', ... ({len(known)} in all)' if len(known) > most else '')
    return NameNotFound(f'No {kind} named {name!r}.{nearest(name, known)} Known: {listed or "none"}.')
