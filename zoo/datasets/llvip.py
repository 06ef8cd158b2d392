"""LLVIP: pedestrians at night in colour and infrared, in the folders of its authors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry import DATASETS

from .base import Sample, choose_split
from .listing import find_folder, list_files
from .paired_boxes import PairedBoxes
from .rgbd_folder import choose_names

HOME = 'The data are at https://bupt-ai-cz.github.io/LLVIP.'
PAIRS = {'train': 12025, 'test': 3463}
SPLITS = {'train': 'train', 'val': 'train', 'test': 'test'}  # a validation split is taken from the training images
FOLDERS = {'rgb': 'visible', 'ir': 'infrared'}


@DATASETS.register_module()
class LLVIP(PairedBoxes):
    """Pedestrians in aligned pairs of rgb and ir, 1280 x 1024 (Jia et al., ICCVW 2021).

    Expects in ``root``: ``visible/{train,test}`` and ``infrared/{train,test}`` with ``<stem>.jpg``, and ``Annotations``
    with ``<stem>.xml`` (VOC) of both splits. The boxes hold for both modalities.

    Args:
        root: The folder of the data set.
        split: ``'train'`` (12,025 pairs), ``'test'`` (3,463), or ``'val'`` where ``val_fraction`` takes one from the
            training images.
        modalities: A subset of rgb and ir in any order; None for both.
        val_fraction: The share of the training images that the split ``'val'`` gets and ``'train'`` loses: evenly
            spaced ones, the same in every run. Neighbours may show one scene.
        ir_channels: 1, or 3 equal ones as the files have them.
        on_bad_box: See `PairedBoxes`.
        ignore: See `PairedBoxes`.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown split, modality or ``on_bad_box``.
        InputError: A missing folder, no samples, or a share out of range.
    """

    classes = ('person',)

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        val_fraction: float = 0.0,
        ir_channels: int = 1,
        on_bad_box: str = 'drop',
        ignore: Sequence[str] | str = (),
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms, on_bad_box, ignore, {'rgb': 3, 'ir': ir_channels})
        root, folder = find_folder(root, 'LLVIP', HOME), SPLITS[choose_split(split, SPLITS, 'LLVIP')]
        images = {m: list_files(root / name / folder, 'LLVIP') for m, name in FOLDERS.items()}
        annotations = {'Annotations': list_files(root / 'Annotations', 'LLVIP', ('.xml',))}
        everything = sorted(set().union(*images.values()))  # the division is the same for all modalities
        part = choose_names(everything, split, val_fraction, str(root))
        self.gather(split, root, images, annotations, 'Annotations', part=part, expected=PAIRS[folder])

    @classmethod
    def input_folders(cls, **arguments: Any) -> dict[str, str]:
        """Modality to the name of its folder."""
        return dict(FOLDERS)
