"""VGGSound: sounds in videos, of which published work on balancing and distillation takes 50 classes."""

import csv
from pathlib import Path
from typing import ClassVar

from registry import DATASETS, InputError

from .audio_visual import AudioVisual
from .clips import Clip, read_lines


@DATASETS.register_module()
class VGGSound(AudioVisual):
    """Sounds in videos of 10 seconds (Chen et al., ICASSP 2020), of the classes that the table names.

    Expects in ``root``: ``vggsound.csv`` with ``video,start,class,split`` a line, split being train or test,
    ``<video>_<start>/`` with frames and ``<video>_<start>.npy`` with a spectrogram or ``.wav`` with the sound; the
    start as the table has it, or with zeros to six digits. Clips with three frames or fewer count as without any, and
    what lacks frames or sound is left out unless ``on_missing`` says otherwise: many videos have vanished. The classes
    are those of the table, sorted, whatever there is of them. There is no validation split; ``val_fraction`` takes one
    from the clips of training. Arguments: see `AudioVisual`.
    """

    lists: ClassVar = dict.fromkeys(('train', 'val', 'test'), 'vggsound.csv')
    folders: ClassVar = {'audio': '', 'visual': ''}
    origin = 'Table and videos are at https://www.robots.ox.ac.uk/~vgg/data/vggsound.'
    least_frames = 4
    usually = 'skip'

    def read_clips(self, file: Path) -> list[Clip]:
        rows = []
        for number, line in read_lines(file, 'VGGSound', self.origin):
            fields = [f.strip() for f in next(csv.reader([line], skipinitialspace=True))]
            if len(fields) != 4 or not all(fields):
                raise InputError(f'{file}:{number}: expected "video,start,class,split", got {line!r}.')
            if fields[3] not in ('train', 'test', 'split'):
                raise InputError(f'{file}:{number}: the split is train or test, got {fields[3]!r}.')
            if fields[3] != 'split':  # the header of some copies
                rows.append((number, *fields))
        self.classes = tuple(sorted({category for _, _, _, category, _ in rows}))
        labels = {name: i for i, name in enumerate(self.classes)}
        return [
            Clip((f'{video}_{start}', f'{video}_{start.zfill(6)}'), labels[category], f'{file}:{number}')
            for number, video, start, category, of in rows
            if of == self.part
        ]
