"""The configs of the medical sets deliver what they say, from tiny files where they look for them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from registry import DATASETS
from zoo.engine import load_config

CONFIGS = Path(__file__).parents[3] / 'configs' / '_base_' / 'datasets'
SKIN = ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc')
CELLS = ('Dyskeratotic', 'Koilocytotic', 'Metaplastic', 'Parabasal', 'Superficial-Intermediate')


def paint(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (9, 7), (200, 100, 50)).save(file)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COUNTERPOISE_CACHE', str(tmp_path / 'cache'))
    root = tmp_path / 'data'
    lines = ['lesion_id,image_id,dx']
    for i in range(10):
        for name in SKIN:
            paint(root / 'ham10000' / 'HAM10000_images_part_1' / f'{name}{i}.jpg')
            lines.append(f'{name}{i},{name}{i},{name}')
        for name in CELLS:
            paint(root / 'sipakmed' / f'im_{name}' / f'im_{name}' / 'CROPPED' / f'{i:03d}_01.bmp')
        for folder in ('images', 'masks'):
            paint(root / 'kvasir_seg' / folder / f'{i}.jpg')
    (root / 'ham10000' / 'HAM10000_metadata.csv').write_text('\n'.join(lines))
    arrays = {}
    for split in ('train', 'val', 'test'):
        arrays[f'{split}_images'] = np.zeros((2, 128, 128, 3), np.uint8)
        arrays[f'{split}_labels'] = np.zeros((2, 1), np.uint8)
    (root / 'medmnist').mkdir()
    np.savez_compressed(root / 'medmnist' / 'pathmnist_128.npz', **arrays)


@pytest.mark.filterwarnings('ignore:.*published are')
@pytest.mark.parametrize(
    ('name', 'shapes', 'classes'),
    [
        ('medmnist', {'image': (3, 128, 128)}, 9),
        ('ham10000', {'image': (3, 128, 128)}, 7),
        ('kvasir_seg', {'image': (3, 224, 224)}, 2),
        ('sipakmed_ham10000', {'cells': (3, 128, 128), 'skin': (3, 128, 128)}, {'cells': 5, 'skin': 7}),
    ],
)
def test_the_splits_of_a_config_deliver_images_of_the_papers_size(data, name, shapes, classes):
    cfg = load_config(str(CONFIGS / f'{name}.py'))
    seen = []
    for split in ('train', 'val', 'test'):
        dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        dataset.check_annotations()
        sample = dataset[0]
        assert {m: tuple(x.shape) for m, x in sample['inputs'].items()} == shapes
        assert dataset.num_classes == classes
        seen += getattr(dataset, 'names', ())
    assert len(set(seen)) == len(seen)
