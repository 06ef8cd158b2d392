"""Places in a network where noise can act."""

from torch import nn


class Site(nn.Identity):
    """The argument of a gate's sigmoid, or one modality's term of it: (B, C, ...) -> itself.

    It does nothing. A plugin that disturbs gates (the modulated attention noise of Robust-MAIL) puts a module of its
    own in its place, and no forward pass is written twice.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def extra_repr(self) -> str:
        """The width."""
        return str(self.channels)
