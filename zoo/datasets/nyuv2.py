"""NYU-Depth V2: indoor scenes in colour and depth, every pixel labelled."""

from typing import ClassVar

from registry import DATASETS

from .rgbd_folder import RGBDFolder

HOME = 'https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html'

CLASSES_40 = (
    *('wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door', 'window', 'bookshelf'),
    *('picture', 'counter', 'blinds', 'desk', 'shelves', 'curtain', 'dresser', 'pillow', 'mirror', 'floor mat'),
    *('clothes', 'ceiling', 'books', 'refridgerator', 'television', 'paper', 'towel', 'shower curtain', 'box'),
    *('whiteboard', 'person', 'night stand', 'toilet', 'sink', 'lamp', 'bathtub', 'bag'),
    *('otherstructure', 'otherfurniture', 'otherprop'),
)
CLASSES_13 = (
    *('bed', 'books', 'ceiling', 'chair', 'floor', 'furniture', 'objects'),
    *('picture', 'sofa', 'table', 'tv', 'wall', 'window'),
)


@DATASETS.register_module()
class NYUv2(RGBDFolder):
    """Indoor scenes in rgb and depth, 480x640, 795 for training and 654 for testing, with 40 (or 13) classes (Silberman
    et al., ECCV 2012).

    ``tools/prepare_nyuv2.py`` makes the folders from the official file. There is no validation split: published work
    usually selects on the test split; ``val_fraction`` takes one from the training list. Arguments: see `RGBDFolder`.
    """

    label_sets: ClassVar[dict[int, tuple[str, ...]]] = {40: CLASSES_40, 13: CLASSES_13}
    origin = f'tools/prepare_nyuv2.py makes it from the official file, {HOME}.'
