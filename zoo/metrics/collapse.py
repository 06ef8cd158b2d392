"""How much of a model's score is lost when modalities are missing."""

from typing import Any

import numpy as np
from torch import Tensor

from registry import InputError


def performance_collapse_rate(full: Any, incomplete: Any) -> Any:
    """``100 * (full - incomplete) / full``: the share of the complete score that is lost, in percent (MWAM, Sec. 4).

    >>> performance_collapse_rate(80.0, 60.0)
    25.0

    Args:
        full: Score with all modalities, above 0: a number, array or tensor.
        incomplete: Score(s) of incomplete subsets, of any shape that broadcasts with ``full``.

    Returns:
        Percent, in the type that the arguments have; negative where the incomplete score is the better one.

    Raises:
        InputError: ``full`` is 0, negative or not a number: nothing could be lost.
    """
    full, incomplete = (np.asarray(x) if isinstance(x, (list, tuple)) else x for x in (full, incomplete))
    above = full > 0
    if not (bool(above.all()) if isinstance(above, (Tensor, np.ndarray)) else above):
        raise InputError(f'The collapse rate needs a complete score above 0, got {full!r}.')
    return 100 * (full - incomplete) / full
