"""Users' pairs with YOLO's text files, on tiny files in their layouts."""

import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import PairedYOLO
from zoo.engine import build_dataloader

SIZE = (20, 40)
FOLDERS = {'rgb': 'visible', 'ir': 'infrared'}
RGB = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
IR = np.random.default_rng(1).integers(0, 256, SIZE, dtype=np.uint8)
LINES = {'a': '1 0.5 0.5 0.25 0.5\n0 0.1 0.5 0.1 0.1\n', 'b': '', 'c': '1 0 0.5 0.5 0.5\n'}


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path):
    for stem, text in LINES.items():
        save(tmp_path / 'images' / 'visible' / 'train' / f'{stem}.png', RGB)
        save(tmp_path / 'images' / 'infrared' / 'train' / f'{stem}.png', IR)
        write(tmp_path / 'labels' / 'train' / f'{stem}.txt', text)
    return tmp_path


def load(root, **arguments):
    arguments = {'classes': ['man', 'car'], 'folders': FOLDERS, **arguments}
    return DATASETS.build(dict(type='PairedYOLO', root=str(root), **arguments))


def test_a_sample_is_what_the_files_hold(root):
    data = load(root)
    assert (len(data), data.num_classes, data.channels) == (3, 2, {'rgb': 3, 'ir': 1})
    sample = data[0]
    assert torch.equal(sample['inputs']['rgb'], torch.from_numpy(RGB).permute(2, 0, 1))
    assert torch.equal(sample['inputs']['ir'], torch.from_numpy(IR)[None])
    assert sample['present'].tolist() == [True, True]
    torch.testing.assert_close(sample['target']['boxes'], torch.tensor([[15.0, 5, 25, 15], [2, 9, 6, 11]]))
    assert sample['target']['labels'].tolist() == [1, 0]
    assert (sample['target']['boxes'].dtype, sample['target']['labels'].dtype) == (torch.float32, torch.int64)
    assert (
        sample['info']['files']['ir']
        == str(root / 'images' / 'infrared' / 'train' / 'a.png')
        == data.source(0).replace('visible', 'infrared')
    )
    assert data[2]['target']['boxes'].tolist() == [[0, 5, 10, 15]]  # clipped at the left
    assert data.load_target(0)['boxes'].tolist() == sample['target']['boxes'].tolist()


def test_an_empty_file_means_no_object(root):
    target = load(root)[1]['target']
    assert (target['boxes'].shape, target['labels'].shape) == ((0, 4), (0,))
    assert (target['boxes'].dtype, target['labels'].dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize('layout', ['{m}/images/train', '{m}/train'])
def test_folders_may_lie_in_another_order(root, layout):
    for m in FOLDERS.values():
        target = root / layout.format(m=m)
        target.parent.mkdir(parents=True)
        shutil.move(root / 'images' / m / 'train', target)
    assert len(load(root)) == 3


def test_batches_list_boxes_and_workers_get_a_copy(root):
    data = pickle.loads(pickle.dumps(load(root)))
    batch = next(iter(build_dataloader(dict(dataset=data, batch_size=3), training=False)))
    assert batch['inputs']['ir'].shape == (3, 1, *SIZE)
    assert [len(b) for b in batch['target']['boxes']] == [2, 0, 1]


# ---- absent modalities and missing files


def test_a_stem_that_one_modality_lacks_is_a_sample_without_it(root):
    (root / 'images' / 'infrared' / 'train' / 'a.png').unlink()
    (root / 'images' / 'visible' / 'train' / 'c.png').unlink()
    with pytest.warns(UserWarning, match=r'1 of 3 samples have no rgb \(c\); 1 of 3 samples have no ir \(a\)\.$'):
        data = load(root)
    assert data.presence().tolist() == [[True, False], [True, True], [False, True]]
    assert data[0]['present'].tolist() == [True, False]
    assert list(data[0]['inputs']) == ['rgb']
    assert data[2]['target']['boxes'].tolist() == [[0, 5, 10, 15]]
    only = load(root, modalities='rgb')
    assert only.stems == ['a', 'b']
    assert only.presence().tolist() == [[True], [True]]


def test_a_modality_that_no_sample_has_is_an_error(root):
    for stem in LINES:
        file = root / 'images' / 'infrared' / 'train' / f'{stem}.png'
        file.rename(file.with_name(f'{stem}_ir.png'))
        if stem != 'a':
            write(root / 'labels' / 'train' / f'{stem}_ir.txt', '')
    with pytest.raises(InputError, match=r'a_ir\.png: it has no label file a_ir\.txt;.* one sample has one stem'):
        load(root)
    shutil.rmtree(root / 'images' / 'infrared')
    (root / 'images' / 'infrared' / 'train').mkdir(parents=True)
    for stem in 'bc':
        (root / 'labels' / 'train' / f'{stem}_ir.txt').unlink()
    message = r"none of its 3 samples has an image of ir \(files are paired by .*; .* give modalities=\['rgb'\]\."
    with pytest.raises(InputError, match=message):
        load(root)
    assert len(load(root, modalities='rgb')) == 3


def test_labels_without_any_image_are_an_error(root):
    write(root / 'labels' / 'train' / 'z.txt', '')
    write(root / 'labels' / 'train' / 'classes.txt', 'man\ncar\n')
    with pytest.raises(InputError, match=r'z\.txt: no modality has an image of this name\.'):
        load(root)


def test_an_image_without_label_file_is_an_error_unless_allowed(root):
    (root / 'labels' / 'train' / 'b.txt').unlink()
    (root / 'labels' / 'train' / 'c.txt').unlink()
    with pytest.raises(
        InputError, match=r'visible.train.b\.png: it has no label file b\.txt \(and 1 more\).*allow_unl'
    ):
        load(root)
    data = load(root, allow_unlabelled=True)
    assert len(data) == 3
    assert data[2]['target']['boxes'].shape == (0, 4)


def folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize('spoil', [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:60]), folder])
def test_an_image_that_can_not_be_read_is_named(root, spoil):
    data = load(root)
    spoil(root / 'images' / 'infrared' / 'train' / 'a.png')
    with pytest.raises(InputError, match=r'infrared.train.a\.png: (no such file|can not be read)'):
        data[0]


# ---- labels of each modality


@pytest.fixture
def own(root):
    shutil.rmtree(root / 'labels')
    for stem, text in LINES.items():
        write(root / 'labels' / 'infrared' / 'train' / f'{stem}.txt', text)
        write(root / 'labels' / 'visible' / 'train' / f'{stem}.txt', '0 0.5 0.5 0.5 0.5\n')
    return root


def test_the_labels_of_one_modality_serve_all(own):
    assert load(own, labels='ir')[0]['target']['labels'].tolist() == [1, 0]
    assert load(own, labels='rgb', modalities='ir')[0]['target']['labels'].tolist() == [0]


@pytest.mark.filterwarnings('ignore:.*samples have no')
def test_each_modality_may_have_its_own_labels(own):
    (own / 'images' / 'visible' / 'train' / 'c.png').unlink()
    (own / 'labels' / 'visible' / 'train' / 'c.txt').unlink()
    data = load(own, labels='both', main_labels='ir')
    target = data[0]['target']
    assert target['labels'].tolist() == target['own']['ir']['labels'].tolist() == [1, 0]
    assert target['own']['rgb']['boxes'].tolist() == [[10, 5, 30, 15]]
    assert data[2]['target']['own']['rgb']['boxes'].shape == (0, 4)
    write(own / 'labels' / 'train' / 'a.txt', '1 0.5 0.5 1 1')
    assert load(own, labels='both', allow_unlabelled=True)[0]['target']['boxes'].tolist() == [[0, 0, 40, 20]]


def test_a_folder_of_labels_that_is_not_there_is_named(own):
    with pytest.raises(InputError, match=r"no folder .*labels.train; labels of one modality.*labels='both'"):
        load(own)
    shutil.rmtree(own / 'labels' / 'visible')
    with pytest.raises(InputError, match=r'no folder .*labels.visible.train, nor .*visible.labels.train'):
        load(own, labels='both', main_labels='ir')


# ---- bad boxes


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('0 0.5 0.5 0 0.2', 'has no width or no height'),
        ('0 0.5 0.5 -0.1 0.2', 'has no width or no height'),
        ('0 -0.5 0.5 0.2 0.2', r'lies outside its image of \(20, 40\)'),
        ('0 nan 0.5 0.2 0.2', 'is not finite'),
    ],
)
def test_a_bad_box_is_an_error_or_dropped_counted_and_said_once(root, line, message):
    write(root / 'labels' / 'train' / 'a.txt', f'1 0.5 0.5 0.25 0.5\n{line}\n')
    with pytest.raises(InputError, match=rf'a\.txt:2: .*{message}'):
        load(root)[0]
    data = load(root, on_bad_box='drop')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert data[0]['target']['labels'].tolist() == [1]
        data[0], data[1]
    assert data.dropped == {'bad': 1, 'hidden': 0, 'ignored': 0, 'repeated': 0}
    with pytest.warns(UserWarning, match='PairedYOLO train in .*: boxes left out of all its samples: 1 bad'):
        data[2]


@pytest.mark.parametrize('on_bad_box', ['error', 'drop'])
def test_an_object_that_is_there_twice_counts_once(root, on_bad_box):
    lines = '1 0.5 0.5 0.25 0.5\n', '0 0.5 0.5 0.25 0.5\n', '1 0.5 0.5 0.25 0.25\n'
    write(root / 'labels' / 'train' / 'a.txt', ''.join([*lines, *lines[:2]]))
    data = load(root, on_bad_box=on_bad_box)
    with pytest.warns(UserWarning, match='left out of all its samples: 2 repeated'):
        data.check_annotations()
    assert data[0]['target']['labels'].tolist() == [1, 0, 1]


def test_a_bad_line_is_found_before_its_sample_is_read(root):
    write(root / 'labels' / 'train' / 'c.txt', '0 0.5 0.5\n')
    with pytest.raises(InputError, match=r'c\.txt:1: expected'):
        load(root).check_annotations()


def test_workers_count_dropped_boxes_together(root):
    write(root / 'labels' / 'train' / 'a.txt', '0 0.5 0.5 0 0.2\n0 0.5 0.5 0.2 0\n')
    write(root / 'labels' / 'train' / 'c.txt', '0 0.5 0.5 0 0.2\n')
    data = load(root, on_bad_box='drop')
    list(build_dataloader(dict(dataset=data, batch_size=1, num_workers=2), training=False))
    assert data.dropped['bad'] == 3


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('2 0.5 0.5 0.2 0.2', r'class 2 is out of range, expected 0\.\.1: there are 2 classes \(man, car\)'),
        ('-1 0.5 0.5 0.2 0.2', r'class -1 is out of range, expected 0\.\.1'),
        ('0 20 10 8 4', 'the value 20 is above 1'),
    ],
)
@pytest.mark.parametrize('on_bad_box', ['error', 'drop'])
def test_a_class_out_of_range_and_pixels_are_always_errors(root, line, message, on_bad_box):
    write(root / 'labels' / 'train' / 'a.txt', f'{line}\n')
    with pytest.raises(InputError, match=rf'a\.txt:1: {message}'):
        load(root, on_bad_box=on_bad_box)[0]


# ---- sizes and depths


def test_modalities_of_other_sizes_take_the_first_ones_with_one_line(root):
    save(root / 'images' / 'infrared' / 'train' / 'a.png', np.full((10, 30), 7, np.uint8))
    save(root / 'images' / 'infrared' / 'train' / 'b.png', np.full((10, 30), 7, np.uint8))
    data = load(root)
    with pytest.warns(UserWarning, match=r'modalities differ in size \(H x W: rgb 20x40, ir 10x30\)') as said:
        sample, _ = data[0], data[1]
    assert len(said) == 1
    assert torch.equal(sample['inputs']['ir'], torch.full((1, *SIZE), 7, dtype=torch.uint8))
    assert sample['target']['boxes'][0].tolist() == [15, 5, 25, 15]
    with pytest.warns(UserWarning, match='ir 10x30, rgb 20x40'):
        sample = load(root, modalities=['ir', 'rgb'])[0]
    assert sample['inputs']['rgb'].shape == (3, 10, 30)
    assert load(root, modalities=['ir', 'rgb']).load_target(0)['boxes'][0].tolist() == [11.25, 2.5, 18.75, 7.5]


def test_colour_files_of_one_channel_become_luma_and_16_bits_stay(root):
    folder = root / 'images' / 'infrared' / 'train'
    save(folder / 'a.png', RGB)
    save(folder / 'b.png', IR.astype(np.uint16) * 100)
    Image.fromarray(np.repeat(IR[..., None], 3, 2)).save(folder / 'c.jpg', quality=100, subsampling=0)
    (folder / 'c.png').unlink()
    data = load(root)
    luma = np.rint(RGB @ [0.299, 0.587, 0.114])  # ITU-R BT.601
    assert np.abs(data[0]['inputs']['ir'][0].numpy() - luma).max() <= 1
    assert data[1]['inputs']['ir'].dtype == torch.float32
    assert data[1]['inputs']['ir'][0].tolist() == (IR * 100.0).tolist()
    jpeg = data[2]['inputs']['ir']
    assert (jpeg.dtype, tuple(jpeg.shape)) == (torch.uint8, (1, *SIZE))
    assert np.abs(jpeg[0].numpy().astype(int) - IR).max() <= 3


@pytest.mark.parametrize('way', range(1, 9))
def test_files_that_exif_turns_are_turned_with_the_size_of_their_boxes(root, way):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = way
    for folder, pixels in (('visible', RGB), ('infrared', IR)):
        image = Image.fromarray(np.kron(pixels, np.ones((8, 8, *[1] * (pixels.ndim - 2)), np.uint8)))
        (root / 'images' / folder / 'train' / 'a.png').unlink()
        image.save(root / 'images' / folder / 'train' / 'a.jpg', quality=100, subsampling=0, exif=exif)
    data = load(root)
    target, inputs = data.load_target(0), data[0]['inputs']
    # the corner that EXIF says to be seen at the top left, of the stored image
    top, left = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (-1, 0), 7: (-1, -1), 8: (0, -1)}[way]
    assert inputs['ir'].shape[1:] == inputs['rgb'].shape[1:] == ((160, 320) if way < 5 else (320, 160))
    assert (inputs['rgb'][:, 3, 3].float() - torch.tensor(RGB[top, left]).float()).abs().max() <= 4
    assert abs(float(inputs['ir'][0, 3, 3]) - float(IR[top, left])) <= 4
    width, height = inputs['ir'].shape[:0:-1]
    torch.testing.assert_close(
        target['boxes'][0], torch.tensor([0.375, 0.25, 0.625, 0.75]) * torch.tensor([width, height] * 2)
    )


@pytest.mark.filterwarnings('ignore:.*samples have no')
def test_any_modalities_of_one_or_three_channels(root):
    save(root / 'images' / 'uv' / 'train' / 'a.png', IR)
    channels = {'ir': 3, 'uv': 1, 'rgb': 3}
    data = load(root, channels=channels)
    assert data.modalities == ('ir', 'uv', 'rgb')
    assert data[0]['inputs']['ir'].shape == (3, *SIZE)
    assert data.presence().tolist() == [[True, True, True], [True, False, True], [True, False, True]]
    assert PairedYOLO.input_folders(folders=FOLDERS) == FOLDERS
    file = root / 'images' / 'uv' / 'train' / 'a.png'
    assert PairedYOLO.read_input('uv', file, channels=channels, root='elsewhere').shape == (1, *SIZE)
    with pytest.raises(NameNotFound, match="No modality of PairedYOLO named 'uv'"):
        PairedYOLO.read_input('uv', file)
    with pytest.raises(InputError, match='no such file'):
        PairedYOLO.read_input('uv', root / 'z.png', channels=channels)


# ---- names of classes


@pytest.mark.parametrize('names', ['[man, car]', '{0: man, 1: car}'])
def test_names_come_from_data_yaml(root, names):
    (root / 'data.yaml').write_text(f'train: images\nnames: {names}\n')
    assert load(root, classes=None).classes == ('man', 'car')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, r'needs classes, the names in the order of their numbers, or names in .*data\.yaml'),
        ('nc: 2', r'data\.yaml: names are a list of names .*, got None'),
        ('names: {1: man, 2: car}', r'data\.yaml: names are a list'),
        ('names: [', r'data\.yaml: can not be read'),
    ],
)
def test_names_that_are_nowhere_or_in_another_form_are_asked_for(root, text, message):
    if text:
        (root / 'data.yaml').write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load(root, classes=None)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(split='val'), InputError, r'no folder .*images.visible.val, nor .*visible.images.val, nor .*visible.val'),
        (dict(classes='man'), InputError, "classes are a list of names .*, got 'man'"),
        (dict(classes=[]), InputError, 'classes are a list of names'),
        (dict(modalities=['rgb', 'depth']), NameNotFound, "No modality of PairedYOLO named 'depth'"),
        (dict(channels=dict(rgb=4)), InputError, 'a modality has 1 or 3 channels, got rgb=4'),
        (dict(folders=dict(irr='x')), NameNotFound, r"in folders\) named 'irr'. Did you mean 'ir'"),
        (dict(labels='all'), NameNotFound, "No labels of PairedYOLO named 'all'"),
        (dict(labels='both', main_labels='x'), NameNotFound, "No main_labels of PairedYOLO named 'x'"),
        (dict(labels='ir', main_labels='ir'), InputError, "main_labels='ir' needs labels='both'"),
        (dict(on_bad_box='keep'), NameNotFound, "No on_bad_box of PairedYOLO named 'keep'"),
    ],
)
def test_a_wrong_argument_is_refused(root, arguments, error, message):
    with pytest.raises(error, match=message):
        load(root, **arguments)


def test_a_missing_root_and_two_files_of_one_stem_are_named(root):
    with pytest.raises(InputError, match='PairedYOLO: no folder nowhere'):
        load('nowhere')
    save(root / 'images' / 'visible' / 'train' / 'a.jpg', RGB)
    with pytest.raises(InputError, match=r'a\.(png|jpg): there is also a\.(png|jpg), and one sample has one file'):
        load(root)
