"""Kinetics-Sounds: the actions of Kinetics that can be heard."""

from pathlib import Path
from typing import ClassVar

from registry import DATASETS, InputError

from .audio_visual import AudioVisual
from .clips import Clip, read_lines


@DATASETS.register_module()
class KineticsSounds(AudioVisual):
    """Actions that are seen and heard, 31 to 34 classes of Kinetics (Arandjelovic and Zisserman, ICCV 2017).

    Expects in ``root``: ``train.txt`` and ``test.txt``, on each line the clip, anything, and at the end its label,
    separated by spaces; ``audio/<clip>.npy`` with a log-mel spectrogram (``shape`` says its size) or ``.wav`` with the
    sound, and ``visual/<clip>/`` with frames. The clip may be a path or the name of a video, of which folder and suffix
    do not count. Labels are names, then sorted, or numbers from 0. There is no validation split; ``val_fraction`` takes
    one from the training list, or ``lists=dict(val='val.txt')`` names one. Arguments: see `AudioVisual`.
    """

    folders: ClassVar = {'audio': 'audio', 'visual': 'visual'}
    origin = 'The videos are at https://github.com/cvdfoundation/kinetics-dataset.'

    def read_clips(self, file: Path) -> list[Clip]:
        rows = {name: self._read(self.root / name) for name in dict.fromkeys(self.lists.values())}
        found = {label for part in rows.values() for _, _, label in part}
        if all(label.isdecimal() for label in found):
            self.classes = tuple(map(str, range(max(map(int, found)) + 1)))
            labels = {label: int(label) for label in found}
        else:
            self.classes = tuple(sorted(found))
            labels = {name: i for i, name in enumerate(self.classes)}
        return [
            Clip((clip,), labels[label], f'{file}:{number}') for number, clip, label in rows[self.lists[self.split]]
        ]

    def _read(self, file: Path) -> list[tuple[int, str, str]]:
        rows = []
        for number, line in read_lines(file, 'KineticsSounds', self.origin):
            fields = line.split()
            if len(fields) < 2:
                raise InputError(f'{file}:{number}: expected "clip ... label", got {line!r}.')
            rows.append((number, _stem(fields[0]), fields[-1]))
        return rows


def _stem(clip: str) -> str:
    name = clip.replace('\\', '/').rstrip('/').rpartition('/')[2]
    stem, dot, suffix = name.rpartition('.')
    return stem if dot and suffix.lower() in ('mp4', 'avi', 'mkv', 'webm', 'wav', 'npy', 'pt', 'pkl') else name
