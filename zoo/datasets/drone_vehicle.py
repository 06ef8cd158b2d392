"""DroneVehicle: vehicles seen by a drone in colour and infrared, in the folders of its authors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor

from registry import DATASETS, InputError, unknown_name

from .base import Sample, choose_split
from .images import UNREADABLE, read_channels
from .listing import Files, find_folder, list_files
from .paired_boxes import PairedBoxes

HOME = 'The data are at https://github.com/VisDrone/DroneVehicle.'
PAIRS = {'train': 17990, 'val': 1469, 'test': 8980}
FOLDERS = {'rgb': ('img', 'label'), 'ir': ('imgr', 'labelr')}  # each after the name of the split
CONTENT = (512, 640)  # height and width within the published border
TRUNCATED = {'train': {'rgb': '09012', 'ir': '16009'}}  # in the published archives
LABELS = ('ir', 'rgb', 'both')
ON_BAD_IMAGE = ('absent', 'error')


@DATASETS.register_module()
class DroneVehicle(PairedBoxes):
    """Five kinds of vehicles in rgb and ir, annotated in each modality on its own (Sun et al., TCSVT 2022).

    Expects in ``root``, for each split, ``train/trainimg`` (rgb), ``train/trainimgr`` (ir), ``train/trainlabel`` and
    ``train/trainlabelr``, with ``<stem>.jpg`` and ``<stem>.xml``. The files are paired by their stems; what the XML
    says about its image is not read. Objects are oriented; the upright box around their four corners is delivered.

    Known defects are repaired: other spellings of freight_car and truck, an object of the class ``*`` (left out), an
    XML file without image (left out, with a line that says so), two truncated images (see ``on_bad_image``).

    Args:
        root: The folder of the data set.
        split: ``'train'`` (17,990 pairs), ``'val'`` (1,469) or ``'test'`` (8,980).
        modalities: A subset of rgb and ir in any order; None for both.
        labels: Whose boxes to take: ``'ir'`` (at night many cars are invisible in rgb), ``'rgb'``, or ``'both'``: those
            of ir, and under ``'own'`` those of each delivered modality.
        crop_border: The width of the white border that is cut off every image, boxes along with it; 0 where images and
            annotations are cropped already. The published 840 x 712 (W x H) become 640 x 512. Of single files
            (`read_input`) only those of 640 x 512 and this border on each side are cropped.
        min_visible: A box of which less than this share of the area is left after cropping is dropped and counted.
        ir_channels: 1, or 3 equal ones as the files have them.
        on_bad_box: See `PairedBoxes`.
        on_bad_image: ``'absent'``: the modality of an image that can not be read is absent from the sample; the two
            known ones are looked at in the beginning, any other makes a warning when it is read. ``'error'``: stop.
        ignore: See `PairedBoxes`.
        transforms: See `MultimodalDataset`.

    Raises:
        NameNotFound: An unknown split, modality, ``labels`` or ``on_bad_...``.
        InputError: A missing folder, no samples, a number out of range, or images that are cropped already.
    """

    classes = ('car', 'truck', 'bus', 'van', 'freight_car')
    aliases: ClassVar[dict[str, str]] = {'feright_car': 'freight_car', 'feright': 'freight_car', 'truvk': 'truck'}
    ignored = ('*',)

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        labels: str = 'ir',
        crop_border: int = 100,
        min_visible: float = 0.3,
        ir_channels: int = 1,
        on_bad_box: str = 'drop',
        on_bad_image: str = 'absent',
        ignore: Sequence[str] | str = (),
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        super().__init__(modalities, transforms, on_bad_box, ignore, {'rgb': 3, 'ir': ir_channels})
        for name, value, known in (('labels', labels, LABELS), ('on_bad_image', on_bad_image, ON_BAD_IMAGE)):
            if value not in known:
                raise unknown_name(f'{name} of DroneVehicle', value, known)
        if not isinstance(crop_border, int) or isinstance(crop_border, bool) or crop_border < 0:
            raise InputError(f'crop_border is a number of pixels, 0 or more, got {crop_border!r}.')
        if not 0 <= min_visible <= 1:
            raise InputError(f'min_visible is a share in 0..1, got {min_visible!r}.')
        self.border, self.min_visible, self.on_bad_image = crop_border, min_visible, on_bad_image
        folder = find_folder(Path(root) / choose_split(split, PAIRS, 'DroneVehicle'), 'DroneVehicle', HOME)
        images = {m: list_files(folder / f'{split}{FOLDERS[m][0]}', 'DroneVehicle') for m in self.all_modalities}
        if on_bad_image == 'absent':
            _leave_out_unreadable(images, TRUNCATED.get(split, {}))
        sets = FOLDERS if labels == 'both' else (labels,)
        annotations = {m: list_files(folder / f'{split}{FOLDERS[m][1]}', 'DroneVehicle', ('.xml',)) for m in sets}
        main, own = ('ir', self.modalities) if labels == 'both' else (labels, ())
        self.gather(split, folder, images, annotations, main, own, orphans=True, expected=PAIRS[split])
        if crop_border and self._image_size(0) == CONTENT:
            raise InputError(
                f'{self.source(0)}: it has no border any more (640 x 512); give DroneVehicle crop_border=0.'
            )

    def _read(self, modality: str, file: Path) -> Tensor:
        return crop(read_channels(file, self.channels[modality]), self.border, file)

    @classmethod
    def _read_file(
        cls, modality: str, file: Path, ir_channels: int = 1, crop_border: int = 100, **arguments: Any
    ) -> Tensor:
        """An image of the published outer size loses its border; one of any other size is taken as it is."""
        image = super()._read_file(modality, file, ir_channels)
        outer = tuple(side + 2 * crop_border for side in CONTENT)
        return crop(image, crop_border, file) if tuple(image.shape[1:]) == outer else image

    @classmethod
    def input_folders(cls, split: str = 'train', **arguments: Any) -> dict[str, str]:
        """Modality to the name of its folder in that of the split."""
        return {m: f'{split}{name}' for m, (name, _) in FOLDERS.items()}


def crop(image: Tensor, border: int, file: str | Path) -> Tensor:
    """An image (C, H, W) without ``border`` pixels on each side.

    Raises:
        InputError: Nothing would be left.
    """
    height, width = image.shape[1:]
    if min(height, width) <= 2 * border:
        raise InputError(f'{file}: an image of {height}x{width} (H x W) has no border of {border} pixels to cut off.')
    return image[:, border : height - border, border : width - border]


def _leave_out_unreadable(images: Mapping[str, Files], suspects: Mapping[str, str]) -> None:
    for modality, stem in suspects.items():
        if file := images[modality].get(stem):
            try:
                with Image.open(file) as image:
                    image.load()
            except UNREADABLE:
                del images[modality][stem]
