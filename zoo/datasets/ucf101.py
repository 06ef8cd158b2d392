"""UCF101: actions in colour and optical flow, in the folders that two-stream networks are trained from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from registry import DATASETS, InputError

from .base import Sample, image_size
from .clips import Clip, ClipDataset, list_clips, list_frames, read_frames, read_lines, stack
from .images import read_listed
from .rgbd_folder import choose_names


@DATASETS.register_module()
class UCF101(ClipDataset):
    """Actions of 101 classes in 13,320 videos (Soomro et al., 2012), in ``rgb`` and ``flow``.

    Expects in ``root``: ``ucfTrainTestlist/`` with ``classInd.txt``, ``trainlist01.txt`` and ``testlist01.txt``,
    ``jpegs_256/<video>/frame000001.jpg`` and ``tvl1_flow/{u,v}/<video>/frame000001.jpg``, flow in grey with 128 for no
    motion, as Feichtenhofer et al. (CVPR 2016) publish them. Flow is a stack of ``flow_length`` successive fields from
    the frame on, channels u, v, u, v, ...; mirroring turns the sign of u. The other two divisions:
    ``lists=dict(train='ucfTrainTestlist/trainlist02.txt', ...)``. There is no validation split; ``val_fraction`` takes
    one from the training list by groups, the clips of one group being parts of one video.

    Args:
        root: See `ClipDataset`, as all that is not named here.
        flow_length: L; flow has 2 L channels. A shorter video repeats its last field.
    """

    all_modalities = ('rgb', 'flow')
    all_channels: ClassVar[dict[str, int]] = {'rgb': 3, 'flow': 20}
    lists: ClassVar = {
        'train': 'ucfTrainTestlist/trainlist01.txt',
        'val': 'ucfTrainTestlist/trainlist01.txt',
        'test': 'ucfTrainTestlist/testlist01.txt',
    }
    folders: ClassVar = {'rgb': 'jpegs_256', 'u': 'tvl1_flow/u', 'v': 'tvl1_flow/v'}
    flow = ('flow',)
    origin = (
        'The lists are at https://www.crcv.ucf.edu/data/UCF101.php, frames and flow at '
        'https://github.com/feichtenhofer/twostreamfusion.'
    )

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        modalities: Sequence[str] | str | None = None,
        size: int | Sequence[int] = 224,
        augment: bool | None = None,
        frames: int = 1,
        flow_length: int = 10,
        lists: Mapping[str, str] | None = None,
        folders: Mapping[str, str] | None = None,
        val_fraction: float = 0.0,
        on_missing: str | None = None,
        transforms: Iterable[Mapping[str, Any] | str | Callable[[Sample], Sample]] = (),
    ) -> None:
        if not isinstance(flow_length, int) or isinstance(flow_length, bool) or flow_length < 1:
            raise InputError(f'UCF101: flow_length is a whole number of at least 1, got {flow_length!r}.')
        self.flow_length, self.all_channels = flow_length, {'rgb': 3, 'flow': 2 * flow_length}
        super().__init__(
            root, split, modalities, size, augment, frames, lists, folders, val_fraction, on_missing, transforms
        )

    def read_clips(self, file: Path) -> list[Clip]:
        numbers = file.with_name('classInd.txt')
        named = {}
        for number, line in read_lines(numbers, 'UCF101', self.origin):
            index, _, name = line.partition(' ')
            if index != str(len(named) + 1) or not name.strip():
                raise InputError(f'{numbers}:{number}: expected "{len(named) + 1} class", got {line!r}.')
            named[name.strip()] = len(named)
        self.classes = tuple(named)
        clips = []
        for number, line in read_lines(file, 'UCF101', self.origin):
            category, slash, video = line.split()[0].partition('/')  # the label behind it says the same
            if not slash:
                raise InputError(f'{file}:{number}: expected "class/video.avi", got {line!r}.')
            if category not in named:
                raise InputError(f'{file}:{number}: {numbers.name} has no class {category!r}.')
            name = video.removesuffix('.avi')
            # the lists spell this action differently from the folders of some copies
            names = tuple(dict.fromkeys((name, name.replace('HandStand', 'Handstand'))))
            clips.append(Clip(names, named[category], f'{file}:{number}'))
        return clips

    def divide(self, clips: Sequence[Clip], split: str, val_fraction: float) -> list[Clip]:
        groups = list(dict.fromkeys(_group(c) for c in clips))
        chosen = set(choose_names(groups, split, val_fraction, str(self.list)))
        return [c for c in clips if _group(c) in chosen]

    def find(self, modality: str) -> dict[str, Any]:
        found = [list_clips(self.folder(n), 'UCF101') for n in (('rgb',) if modality == 'rgb' else ('u', 'v'))]
        if modality == 'rgb':
            return found[0]
        u, v = found
        return {name: (path, v[name]) for name, path in u.items() if name in v}

    def wanted(self, modality: str, name: str) -> str:
        return ' and '.join(str(self.folder(n) / name) for n in (('rgb',) if modality == 'rgb' else ('u', 'v')))

    def read(self, modality: str, where: Any, positions: Sequence[float]) -> Tensor:
        if modality == 'rgb':
            return read_frames(where, positions)
        u, v = (list_frames(folder) for folder in where)
        if len(u) != len(v):
            raise InputError(f'{where[0]} holds {len(u)} fields of flow, {where[1]} {len(v)}.')
        stacks = []
        for p in positions:
            start = max(0, min(int(p * len(u)), len(u) - self.flow_length))
            steps = [min(start + i, len(u) - 1) for i in range(self.flow_length)]
            files = [Path(folder) / names[i] for i in steps for folder, names in zip(where, (u, v))]
            stacks.append(stack([read_listed(f, 1) for f in files], where[0])[0])  # one channel, 2 L pictures
        return stack(stacks, where[0])

    @classmethod
    def own_sizes(
        cls, size: int | Sequence[int] = 224, frames: int = 1, **arguments: Any
    ) -> dict[str, tuple[int, ...]]:
        """That of several frames."""
        return dict.fromkeys(cls.all_modalities, (frames, *image_size(size))) if frames > 1 else {}


def _group(clip: Clip) -> str:
    return clip.names[0].rpartition('_c')[0]
