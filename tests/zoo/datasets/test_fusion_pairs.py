"""Pairs for image fusion, on tiny files in the layouts of public sets."""

import numpy as np
import pytest
import torch
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.engine import Collate, build_dataloader
from zoo.engine.sample_files import find_samples

pytestmark = pytest.mark.filterwarnings('ignore:.*published are')
SIZE = (24, 32)
STEMS = [f'{i:05d}N' for i in range(12)]
LAYOUTS = {  # the files of training images
    'msrs': ('train/vi/{}.png', 'train/ir/{}.png'),
    'llvip': ('visible/train/{}.jpg', 'infrared/train/{}.jpg'),
    'm3fd': ('Vis/{}.png', 'Ir/{}.png'),
    'roadscene': ('crop_LR_visible/{}.jpg', 'cropinfrared/{}.jpg'),
    'flat': ('VIS{}.bmp', 'IR{}.bmp'),
}


def paint(file, pixels):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def colour(i, size=SIZE):
    return np.full((*size, 3), (10 * i, 100, 200), np.uint8)


def grey(i, size=SIZE):
    return np.full(size, 10 * i, np.uint8)


def write(root, layout, stems=STEMS):
    for template, pixels in zip(LAYOUTS[layout], (colour, grey)):
        for i, stem in enumerate(stems):
            paint(root / template.format(stem), pixels(i))


def load(root, layout='msrs', **arguments):
    return DATASETS.build(dict(type='FusionPairs', root=str(root), layout=layout, **arguments))


@pytest.mark.parametrize('layout', LAYOUTS)
def test_each_layout_gives_pairs_by_their_stems(tmp_path, layout):
    write(tmp_path, layout)
    data = load(tmp_path, layout, split='train' if layout in ('msrs', 'llvip') else 'all')
    assert (data.modalities, data.channels, len(data)) == (('vis', 'ir'), {'vis': 3, 'ir': 1}, 12)
    sample = data[3]
    assert sample['inputs']['vis'].shape == (3, *SIZE)
    assert sample['inputs']['ir'].shape == (1, *SIZE)
    assert sample['inputs']['ir'].dtype == torch.uint8
    assert sample['inputs']['ir'].float().mean() == 30
    assert sample['inputs']['vis'][0].float().mean() == pytest.approx(30, abs=3)  # JPEG
    assert sample['target'] is None
    assert Collate(data.modalities)([sample, data[4]])['target'] is None
    data.check_annotations()


@pytest.mark.parametrize(('vis', 'ir'), [('train/Visible', 'train/INFRARED'), ('train/vis', 'train/ir')])
def test_folders_may_have_other_usual_names(tmp_path, vis, ir):
    paint(tmp_path / vis / 'a.png', colour(1))
    paint(tmp_path / ir / 'a.jpg', grey(1))
    assert len(load(tmp_path)) == 1


def test_numbers_in_names_sort_by_size(tmp_path):
    write(tmp_path, 'flat', stems=['10', '9', '1a'])
    assert load(tmp_path, 'flat', split='all').names == ['1a', '9', '10']


def test_training_images_are_divided_where_nothing_else_is(tmp_path):
    write(tmp_path, 'msrs')
    paint(tmp_path / 'test/vi/x.png', colour(0))
    paint(tmp_path / 'test/ir/x.png', grey(0))
    parts = {split: load(tmp_path, split=split, val_fraction=0.25).names for split in ('train', 'val', 'test')}
    assert {k: len(v) for k, v in parts.items()} == {'train': 9, 'val': 3, 'test': 1}
    assert sorted(parts['train'] + parts['val']) == STEMS
    write(tmp_path, 'm3fd')
    parts = [load(tmp_path, 'm3fd', split=s, shares={'train': 0.75, 'val': 0.25}).names for s in ('train', 'val')]
    assert [len(p) for p in parts] == [9, 3]
    assert sorted(parts[0] + parts[1]) == STEMS


def test_another_number_than_the_published_one_gets_a_line(tmp_path):
    write(tmp_path, 'roadscene')
    with pytest.warns(UserWarning, match=r'12 pairs, published are 221\.'):
        load(tmp_path, 'roadscene', split='all')


def test_grey_alpha_and_16_bits_are_brought_to_the_same_form(tmp_path):
    paint(tmp_path / 'train/vi/a.png', grey(5))
    paint(tmp_path / 'train/vi/b.png', np.dstack((colour(5), grey(1))))
    paint(tmp_path / 'train/ir/a.png', np.full(SIZE, 65535, np.uint16))
    paint(tmp_path / 'train/ir/b.png', np.full(SIZE, 257 * 3, np.uint16))
    a, b = load(tmp_path)
    assert torch.equal(a['inputs']['vis'], torch.full((3, *SIZE), 50, dtype=torch.uint8))
    assert b['inputs']['vis'][:, 0, 0].tolist() == [50, 100, 200]
    assert a['inputs']['ir'].unique().tolist() == [255]
    torch.testing.assert_close(b['inputs']['ir'], torch.full((1, *SIZE), 3.0))
    one = load(tmp_path, vis_channels=1)[1]['inputs']['vis']
    assert one.unique().tolist() == [round(0.299 * 50 + 0.587 * 100 + 0.114 * 200)]
    file = tmp_path / 'train/ir/b.png'
    torch.testing.assert_close(DATASETS.find('FusionPairs').read_input('ir', file), b['inputs']['ir'])


def test_a_visible_image_of_16_bits_gets_one_line(tmp_path):
    write(tmp_path, 'msrs', ['a'])
    paint(tmp_path / 'train/vi/a.png', np.full(SIZE, 3000, np.uint16))
    with pytest.raises(InputError, match=r'a\.png: expected 8 bits a channel'):
        load(tmp_path)[0]


def test_files_without_a_partner_are_listed(tmp_path):
    write(tmp_path, 'msrs')
    for stem in STEMS[:7]:
        (tmp_path / f'train/ir/{stem}.png').unlink()
    with pytest.raises(InputError, match=r'7 files have no partner of the same stem: .*00000N\.png, .*00004N.png, \.'):
        load(tmp_path)


def test_pairs_of_two_sizes_are_listed_unless_they_are_resized(tmp_path):
    write(tmp_path, 'm3fd')
    for stem in STEMS[:2]:
        paint(tmp_path / f'Ir/{stem}.png', grey(1, (25, 33)))
    data = load(tmp_path, 'm3fd', split='all')
    with pytest.raises(InputError, match=r'of 2 pairs differ in size .*00000N\.png \(24x32, 25x33\), .*00001N.*Resize'):
        data.check_annotations()
    with pytest.raises(InputError, match=r'00000N\.png: the modalities differ in size'):
        data[0]
    alike = load(tmp_path, 'm3fd', split='all', transforms=[dict(type='Resize', size=(21, 30))])
    alike.check_annotations()
    assert {tuple(x.shape[1:]) for x in alike[0]['inputs'].values()} == {(21, 30)}


def test_training_batches_are_moved_together(tmp_path):
    for i, stem in enumerate(STEMS):
        pixels = np.random.default_rng(i).integers(0, 255, SIZE, np.uint8)
        paint(tmp_path / f'train/vi/{stem}.png', pixels)
        paint(tmp_path / f'train/ir/{stem}.png', pixels)
    moves = ['RandomFlip', dict(type='RandomFlip', direction='vertical'), 'RandomTranspose']
    dataset = dict(type='FusionPairs', root=str(tmp_path), transforms=[dict(type='RandomCrop', size=16), *moves])
    for batch in build_dataloader(dict(dataset=dataset, batch_size=4), True):
        assert batch['inputs']['vis'].shape == (4, 3, 16, 16)
        assert torch.equal(batch['inputs']['vis'][:, :1], batch['inputs']['ir'])


def test_files_of_users_are_found_in_the_layouts(tmp_path):
    cls = DATASETS.find('FusionPairs')
    write(tmp_path / 'flat', 'flat', ['2', '10'])
    (tmp_path / 'flat' / 'IR10.bmp').unlink()
    found = find_samples([tmp_path / 'flat'], ['vis', 'ir'], cls.input_folders(layout='flat'), cls.find_files)
    assert [(s.name, list(s.files)) for s in found] == [('2', ['vis', 'ir']), ('10', ['vis'])]
    write(tmp_path / 'msrs', 'msrs', ['a'])
    found = find_samples([tmp_path / 'msrs' / 'train'], ['vis', 'ir'], cls.input_folders(), cls.find_files)
    assert [f.parent.name for f in found[0].files.values()] == ['vi', 'ir']


MISTAKES = {
    'layout': (dict(layout='msr'), NameNotFound, "No layout of FusionPairs named 'msr'. Did you mean 'msrs'"),
    'split': (dict(split='tests'), NameNotFound, "No split of FusionPairs \\(msrs\\) named 'tests'"),
    'no validation': (dict(split='val'), InputError, 'no validation split'),
    'no folder of a split': (dict(split='test'), InputError, 'FusionPairs \\(msrs\\): no folder .*test'),
    'no folder of a modality': (dict(layout='m3fd'), InputError, 'no folder of vis in .* it has: train'),
    'channels': (dict(vis_channels=2), InputError, 'vis_channels is 1 or 3, got 2'),
    'shares': (dict(layout='flat', val_fraction=0.1), InputError, 'shares divides it, not val_fraction'),
    'nothing': (dict(layout='flat', split='all'), InputError, 'there are no images'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_gets_one_line(tmp_path, name):
    write(tmp_path, 'msrs')
    arguments, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        load(tmp_path, **arguments)
