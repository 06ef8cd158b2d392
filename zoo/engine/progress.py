"""Progress bars, on terminals and on the first process only."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar('T')


def is_main() -> bool:
    """Whether this is the only or the first process."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def progress_bar() -> Progress:
    """A bar that shows itself only on a terminal of the first process."""
    console = Console(stderr=True)
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not (console.is_terminal and is_main()))


def track(items: Iterable[T], title: str | None) -> Iterator[T]:
    """Iterate with a bar; without one when ``title`` is None."""
    if title is None:
        yield from items
        return
    with progress_bar() as bar:
        yield from bar.track(items, description=title)
