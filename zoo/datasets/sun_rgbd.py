"""SUN RGB-D: indoor scenes of four depth cameras."""

from typing import ClassVar

from registry import DATASETS

from .nyuv2 import CLASSES_40
from .rgbd_folder import RGBDFolder

HOME = 'https://rgbd.cs.princeton.edu'


@DATASETS.register_module()
class SUNRGBD(RGBDFolder):
    """Indoor scenes in rgb and depth of several sizes, 5285 for training and 5050 for testing, with 37 classes (Song et
    al., CVPR 2015).

    The classes are the first 37 of NYU-Depth V2. There is no validation split; ``val_fraction`` takes one from the
    training list. Arguments: see `RGBDFolder`.
    """

    label_sets: ClassVar[dict[int, tuple[str, ...]]] = {37: CLASSES_40[:37]}
    origin = f'The data are at {HOME}; docs/datasets.md says how to lay them out.'
