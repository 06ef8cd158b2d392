"""Kvasir-SEG and ISIC 2018, on tiny files in their layouts."""

import numpy as np
import pytest
import torch
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import IGNORE

pytestmark = pytest.mark.filterwarnings('ignore:.*published are')
FOLDERS = {
    'kvasir_seg': ('images/{}.jpg', 'masks/{}.jpg'),
    'isic2018': (
        'ISIC2018_Task1-2_Training_Input/{}.jpg',
        'ISIC2018_Task1_Training_GroundTruth/{}_segmentation.png',
    ),
}
STEMS = [f'ISIC_{i:07d}' for i in range(20)]


def paint(file, pixels):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, quality=95)


def mask(colours):
    """A white square of 8 x 8 in the upper left of 24 x 32 pixels."""
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    return pixels if colours else pixels[..., 0]


@pytest.fixture(params=FOLDERS)
def layout(request):
    return request.param


@pytest.fixture
def root(tmp_path, layout):
    image, label = FOLDERS[layout]
    for i, stem in enumerate(STEMS):
        paint(tmp_path / image.format(stem), np.full((24, 32, 3), 5 * i, np.uint8))
        paint(tmp_path / label.format(stem), mask(colours=layout == 'kvasir_seg'))
    (tmp_path / image.format('x')).with_name('LICENSE.txt').write_text('CC-0')
    return tmp_path


def load(root, layout, **arguments):
    return DATASETS.build(dict(type='ImageMasks', root=str(root), layout=layout, **arguments))


def test_a_sample_is_an_image_and_its_mask(root, layout):
    data = load(root, layout, split='all')
    sample = data[3]
    assert sample['inputs']['image'].float().mean() == 15
    assert sample['target'].dtype == torch.int64
    assert sample['target'].shape == (24, 32)
    assert torch.equal(sample['target'].bool(), torch.from_numpy(mask(False) > 0))  # also through JPEG
    assert data.classes == ('background', 'polyp' if layout == 'kvasir_seg' else 'lesion')
    assert data.label_counts()[0].tolist() == [20 * (24 * 32 - 64), 20 * 64]


def test_every_image_is_in_one_split(root, layout):
    parts = [load(root, layout, split=s).names for s in ('train', 'val', 'test')]
    assert [len(p) for p in parts] == [16, 2, 2]
    assert sorted(name for part in parts for name in part) == STEMS
    assert load(root, layout, split='test', seed=1).names != parts[2]


def test_images_are_resized_smoothly_and_masks_are_not(root, layout):
    view = dict(type='RandomView', views='rotated')
    sample = load(root, layout, transforms=[dict(type='Resize', size=(48, 40)), view])[0]
    assert sample['inputs']['image'].shape == (3, 48, 40)
    assert sample['target'].unique().tolist() == [0, 1, IGNORE]


def test_a_mask_of_another_size_is_found_before_training(root, layout):
    data = load(root, layout, split='all')
    data.check_annotations()
    file = root / FOLDERS[layout][1].format(STEMS[4])
    paint(file, np.zeros((24, 30), np.uint8))
    for look in (data.check_annotations, lambda: data[4]):
        with pytest.raises(InputError, match=rf'{file.name}: the mask has 24x30 pixels \(H x W\), its image .* 24x32'):
            look()


def test_missing_and_unreadable_files_are_named(root, layout):
    image, label = (root / p.format(STEMS[2]) for p in FOLDERS[layout])
    image.write_text('no image')
    with pytest.raises(InputError, match=rf'{image.name}: can not be read as an image'):
        load(root, layout, split='all').check_annotations()
    label.unlink()
    with pytest.raises(InputError, match=rf'{image.name}: its mask {label.stem} is not in .*{label.parent.name}'):
        load(root, layout)


@pytest.mark.parametrize('layout', ['kvasir_seg'])
@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(root='nowhere'), InputError, 'no folder nowhere'),
        (dict(layout='isic'), NameNotFound, "No layout of ImageMasks named 'isic'. Did you mean"),
        (dict(layout='isic2018'), InputError, 'no folder .*ISIC2018_Task1-2_Training_Input'),
        (dict(split='dev'), NameNotFound, 'No split of ImageMasks .*dev'),
    ],
)
def test_a_wrong_argument_is_refused(root, arguments, error, message):
    with pytest.raises(error, match=message):
        load(**{'root': root, 'layout': 'kvasir_seg', **arguments})
