"""DroneVehicle, on a few files of the true size in its layout."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import DroneVehicle
from zoo.datasets.box_files import read_xml
from zoo.engine import build_dataloader

pytestmark = pytest.mark.filterwarnings('ignore:.*published are')
COLOURS = {'img': (200, 40, 90), 'imgr': (70, 70, 70)}
LUMA = round(0.299 * 200 + 0.587 * 40 + 0.114 * 90)


def save(path, colour, size=(640, 512), border=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new('RGB', (size[0] + 2 * border, size[1] + 2 * border), 'white')
    image.paste(colour, (border, border, border + size[0], border + size[1]))
    image.save(path, quality=95)


def polygon(name, *xy):
    corners = ''.join(f'<{axis}{i // 2 + 1}>{v}</{axis}{i // 2 + 1}>' for i, (axis, v) in enumerate(zip('xy' * 4, xy)))
    return f'<object><name>{name}</name><polygon>{corners}</polygon></object>'


def annotate(path, *objects):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<annotation><filename>C:/else/7.jpg</filename>{"".join(objects)}</annotation>')


CAR = polygon('car', 300, 150, 340, 170, 330, 190, 290, 170)  # upright 290 150 340 190
BUS = polygon('bus', 90, 200, 130, 200, 130, 220, 90, 220)  # a quarter of it in the left border


def add(root, stem, split='train', rgb=(CAR,), ir=(CAR, BUS)):
    for folder, colour in COLOURS.items():
        save(root / split / f'{split}{folder}' / f'{stem}.jpg', colour)
    annotate(root / split / f'{split}label' / f'{stem}.xml', *rgb)
    annotate(root / split / f'{split}labelr' / f'{stem}.xml', *ir)


@pytest.fixture
def root(tmp_path):
    add(tmp_path, '00001')
    add(tmp_path, '00002', rgb=(), ir=())
    return tmp_path


def load(root, **arguments):
    return DATASETS.build(dict(type='DroneVehicle', root=str(root), **arguments))


def test_a_sample_is_what_lies_within_the_border(root):
    data = load(root)
    assert data.classes == ('car', 'truck', 'bus', 'van', 'freight_car')
    sample = data[0]
    rgb, ir = sample['inputs']['rgb'], sample['inputs']['ir']
    assert (rgb.dtype, rgb.shape, ir.dtype, ir.shape) == (torch.uint8, (3, 512, 640), torch.uint8, (1, 512, 640))
    assert (rgb[:, ::511, ::639].float() - torch.tensor(COLOURS['img'])[:, None, None]).abs().max() < 60  # no white
    assert (ir.float() - 70).abs().max() < 60
    assert abs(int(ir[0, 256, 320]) - 70) <= 2
    assert sample['target']['boxes'].tolist() == [[190, 50, 240, 90], [0, 100, 30, 120]]
    assert sample['target']['labels'].tolist() == [0, 2]
    assert data[1]['target']['boxes'].shape == (0, 4)
    assert data.load_target(0)['boxes'].tolist() == sample['target']['boxes'].tolist()
    assert data.source(0) == str(root / 'train' / 'trainimg' / '00001.jpg')
    assert data.presence().tolist() == [[True, True]] * 2


def test_labels_are_those_of_the_modality_asked_for(root):
    assert load(root, labels='rgb')[0]['target']['labels'].tolist() == [0]
    target = load(root, labels='both')[0]['target']
    assert target['labels'].tolist() == target['own']['ir']['labels'].tolist() == [0, 2]
    assert target['own']['rgb']['boxes'].tolist() == [[190, 50, 240, 90]]
    assert list(load(root, labels='both', modalities='rgb')[0]['target']['own']) == ['rgb']


def test_batches_hold_both_sets_of_labels_and_copies_work(root):
    data = pickle.loads(pickle.dumps(load(root, labels='both', ir_channels=3)))
    batch = next(iter(build_dataloader(dict(dataset=data, batch_size=2), training=False)))
    assert batch['inputs']['ir'].shape == (2, 3, 512, 640)
    assert [len(b) for b in batch['target']['own']['ir']['boxes']] == [2, 0]


def test_spellings_are_repaired_and_a_star_is_left_out(root):
    names = ('feright_car', 'feright car', 'feright', 'freight_car', 'truvk', ' Van', '*')
    add(root, '00003', ir=[CAR.replace('>car<', f'>{n}<').replace('340', f'34{i}') for i, n in enumerate(names)])
    data = load(root)
    assert data[2]['target']['labels'].tolist() == [4, 4, 4, 4, 1, 3]
    assert data.dropped == {'bad': 0, 'hidden': 0, 'ignored': 1, 'repeated': 0}
    add(root, '00003', ir=[CAR.replace('>car<', '>track<')])
    with pytest.raises(NameNotFound, match=r"00003\.xml: object 1\) named 'track'. Did you mean 'truck'"):
        load(root)[2]
    assert load(root, ignore='Track')[2]['target']['labels'].tolist() == []


def test_boxes_that_the_crop_hides_are_counted_and_said_once(root):
    ir = (CAR, polygon('van', 10, 200, 110, 200, 110, 210, 10, 210), polygon('van', 5, 5, 9, 5, 9, 9, 5, 9))
    add(root, '00002', ir=ir)
    data = load(root)
    data[0]
    with pytest.warns(UserWarning, match='DroneVehicle train in .*: boxes left out of all its samples: 2 hidden'):
        assert data[1]['target']['labels'].tolist() == [0]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        data[1]
    assert load(root, min_visible=0.1)[1]['target']['boxes'].tolist()[1] == [0, 100, 10, 110]
    assert data.dropped['hidden'] == 2


def test_bad_objects_are_dropped_or_named(root):
    flat = polygon('van', 200, 200, 200, 210, 200, 220, 200, 230)
    add(root, '00002', ir=(CAR, flat, '<object><name>bus</name><point><x>5</x></point></object>'))
    assert load(root)[1]['target']['labels'].tolist() == [0]
    with pytest.raises(InputError, match=r'labelr.00002\.xml: object 2: .*has no width'):
        load(root, on_bad_box='error')[1]


def test_upright_boxes_are_taken_where_they_are_given(root):
    box = '<bndbox><xmin>290</xmin><ymin>150</ymin><xmax>340</xmax><ymax>190</ymax></bndbox>'
    annotate(root / 'train' / 'trainlabelr' / '00001.xml', f'<object><name>van</name>{box}</object>')
    assert load(root)[0]['target']['boxes'].tolist() == [[190, 50, 240, 90]]


def test_files_without_partner_are_told_in_one_line(root):
    annotate(root / 'train' / 'trainlabelr' / '00007.xml', CAR)
    save(root / 'train' / 'trainimg' / '00008.jpg', (1, 2, 3))
    save(root / 'train' / 'trainimg' / '00009.jpg', (1, 2, 3))
    (root / 'train' / 'trainimgr' / '00002.jpg').unlink()
    expected = (
        r'DroneVehicle train in .*train: 2 samples, published are 17990; left out 2 images without annotation file '
        r'\(00008, \.\.\.\); left out 1 annotation files without image \(00007\); '
        r'1 of 2 samples have no ir \(00002\)\.'
    )
    with pytest.warns(UserWarning, match=expected) as said:
        data = load(root)
    assert len(said) == 1
    assert data.stems == ['00001', '00002']
    assert data.presence().tolist() == [[True, True], [True, False]]
    assert data[1]['present'].tolist() == [True, False]


def cut_off(path):
    path.write_bytes(path.read_bytes()[:3000])


def test_the_two_truncated_images_are_absent_from_the_start(root):
    for stem, folder in (('09012', 'img'), ('16009', 'imgr')):
        add(root, stem)
        cut_off(root / 'train' / f'train{folder}' / f'{stem}.jpg')
    data = load(root)
    assert data.presence().tolist() == [[True, True], [True, True], [False, True], [True, False]]
    assert data[2]['present'].tolist() == [False, True]
    assert data[2]['target']['labels'].tolist() == [0, 2]
    assert load(root, modalities='rgb').stems == ['00001', '00002', '16009']
    with pytest.raises(InputError, match=r'trainimg.09012\.jpg: can not be read as an image'):
        load(root, on_bad_image='error')[2]


def test_any_other_bad_image_is_absent_with_a_line_or_an_error(root):
    cut_off(root / 'train' / 'trainimgr' / '00001.jpg')
    with pytest.warns(UserWarning, match=r'trainimgr.00001\.jpg: can not be read .* Its modality is absent'):
        assert load(root)[0]['present'].tolist() == [True, False]
    with pytest.raises(InputError, match=r'trainimgr.00001\.jpg: can not be read'):
        load(root, on_bad_image='error')[0]
    cut_off(root / 'train' / 'trainimg' / '00001.jpg')
    with pytest.warns(UserWarning, match='absent'), pytest.raises(InputError, match=r'00001\.jpg: can not be read'):
        load(root)[0]


def test_images_that_are_cropped_already_need_no_border(root):
    for folder, colour in COLOURS.items():
        for stem in ('00001', '00002'):
            save(root / 'train' / f'train{folder}' / f'{stem}.jpg', colour, border=0)
    with pytest.raises(InputError, match=r'00001\.jpg: it has no border any more .*crop_border=0'):
        load(root)
    sample = load(root, crop_border=0)[0]
    assert sample['inputs']['rgb'].shape == (3, 512, 640)
    assert sample['target']['boxes'][0].tolist() == [290, 150, 340, 190]


def test_users_files_are_read_and_cropped_without_the_data_set(root):
    file = root / 'train' / 'trainimg' / '00001.jpg'
    assert DroneVehicle.read_input('rgb', file, root='elsewhere').shape == (3, 512, 640)
    luma = DroneVehicle.read_input('ir', file)
    assert luma.shape == (1, 512, 640)
    assert abs(float(luma.float().median()) - LUMA) <= 2
    assert DroneVehicle.read_input('ir', file, ir_channels=3, crop_border=0).shape == (3, 712, 840)
    assert DroneVehicle.input_folders(split='val') == {'rgb': 'valimg', 'ir': 'valimgr'}
    for height, width in ((200, 300), (512, 640), (712, 841)):  # not of the published size: there is no border
        Image.fromarray(np.zeros((height, width), np.uint8)).save(root / 'other.png')
        assert DroneVehicle.read_input('ir', root / 'other.png').shape == (1, height, width)
    assert DroneVehicle.read_input('ir', root / 'other.png', crop_border=9).shape == (1, 712, 841)


def test_an_image_that_is_all_border_is_named(root):
    Image.new('L', (300, 200)).save(root / 'train' / 'trainimgr' / '00001.jpg')
    with pytest.raises(InputError, match=r'00001\.jpg: an image of 200x300 \(H x W\) has no border of 100 pixels'):
        load(root, on_bad_image='error')[0]


def test_all_annotations_are_read_once_on_request(root, monkeypatch):
    add(root, '00003', ir=(CAR, CAR, BUS))
    data = load(root)
    data[0]
    read = []
    monkeypatch.setattr('zoo.datasets.paired_boxes.read_xml', lambda file: read.append(file[-9:]) or read_xml(file))
    with pytest.warns(UserWarning, match='boxes left out of all its samples: 1 repeated'):
        data.check_annotations()
    data.check_annotations()
    assert read == ['00002.xml', '00003.xml']
    assert data.dropped == {'bad': 0, 'hidden': 0, 'ignored': 0, 'repeated': 1}
    (root / 'train' / 'trainlabelr' / '00003.xml').write_text('<annotation>')
    with pytest.raises(InputError, match=r'00003\.xml: can not be read as XML'):
        load(root).check_annotations()


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(split='vall'), NameNotFound, "No split of DroneVehicle named 'vall'. Did you mean 'val'"),
        (dict(split='val'), InputError, 'DroneVehicle: no folder .*val. The data are at https'),
        (dict(modalities=['depth']), NameNotFound, "No modality of DroneVehicle named 'depth'"),
        (dict(labels='irr'), NameNotFound, "No labels of DroneVehicle named 'irr'. Did you mean 'ir'"),
        (dict(on_bad_image='drop'), NameNotFound, "No on_bad_image of DroneVehicle named 'drop'"),
        (dict(on_bad_box='absent'), NameNotFound, "No on_bad_box of DroneVehicle named 'absent'"),
        (dict(crop_border=-1), InputError, 'crop_border is a number of pixels, 0 or more, got -1'),
        (dict(min_visible=30), InputError, r'min_visible is a share in 0\.\.1, got 30'),
        (dict(ir_channels=2), InputError, 'DroneVehicle: a modality has 1 or 3 channels, got ir=2'),
    ],
)
def test_a_wrong_argument_is_refused(root, arguments, error, message):
    with pytest.raises(error, match=message):
        load(root, **arguments)


def test_a_folder_that_is_not_there_is_named(root):
    (root / 'train' / 'trainlabelr').rename(root / 'elsewhere')
    with pytest.raises(InputError, match=r'DroneVehicle: no folder .*trainlabelr'):
        load(root)
    assert len(load(root, labels='rgb')) == 2
