"""Draws the scenes of `DigitScenes`: pure functions from random numbers to images."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from registry import InputError

PER_SLOT = 6  # random numbers for one digit of a scene
PER_SCENE = 18  # and for the scene as a whole


@dataclass(frozen=True)
class Difficulty:
    """How readable each sensor is. Ranges are drawn from uniformly, once per scene; grey levels are of 0..255.

    Args:
        digit_side: How large a single digit is drawn, as a share of the image's shorter side, 0.3..1.
        rgb_opacity: How much of the digit covers the photograph, 0..1.
        rgb_light: Brightness of the photograph, 0..1; the less, the better its light digit shows.
        rgb_noise: Standard deviation of the camera's noise, in grey levels.
        depth_relief: How far the digit stands out, in grey levels.
        depth_noise: Standard deviation, in grey levels.
        ir_contrast: How much warmer the digit is, in grey levels.
        ir_blur: Standard deviation of the lens' blur, as a share of the shorter side.
        ir_noise: Standard deviation, in grey levels.

    Raises:
        InputError: A range that is not (low, high) within its limits, low first, or a number out of its range.
    """

    digit_side: tuple[float, float] = (0.7, 0.95)
    rgb_opacity: tuple[float, float] = (0.05, 0.95)
    rgb_light: float = 0.55
    rgb_noise: float = 4.0
    depth_relief: tuple[float, float] = (15.0, 50.0)
    depth_noise: float = 6.0
    ir_contrast: tuple[float, float] = (30.0, 60.0)
    ir_blur: float = 0.03
    ir_noise: float = 10.0

    def __post_init__(self) -> None:
        ranges = {'digit_side': (0.3, 1), 'rgb_opacity': (0, 1), 'depth_relief': (0, 255), 'ir_contrast': (0, 255)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            pair = tuple(value) if isinstance(value, (tuple, list)) else ()
            if len(pair) != 2 or any(isinstance(v, str) for v in pair) or not least <= pair[0] <= pair[1] <= most:
                raise InputError(f'{name} is a range (low, high) within {least}..{most}, got {value!r}.')
            object.__setattr__(self, name, tuple(float(v) for v in pair))
        for name, most in {'rgb_light': 1, 'rgb_noise': 255, 'depth_noise': 255, 'ir_blur': 1, 'ir_noise': 255}.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise InputError(f'{name} is a number in 0..{most}, got {value!r}.')
            object.__setattr__(self, name, float(value))


def record_type(size: tuple[int, int], slots: int) -> np.dtype:
    """How one scene is stored; unused slots have the label -1."""
    h, w = size
    return np.dtype(
        [
            ('rgb', 'u1', (3, h, w)),
            ('depth', 'u1', (1, h, w)),
            ('ir', 'u1', (1, h, w)),
            ('mask', 'u1', (h, w)),
            ('boxes', '<f4', (slots, 4)),
            ('labels', 'i1', (slots,)),
        ]
    )


def render(
    digits: np.ndarray,
    labels: np.ndarray,
    count: int,
    size: tuple[int, int],
    slots: int,
    key: tuple[int, ...],
    difficulty: Difficulty,
    chunk: int,
) -> Iterator[np.ndarray]:
    """Scenes ``0..count-1`` in chunks of records.

    Scene ``i`` depends on ``key`` and ``i`` only, and shows digit ``i % len(digits)`` first.

    Args:
        digits: (N, 8, 8), values 0..16.
        labels: (N,) classes 0..9.
        count: Number of scenes.
        size: (H, W).
        slots: The most digits in one scene; each scene has 1 to ``slots``, evenly distributed.
        key: Integers that seed every scene.
        difficulty: Of the sensors.
        chunk: Scenes drawn at a time.
    """
    h, w = size
    for start in range(0, count, chunk):
        index = np.arange(start, min(start + chunk, count))
        generators = [np.random.default_rng([*key, i]) for i in index.tolist()]
        uniform = np.stack([g.random(PER_SCENE + PER_SLOT * slots, dtype=np.float32) for g in generators])
        noise = np.stack([g.standard_normal((5, h, w), dtype=np.float32) for g in generators])
        scene, slot = uniform[:, :PER_SCENE], uniform[:, PER_SCENE:].reshape(len(index), slots, PER_SLOT)

        used = np.arange(slots) < 1 + (scene[:, :1] * slots).astype(int)  # (B, S)
        which = np.minimum((slot[..., 0] * len(digits)).astype(int), len(digits) - 1)
        which[:, 0] = index % len(digits)
        shown = np.where(used, labels[which], -1)
        strokes = draw_digits(digits[which], place(slot, used.sum(1), scene[:, 1], size, difficulty.digit_side), size)
        strokes *= torch.from_numpy(used)[..., None, None]

        yield _records(strokes, shown, torch.from_numpy(scene), torch.from_numpy(noise), difficulty)


def place(
    slot: np.ndarray, number: np.ndarray, turn: np.ndarray, size: tuple[int, int], sides: tuple[float, float]
) -> np.ndarray:
    """Centre, side and angle of every digit: (B, S, 4), in pixels and radians.

    A scene of one digit uses the whole image, and its digit has ``sides`` of the shorter side; with several, each has
    a quarter of its own and fills most of it, so that none covers another.
    """
    h, w = size
    quarter = (np.arange(slot.shape[1]) + (turn[:, None] * 4).astype(int)) % 4  # (B, S)
    alone = (number == 1)[:, None]
    top, left = np.where(alone, 0, (quarter // 2) * h / 2), np.where(alone, 0, (quarter % 2) * w / 2)
    cell_h, cell_w = np.where(alone, h, h / 2), np.where(alone, w, w / 2)
    low, high = np.where(alone, sides[0], 0.8), np.where(alone, sides[1], 1.0)
    side = np.minimum(cell_h, cell_w) * (low + (high - low) * slot[..., 1])
    y = top + side / 2 + (cell_h - side) * slot[..., 2]
    x = left + side / 2 + (cell_w - side) * slot[..., 3]
    angle = np.deg2rad(24 * slot[..., 4] - 12)
    return np.stack([y, x, side, angle], axis=-1)


def draw_digits(digits: np.ndarray, places: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Strokes in 0..1 with soft edges, (B, S, H, W), of digits (B, S, 8, 8) at ``places`` (B, S, 4)."""
    b, s = digits.shape[:2]
    h, w = size
    y0, x0, side, angle = torch.from_numpy(places).float().reshape(b * s, 4).T[..., None, None]  # each (B S, 1, 1)
    y = torch.arange(h).view(1, h, 1) + 0.5 - y0
    x = torch.arange(w).view(1, 1, w) + 0.5 - x0
    cos, sin = angle.cos(), angle.sin()
    grid = torch.stack([x * cos + y * sin, y * cos - x * sin], dim=-1) * (2 / side[..., None])
    sources = torch.from_numpy(digits).float().reshape(b * s, 1, 8, 8) / 16
    ink = F.grid_sample(sources, grid, mode='bicubic', align_corners=False)
    return ((ink - 0.3) / 0.3).clamp(0, 1).view(b, s, h, w)


def _records(strokes: Tensor, shown: np.ndarray, scene: Tensor, noise: Tensor, difficulty: Difficulty) -> np.ndarray:
    size = tuple(strokes.shape[-2:])
    records = np.zeros(len(strokes), record_type(size, strokes.shape[1]))
    ink = strokes.amax(1, keepdim=True)  # (B, 1, H, W)
    photo = photographs(scene[:, 2:6], size)  # the infrared sensor sees it in its own light
    records['rgb'] = _grey_levels(see_rgb(ink, photo, scene[:, 6:10], noise[:, :3], difficulty))
    records['depth'] = _grey_levels(see_depth(ink, scene[:, 10:13], noise[:, 3:4], difficulty))
    records['ir'] = _grey_levels(see_ir(ink, photo, scene[:, 13:14], noise[:, 4:5], difficulty))

    inside = strokes > 0.5
    classes = torch.from_numpy(shown)[..., None, None]
    records['mask'] = torch.where(inside, classes + 1, 0).amax(1).numpy()
    records['boxes'] = bounding_boxes(inside).numpy()
    records['labels'] = shown
    return records


def see_rgb(ink: Tensor, photo: Tensor, draws: Tensor, noise: Tensor, difficulty: Difficulty) -> Tensor:
    """The digit in one light colour, blended into the photograph: (B, 3, H, W)."""
    low, high = difficulty.rgb_opacity
    opacity = ink * (low + (high - low) * draws[:, 0]).view(-1, 1, 1, 1)
    colour = 128 + 127 * draws[:, 1:4, None, None]
    photo = difficulty.rgb_light * photo
    return photo + opacity * (colour - photo) + difficulty.rgb_noise * noise


def see_depth(ink: Tensor, draws: Tensor, noise: Tensor, difficulty: Difficulty) -> Tensor:
    """The digit as a relief on a plane tilted at random; nearer is brighter: (B, 1, H, W)."""
    h, w = ink.shape[-2:]
    tilt = 60 * (draws[:, 1:3] - 0.5)
    plane = tilt[:, 0].view(-1, 1, 1, 1) * torch.linspace(-1, 1, h).view(h, 1)
    plane = plane + tilt[:, 1].view(-1, 1, 1, 1) * torch.linspace(-1, 1, w)
    low, high = difficulty.depth_relief
    return 110 + plane + ink * (low + (high - low) * draws[:, 0]).view(-1, 1, 1, 1) + difficulty.depth_noise * noise


def see_ir(ink: Tensor, photo: Tensor, draws: Tensor, noise: Tensor, difficulty: Difficulty) -> Tensor:
    """The digit warmer than what the photograph shows, through a blurring lens and a noisy sensor: (B, 1, H, W)."""
    low, high = difficulty.ir_contrast
    luma = (photo * photo.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    scene = 60 + 0.3 * luma + ink * (low + (high - low) * draws[:, 0]).view(-1, 1, 1, 1)
    return blur(scene, difficulty.ir_blur * min(ink.shape[-2:])) + difficulty.ir_noise * noise


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, 1, H, W), edges repeated."""
    if sigma == 0:
        return x
    radius = max(1, round(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    x = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode='replicate'), kernel.view(1, 1, 1, -1))
    return F.conv2d(F.pad(x, (0, 0, radius, radius), mode='replicate'), kernel.view(1, 1, -1, 1))


def photographs(draws: Tensor, size: tuple[int, int]) -> Tensor:
    """A random window of one of the two photographs, resampled to ``size``: (B, 3, H, W), 0..255.

    ``draws`` (B, 4) says which photograph, how large the window, and where. Its shorter side is 32 to 72 pixels of
    the halved photograph, so that scenes of any size show the same things.
    """
    photos = _sample_photographs()  # (2, 3, 213, 320)
    high, wide = photos.shape[-2:]
    h, w = size
    most = min(high * min(size) / h, wide * min(size) / w)
    side = (32 + 40 * draws[:, 1]).clamp(max=most) / min(size)  # photograph's pixels per pixel of the scene
    top, left = (high - side * h) * draws[:, 2], (wide - side * w) * draws[:, 3]
    y = (top[:, None] + side[:, None] * (torch.arange(h) + 0.5)) * 2 / high - 1
    x = (left[:, None] + side[:, None] * (torch.arange(w) + 0.5)) * 2 / wide - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    views = [F.grid_sample(p[None].expand(len(draws), -1, -1, -1), grid, align_corners=False) for p in photos]
    return torch.where(draws[:, 0].view(-1, 1, 1, 1) < 0.5, *views)


@lru_cache(maxsize=1)
def _sample_photographs() -> Tensor:
    from sklearn.datasets import load_sample_images

    images = np.stack(load_sample_images().images)
    return F.avg_pool2d(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 2)


def bounding_boxes(inside: Tensor) -> Tensor:
    """The tightest box around each mask (B, S, H, W): (B, S, 4), (x1, y1, x2, y2); zeros where a mask is empty.

    >>> bounding_boxes(torch.tensor([[[[0, 0, 0], [0, 1, 1]]]]).bool())
    tensor([[[1., 1., 3., 2.]]])
    """
    rows, columns = inside.any(-1).float(), inside.any(-2).float()
    h, w = inside.shape[-2:]
    edges = [columns.argmax(-1), rows.argmax(-1), w - columns.flip(-1).argmax(-1), h - rows.flip(-1).argmax(-1)]
    return torch.stack(edges, dim=-1).float() * inside.flatten(-2).any(-1)[..., None]


def _grey_levels(x: Tensor) -> np.ndarray:
    return x.round().clamp(0, 255).byte().numpy()
