"""Colours that stay apart, for any number of classes."""

from functools import lru_cache

import numpy as np

STEP = 12  # between candidates, of 255
LIGHTNESS = (0.5, 0.9)  # dark and pale colours get lost on a photograph
LEAST_CHROMA = 0.08  # greys are for the photograph below
LIGHTNESS_COUNTS = 0.6  # half transparent colours take on the picture's lightness, so it tells them apart less


@lru_cache(maxsize=8)
def palette(count: int) -> np.ndarray:
    """``count`` colours (count, 3) uint8, red first; the first ones are the same for every ``count``.

    Each colour is the candidate whose nearest predecessor is the farthest away, by distance in Oklab (Ottosson, 2020),
    in which equal steps look alike.

    >>> palette(3).tolist() == palette(40)[:3].tolist()
    True
    """
    levels = np.arange(0, 256, STEP)
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing='ij'), axis=-1).reshape(-1, 3).astype(np.uint8)
    lab = oklab(rgb)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (lab[:, 0] > LIGHTNESS[0]) & (lab[:, 0] < LIGHTNESS[1]) & (chroma > LEAST_CHROMA)
    rgb, lab = rgb[usable], lab[usable] * [LIGHTNESS_COUNTS, 1, 1]
    chosen = [int(chroma[usable].argmax())]
    distance = np.full(len(rgb), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return rgb[chosen[:count]]


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB colours (N, 3) uint8 in Oklab: lightness 0..1, green to red, blue to yellow.

    >>> oklab(np.array([[255, 255, 255], [0, 0, 0]], dtype=np.uint8)).round(3)[:, 0].tolist()
    [1.0, 0.0]
    """
    x = rgb / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    to_cones = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]]
    to_cones.append([0.0883024619, 0.2817188376, 0.6299787005])
    to_lab = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099]]
    to_lab.append([0.0259040371, 0.7827717662, -0.8086757660])
    return np.cbrt(linear @ np.array(to_cones).T) @ np.array(to_lab).T
