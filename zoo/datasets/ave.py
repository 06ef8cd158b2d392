"""AVE: events that are both audible and visible."""

from pathlib import Path
from typing import ClassVar

from registry import DATASETS, InputError

from .audio_visual import AudioVisual
from .clips import Clip, read_lines


@DATASETS.register_module()
class AVE(AudioVisual):
    """Events of 28 classes in 4,143 videos of 10 seconds (Tian et al., ECCV 2018).

    Expects in ``root``: ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt``, ``category&video&quality&start&end`` a
    line; ``Audio-1004-SE/<video>`` with the suffix of a spectrogram (257x1004) or of a sound, and
    ``Image-01-FPS-SE/<video>/`` with frames. A video that a list names again counts once, as its first line says. The
    classes are those of all three lists, sorted. Arguments: see `AudioVisual`; ``columns=1024`` adds silence at the end
    for encoders that want it.
    """

    lists: ClassVar = {'train': 'trainSet.txt', 'val': 'valSet.txt', 'test': 'testSet.txt'}
    folders: ClassVar = {'audio': 'Audio-1004-SE', 'visual': 'Image-01-FPS-SE'}
    origin = 'The videos and lists are at https://github.com/YapengTian/AVE-ECCV18.'

    def read_clips(self, file: Path) -> list[Clip]:
        rows = {name: self._read(self.root / name) for name in dict.fromkeys(self.lists.values())}
        self.classes = tuple(sorted({category for part in rows.values() for _, category, _ in part}))
        clips: dict[str, Clip] = {}
        for number, category, video in rows[self.lists[self.split]]:
            clips.setdefault(video, Clip((video,), self.classes.index(category), f'{file}:{number}'))
        return list(clips.values())

    def _read(self, file: Path) -> list[tuple[int, str, str]]:
        rows = []
        for number, line in read_lines(file, 'AVE', self.origin):
            fields = [f.strip() for f in line.split('&')]
            if len(fields) < 2 or not all(fields[:2]):
                raise InputError(f'{file}:{number}: expected "category&video&...", got {line!r}.')
            if fields[1] != 'VideoID':  # the header of the file that all lists come from
                rows.append((number, *fields[:2]))
        return rows
