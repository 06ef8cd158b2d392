"""Taps: what modules deep inside a host are given or give, noted on the way."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from registry import InputError


class Taps:
    """What tapped modules saw in the pass under way.

    Encoders run on some rows of a batch only: `restore` puts what was noted there back among zeros, as the encoder's
    own result.
    """

    def __init__(self) -> None:
        self.noted: dict[str, Tensor] = {}  # of the rows that the module saw
        self.found: dict[str, Tensor] = {}  # of the whole batch

    def add(self, key: str, module: nn.Module, output: bool) -> None:
        """Note the first argument or the output of each call of a module; of several calls the last."""
        if output:
            module.register_forward_hook(_OutputTap(self.noted, key))
        else:
            module.register_forward_pre_hook(_InputTap(self.noted, key))

    def restore(self, put: Callable[[Tensor], Tensor], rows: int) -> None:
        """Put what was noted into the rows of the batch.

        Args:
            put: As the result of the encoder is put back.
            rows: How many the encoder saw. One that sees several frames of each, one after the other, is noted by its
                mean over these.

        Raises:
            InputError: What was noted has other rows.
        """
        for key in list(self.noted):
            x = self.noted.pop(key)
            if len(x) != rows:
                if len(x) % rows:
                    raise InputError(f'{key} was noted with {len(x)} rows in an encoder of {rows}.')
                x = x.unflatten(0, (rows, -1)).mean(1)
            self.found[key] = put(x)

    def collect(self) -> dict[str, Tensor]:
        """Everything that was found since the last time."""
        found = {**self.found, **self.noted}
        self.found.clear()
        self.noted.clear()
        return found


class _Tap:
    # an object and no closure: a deep copy of a host then notes in the copy's own taps
    def __init__(self, noted: dict[str, Tensor], key: str) -> None:
        self.noted, self.key = noted, key


class _InputTap(_Tap):
    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.noted[self.key] = args[0].clone()  # activations work in place


class _OutputTap(_Tap):
    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.noted[self.key] = output[-1] if isinstance(output, (list, tuple)) else output
