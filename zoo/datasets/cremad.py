"""CREMA-D: acted emotions, heard and seen, in the folders that OGM-GE's users have."""

from pathlib import Path
from typing import ClassVar

from registry import DATASETS, InputError, unknown_name

from .audio_visual import AudioVisual
from .clips import Clip, read_lines

EMOTIONS = ('NEU', 'HAP', 'SAD', 'FEA', 'DIS', 'ANG')


@DATASETS.register_module()
class CREMAD(AudioVisual):
    """Six emotions in 7,442 clips of 91 actors, 6,698 for training and 744 for testing (Cao et al., TAC 2014; the
    division of Peng et al., CVPR 2022).

    Expects in ``root``: ``train.csv`` and ``test.csv``, ``<clip>,<emotion>`` a line without header,
    ``AudioWAV/<clip>.wav`` and ``Image-01-FPS/<clip>/00000.jpg``. There is no validation split; ``val_fraction`` takes
    one from the training list. The division is by clip: actors are heard in both parts. Arguments: see `AudioVisual`.
    """

    classes = EMOTIONS
    lists: ClassVar = {'train': 'train.csv', 'val': 'train.csv', 'test': 'test.csv'}
    folders: ClassVar = {'audio': 'AudioWAV', 'visual': 'Image-01-FPS'}
    seconds = 3.0
    origin = (
        'The sound is at https://github.com/CheyneyComputerScience/CREMA-D, lists and preparation of frames at '
        'https://github.com/GeWu-Lab/OGM-GE_CVPR2022.'
    )

    def read_clips(self, file: Path) -> list[Clip]:
        clips = []
        for number, line in read_lines(file, 'CREMAD', self.origin):
            name, _, emotion = (part.strip() for part in line.partition(','))
            if not emotion or ',' in emotion:
                raise InputError(f'{file}:{number}: expected "clip,emotion", got {line!r}.')
            if emotion not in EMOTIONS:
                raise unknown_name(f'emotion ({file}:{number})', emotion, EMOTIONS)
            clips.append(Clip((name,), EMOTIONS.index(emotion), f'{file}:{number}'))
        return clips
