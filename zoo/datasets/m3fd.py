"""M3FD: road scenes in colour and infrared, in the folders of its authors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry import DATASETS

from .base import Sample, choose_split
from .listing import find_folder, list_files, read_stems
from .paired_boxes import PairedBoxes
from .splits import divide

HOME = 'The data are at https://github.com/JinyuanLiu-CV/TarDAL.'
PAIRS = 4200
FOLDERS = {'rgb': 'Vis', 'ir': 'Ir'}
SHARES = {'train': 0.7, 'val': 0.1, 'test': 0.2}


@DATASETS.register_module()
class M3FD(PairedBoxes):
    """Six classes of road scenes in 4,200 aligned pairs of rgb and ir, mostly 1024 x 768 (Liu et al., CVPR 2022).

    Expects in ``root``: ``Vis``, ``Ir`` with ``<stem>.png`` and ``Annotation`` with ``<stem>.xml`` (VOC), whose boxes
    hold for both modalities. There is no official split: take that of the work you compare with, as lists. The classes
    are numbered in another order than in TarDAL's code (people, car, bus, lamp, motorcycle, truck).

    Args:
        root: The folder of the data set.
        split: The name of a list, or one of ``shares``.
        modalities: A subset of rgb and ir in any order; None for both.
        list_file: Below ``root``, one stem, or name or path of an image, a line; ``{split}`` in it stands for the
            split: ``'meta/{split}.txt'``. None divides all samples at random.
        shares: Split to its share of the samples where there is no list; the shares sum up to 1. None for 0.7 train,
            0.1 val, 0.2 test. Frames of one video may lie on both sides.
        seed: Of this division, which is a function of seed and stems alone.
        ir_channels: 1, or 3 equal ones as the files have them.
        on_bad_box: See `PairedBoxes`.
        ignore: See `PairedBoxes`.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown split, modality or ``on_bad_box``.
        InputError: A missing folder or list, shares that do not sum up to 1, or no samples.
    """

    classes = ('people', 'car', 'bus', 'motorcycle', 'lamp', 'truck')

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        list_file: str | None = None,
        shares: Mapping[str, float] | None = None,
        seed: int = 0,
        ir_channels: int = 1,
        on_bad_box: str = 'drop',
        ignore: Sequence[str] | str = (),
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms, on_bad_box, ignore, {'rgb': 3, 'ir': ir_channels})
        root, shares = find_folder(root, 'M3FD', HOME), SHARES if shares is None else shares
        images = {m: list_files(root / name, 'M3FD') for m, name in FOLDERS.items()}
        annotations = {'Annotation': list_files(root / 'Annotation', 'M3FD', ('.xml',))}
        if list_file is None:
            everything = set().union(*images.values())  # the division is the same for all modalities
            part = divide(everything, shares, seed)[choose_split(split, shares, 'M3FD')]
            self.gather(split, root, images, annotations, 'Annotation', part=part, expected=PAIRS)
        else:
            listed = read_stems(root / list_file.replace('{split}', split))
            self.gather(split, root, images, annotations, 'Annotation', listed=listed)

    @classmethod
    def input_folders(cls, **arguments: Any) -> dict[str, str]:
        """Modality to the name of its folder."""
        return dict(FOLDERS)
