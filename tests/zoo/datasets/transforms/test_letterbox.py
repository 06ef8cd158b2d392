"""Letterboxing: where an image comes to lie, and what lies around it."""

import numpy as np
import pytest
import torch
from PIL import Image

from registry import TRANSFORMS, InputError
from zoo.datasets import IGNORE
from zoo.datasets.transforms import LetterBox, Resize
from zoo.datasets.transforms.letterbox import Place, Placement


def sample(height=20, width=36, target=None, **inputs):
    inputs = inputs or {
        'rgb': torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).permute(2, 0, 1),
        'ir': torch.rand(1, height, width),
    }
    return {'inputs': inputs, 'present': torch.ones(len(inputs), dtype=torch.bool), 'target': target}


@pytest.mark.parametrize(
    ('image', 'canvas', 'scale_up', 'expected'),
    [
        ((512, 640), (640, 640), True, (64, 0, 512, 640)),
        ((512, 640), (320, 640), True, (0, 120, 320, 400)),
        ((720, 1280), (640, 640), True, (140, 0, 360, 640)),
        ((720, 1280), (384, 640), True, (12, 0, 360, 640)),
        ((100, 50), (640, 320), True, (0, 0, 640, 320)),
        ((100, 50), (640, 320), False, (270, 135, 100, 50)),
        ((101, 50), (640, 320), False, (269, 135, 101, 50)),  # of 539 rows the smaller half, 269, lies above
        ((1, 1000), (64, 64), True, (31, 0, 1, 64)),
    ],
)
def test_the_place_is_the_one_computed_by_hand(image, canvas, scale_up, expected):
    box = LetterBox(canvas, scale_up=scale_up)
    assert box.place(*image) == expected
    moved = box(sample(*image))['inputs']
    assert [tuple(x.shape[1:]) for x in moved.values()] == [canvas] * 2


@pytest.mark.parametrize('canvas', [(32, 32), (20, 50), (41, 36), (9, 9)])
def test_a_border_surrounds_the_image_and_nothing_else(canvas):
    white = sample(rgb=torch.full((3, 20, 36), 255, dtype=torch.uint8))
    box = LetterBox(canvas, fill=7)
    moved = box(white)['inputs']['rgb']
    top, left, height, width = box.place(20, 36)
    expected = torch.full((3, *canvas), 7, dtype=torch.uint8)
    expected[:, top : top + height, left : left + width] = 255
    assert torch.equal(moved, expected)


def test_boxes_masks_and_pixels_move_alike_and_can_be_mapped_back():
    image = torch.zeros(1, 40, 60)
    image[:, 12:28, 18:36] = 255
    boxes = torch.tensor([[18.0, 12, 36, 28], [0, 0, 60, 40]])
    target = {'boxes': boxes, 'labels': torch.tensor([4, 1])}
    box = LetterBox((67, 50), fill=0)
    moved = box(sample(ir=image, target=target))
    top, left, height, width = box.place(40, 60)
    back = (moved['target']['boxes'] - torch.tensor([left, top] * 2)) * torch.tensor([60 / width, 40 / height] * 2)
    torch.testing.assert_close(back, boxes)
    inside = moved['inputs']['ir'][0] > 127
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    found = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
    torch.testing.assert_close(moved['target']['boxes'][0], found, atol=0.6, rtol=0)
    mask = box(sample(ir=image, target=(image[0] > 0).long()))['target']
    assert mask.dtype == torch.int64
    assert set(mask.unique().tolist()) == {0, 1, IGNORE}
    assert (mask[:top] == IGNORE).all()
    assert ((mask == 1) != inside).float().mean() < 0.02


@pytest.mark.parametrize('boxes', [torch.zeros(0, 4), torch.tensor([[3.0, 5, 4, 6]])])
def test_no_box_and_a_box_of_one_pixel_pass(boxes):
    target = {'boxes': boxes, 'labels': torch.zeros(len(boxes)).long()}
    moved = LetterBox((40, 80))(sample(target=target))['target']
    assert moved['boxes'].shape == boxes.shape
    assert moved['boxes'].dtype == torch.float32
    assert moved['labels'].shape == (len(boxes),)


def test_label_sets_of_single_modalities_move_each_by_itself():
    def boxes(*rows):
        return {'boxes': torch.tensor(rows, dtype=torch.float32).view(-1, 4), 'labels': torch.arange(len(rows))}

    target = {**boxes([0, 0, 36, 20]), 'own': {'rgb': boxes([4, 4, 5, 5], [8, 8, 20, 16]), 'ir': boxes()}, 'note': 'x'}
    moved = LetterBox((10, 40))(sample(target=target))['target']  # half the size, 11 pixels to the left
    assert moved['boxes'].tolist() == [[11, 0, 29, 10]]
    assert moved['own']['rgb']['boxes'].tolist() == [[13, 2, 13.5, 2.5], [15, 4, 21, 8]]
    assert moved['own']['rgb']['labels'].tolist() == [0, 1]
    assert moved['own']['ir']['boxes'].shape == (0, 4)
    assert moved['note'] == 'x'
    assert len(target['own']['rgb']['boxes']) == 2


@pytest.mark.parametrize('resize', [LetterBox((10, 18)), Resize((5, 9))])
def test_objects_that_get_smaller_than_a_pixel_stay(resize):
    box = torch.tensor([[3.0, 5, 4, 6]])
    factor = resize.size[0] / 20
    target = resize(sample(target={'boxes': box, 'labels': torch.tensor([2])}))['target']
    torch.testing.assert_close(target['boxes'], box * factor)
    assert target['labels'].tolist() == [2]


def test_colour_is_filled_with_grey_and_other_images_with_their_mean():
    inputs = {
        'rgb': torch.randint(0, 256, (3, 8, 16), dtype=torch.uint8),
        'ir': torch.randint(0, 256, (1, 8, 16), dtype=torch.uint8),
        'thermal': 3000 + 500 * torch.rand(1, 8, 16),
        'stack': torch.rand(6, 8, 16),
    }
    moved = LetterBox(16)(sample(**inputs))['inputs']
    assert moved['rgb'][:, 0].unique().tolist() == [114]
    assert moved['ir'][:, 0].unique().tolist() == [round(inputs['ir'].float().mean().item())]
    for m in ('thermal', 'stack'):
        torch.testing.assert_close(moved[m][:, 0], inputs[m].mean().expand(len(inputs[m]), 16))
    moved = LetterBox(16, fill={'rgb': 3, 'thermal': -1.5})(sample(**inputs))['inputs']
    assert moved['rgb'][:, 0].unique().tolist() == [3]
    assert moved['thermal'][:, 0].unique().tolist() == [-1.5]
    torch.testing.assert_close(moved['stack'][:, 0], inputs['stack'].mean().expand(6, 16))


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
@pytest.mark.parametrize('canvas', [(10, 10), (64, 50)], ids=['smaller', 'larger'])
def test_channels_and_types_do_not_matter(channels, dtype, canvas):
    plane = torch.randint(0, 256, (1, 20, 36)).to(dtype)
    x = plane.repeat(channels, 1, 1)
    moved = LetterBox(canvas, fill=1)(sample(x=x, plane=plane))['inputs']
    assert moved['x'].dtype == dtype
    torch.testing.assert_close(moved['x'], moved['plane'].expand(channels, *canvas), atol=1e-3, rtol=0)
    given = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # as files are decoded
    assert torch.equal(LetterBox(canvas, fill=1)(sample(x=given))['inputs']['x'], moved['x'])


def test_resizing_is_the_mean_of_pixels_or_pillows_bilinear():
    x = torch.randint(0, 256, (1, 40, 60), dtype=torch.uint8)
    half = LetterBox((20, 30))(sample(ir=x))['inputs']['ir']
    mean = x.float().view(1, 20, 2, 30, 2).mean((2, 4))
    assert (half - mean).abs().max() <= 0.5
    twice = LetterBox((80, 120))(sample(ir=x))['inputs']['ir'][0]
    theirs = np.asarray(Image.fromarray(x[0].numpy()).resize((120, 80), Image.Resampling.BILINEAR))
    assert np.abs(twice.numpy().astype(int) - theirs).max() <= 1


def test_values_of_the_named_modalities_are_never_mixed():
    holes = (torch.arange(20)[:, None] + torch.arange(36))[None] % 2 * 1000.0
    for size in ((17, 25), (50, 70)):
        moved = LetterBox(size, fill=0, nearest='depth')(sample(depth=holes, ir=holes))['inputs']
        assert set(moved['depth'].unique().tolist()) == {0, 1000}
        assert len(moved['ir'].unique()) > 2


def test_modalities_of_another_size_are_stretched_to_the_place_of_the_first():
    inputs = {'rgb': torch.full((3, 20, 40), 9, dtype=torch.uint8), 'ir': torch.full((1, 33, 31), 5.0)}
    moved = LetterBox(40, fill=0)(sample(**inputs))['inputs']
    assert torch.equal(moved['rgb'][0] > 0, moved['ir'][0] > 0)


def test_the_sample_given_is_not_changed_and_a_fitting_image_is_not_copied():
    given = sample(target=torch.tensor(3))
    before = {m: x.clone() for m, x in given['inputs'].items()}
    moved = LetterBox(64)(given)
    assert moved['target'] == 3
    assert all(torch.equal(given['inputs'][m], x) for m, x in before.items())
    assert LetterBox((20, 36))(given)['inputs']['rgb'].data_ptr() == given['inputs']['rgb'].data_ptr()


@pytest.mark.parametrize('corner', [(0, 0), (-3, 4), (5, -2), (-4, -4), (7, 9)])
def test_a_canvas_cuts_off_what_does_not_fit(corner):
    x = torch.arange(1, 61).view(1, 6, 10).float()
    found = Placement(Place(*corner, 6, 10), (8, 12))
    canvas = torch.zeros(1, 8, 12)
    found.paste(x, canvas)
    larger = torch.zeros(1, 30, 30)
    larger[:, 10 + corner[0] : 16 + corner[0], 10 + corner[1] : 20 + corner[1]] = x
    assert torch.equal(canvas, larger[:, 10:18, 10:22])


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(size=0), 'A size is an integer or a pair'),
        (dict(size=None), 'A size is an integer or a pair'),
        (dict(size=8, fill='grey'), r"fill of LetterBox is None, a number or a mapping.*got 'grey'"),
        (dict(size=8, fill={'ir': None}), 'fill of LetterBox is None'),
        (dict(size=8, fill=float('nan')), 'fill of LetterBox is None'),
    ],
)
def test_wrong_arguments_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        TRANSFORMS.build(dict(type='LetterBox', **config))


def test_a_fill_that_8_bits_can_not_hold_is_refused():
    with pytest.raises(InputError, match=r'fill of rgb, an image of 8 bits, must lie in 0\.\.255, got -1'):
        LetterBox(64, fill=-1)(sample())
