"""The configs of clips deliver what they say, from tiny files where they look for them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from registry import DATASETS, HOSTS
from zoo.engine import load_config
from zoo.engine.cost import input_shapes

CONFIGS = Path(__file__).parents[3] / 'configs' / '_base_' / 'datasets'
EMOTIONS = ('NEU', 'HAP', 'SAD', 'FEA', 'DIS', 'ANG')


def clip(audio, frames, columns=1004, count=4):
    if audio:
        audio.parent.mkdir(parents=True, exist_ok=True)
        np.save(f'{audio}.npy', np.zeros((257, columns), np.float32))
    frames.mkdir(parents=True)
    for i in range(count):
        Image.new('RGB', (9, 7), (200, 100, 50)).save(frames / f'{i:05d}.jpg')


NAMES = [f'c{i:02d}' for i in range(12)]
LISTS = {
    'cremad/train.csv': [f'{n},{EMOTIONS[i % 6]}' for i, n in enumerate(NAMES[:10])],
    'cremad/test.csv': [f'{n},NEU' for n in NAMES[10:]],
    'ave/trainSet.txt': [f'Horse&{n}&good&0&10' for n in NAMES[:10]],
    'ave/valSet.txt': [f'Bark&{NAMES[10]}&good&0&10'],
    'ave/testSet.txt': [f'Bus&{NAMES[11]}&good&0&10'],
    'vggsound50/vggsound.csv': [f'{n},3,zither,{"train" if i < 10 else "test"}' for i, n in enumerate(NAMES)],
    'kinetics_sounds/train.txt': [f'{n} 0' for n in NAMES[:10]],
    'kinetics_sounds/test.txt': [f'{n} 1' for n in NAMES[10:]],
    'ucf101/ucfTrainTestlist/classInd.txt': ['1 Surfing'],
    'ucf101/ucfTrainTestlist/trainlist01.txt': [f'Surfing/v_Surfing_g{n}_c01.avi 1' for n in NAMES[:10]],
    'ucf101/ucfTrainTestlist/testlist01.txt': [f'Surfing/v_Surfing_g{n}_c01.avi' for n in NAMES[10:]],
}
CLIPS = {
    'cremad': lambda root, n: clip(root / 'AudioWAV' / n, root / 'Image-01-FPS' / n, 299),
    'ave': lambda root, n: clip(root / 'Audio-1004-SE' / n, root / 'Image-01-FPS-SE' / n),
    'vggsound50': lambda root, n: clip(root / f'{n}_3', root / f'{n}_3'),
    'kinetics_sounds': lambda root, n: clip(root / 'audio' / n, root / 'visual' / n),
    'ucf101': lambda root, n: [
        clip(None, root / folder / f'v_Surfing_g{n}_c01') for folder in ('jpegs_256', 'tvl1_flow/u', 'tvl1_flow/v')
    ],
}
SHORT, LONG, IMAGE = (1, 257, 299), (1, 257, 1004), (3, 224, 224)


@pytest.mark.parametrize(
    ('name', 'first', 'second', 'frames', 'classes', 'lengths'),
    [
        ('cremad', SHORT, IMAGE, 1, 6, (9, 1, 2)),
        ('ave', LONG, IMAGE, 1, 3, (10, 1, 1)),
        ('vggsound50', LONG, IMAGE, 3, 1, (9, 1, 2)),
        ('kinetics_sounds', LONG, IMAGE, 3, 2, (9, 1, 2)),
        ('ucf101', IMAGE, (20, 224, 224), 1, 1, (9, 1, 2)),
    ],
)
def test_the_splits_of_a_config_deliver_inputs_of_the_papers_size(
    tmp_path, monkeypatch, name, first, second, frames, classes, lengths
):
    monkeypatch.chdir(tmp_path)
    for n in NAMES:
        CLIPS[name](tmp_path / 'data' / name, n)
    for file, lines in LISTS.items():
        if file.startswith(f'{name}/'):
            (tmp_path / 'data' / file).parent.mkdir(exist_ok=True)
            (tmp_path / 'data' / file).write_text('\n'.join(lines))
    cfg = load_config(str(CONFIGS / f'{name}.py'))
    seen = []
    for split, length in zip(('train', 'val', 'test'), lengths):
        dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        dataset.check_annotations()
        shapes = [tuple(x.shape) for x in dataset[0]['inputs'].values()]
        training = (second[0], frames, *second[1:]) if frames > 1 and split == 'train' else second
        assert shapes == [first, training]
        assert (dataset.num_classes, len(dataset)) == (classes, length)
        seen += dataset.names
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(('name', 'columns'), [('cremad', 299), ('vggsound50', 1004)])
def test_what_a_host_costs_is_told_for_the_spectrogram_of_the_config(name, columns):
    cfg = load_config(str(CONFIGS / f'{name}.py'))
    host = HOSTS.build(
        dict(
            type='LateFusion',
            modalities=['audio', 'visual'],
            num_classes=6,
            in_chans=dict(audio=1, visual=3),
            encoder=dict(audio='test_resnet', visual=dict(type='FrameAverage', encoder='test_resnet')),
        )
    )
    assert input_shapes(cfg, host) == {'audio': [1, 257, columns], 'visual': [3, 224, 224]}
