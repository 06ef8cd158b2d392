"""What a drawing is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from PIL import Image
from torch import Tensor

from zoo.datasets import IGNORE

Colour = tuple[int, int, int]

BLACK, GREY, RED, GREEN = (20, 20, 20), (110, 110, 110), (190, 30, 30), (20, 120, 50)
SMALLEST, LARGEST = 240, 480  # the longer side of a panel, in pixels


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Attributes:
        title: Above it.
        image: Of any size.
        note: Below the title, in ``colour``.
        classes: Those that the picture shows by their colour, for the legend.
    """

    title: str
    image: Image.Image
    note: str = ''
    colour: Colour = GREY
    classes: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Scene:
    """One sample as it is shown.

    Attributes:
        name: What it is called, without a suffix.
        modalities: Those of the host, in order.
        inputs: Modality to tensor (C, H, W) on the scale of the data, the sizes may differ; absent ones are left out.
        size: (H, W) of the sample's own picture, to which predictions go back.
        classes: Their names; of several tasks a dict of them.
        target: As a data set delivers it; None where it is not known.
        invalid: Modality to the value that marks pixels without a measurement.
        blue_first: Whether inputs with three channels are BGR.
        place: (top, left, height, width), the rectangle of the host's input in which the sample's own picture lies;
            what is predicted in pixels of the input goes back by it. None: the input is as large as the picture.
    """

    name: str
    modalities: Sequence[str]
    inputs: Mapping[str, Tensor]
    size: tuple[int, int]
    classes: Sequence[str] | Mapping[str, Sequence[str]] = ()
    target: Any = None
    invalid: Mapping[str, float] = field(default_factory=dict)
    blue_first: bool = False
    place: tuple[int, int, int, int] | None = None

    @cached_property
    def panel_size(self) -> tuple[int, int]:
        """(width, height) of this scene's panels: small pictures are magnified by a whole number, large ones shrunk.

        >>> Scene('x', (), {}, (48, 64)).panel_size, Scene('x', (), {}, (480, 640)).panel_size
        ((256, 192), (480, 360))
        """
        height, width = self.size
        longer = max(height, width)
        scale = LARGEST / longer if longer > LARGEST else -(-SMALLEST // longer)
        return max(1, round(width * scale)), max(1, round(height * scale))

    @cached_property
    def slice_at(self) -> float:
        """Which slice of volumes is shown, as a share of their depth: that with most of the classes but 0 in the
        target, the middle where it is not known."""
        if not isinstance(self.target, Tensor) or self.target.ndim != 3:
            return 0.5
        sizes = ((self.target != 0) & (self.target != IGNORE)).sum((1, 2))
        return (int(sizes.argmax()) + 0.5) / len(sizes) if sizes.any() else 0.5

    def class_name(self, index: int) -> str:
        """The name of a class, its number where it has none."""
        return str(self.classes[index]) if 0 <= index < len(self.classes) else str(index)
