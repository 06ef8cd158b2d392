"""Geometry shared by the modalities and the target."""

import numpy as np
import pytest
import torch
from PIL import Image

from registry import TRANSFORMS, InputError
from zoo.datasets.transforms import (
    RandomCrop,
    RandomFlip,
    RandomResize,
    RandomResizedCrop,
    RandomRotation,
    RandomTranspose,
    Resize,
)

ALL = [
    dict(type='Resize', size=(9, 14)),
    dict(type='RandomResize', scale=(0.8, 1.5)),
    dict(type='RandomRotation', degrees=30),
    dict(type='RandomRotation', degrees=30, canvas=0.8),
    dict(type='RandomCrop', size=(7, 11)),
    dict(type='RandomCrop', size=(12, 11), resize_smaller=True),
    dict(type='RandomFlip', p=0.5),
    dict(type='RandomResizedCrop', size=(9, 14), scale=(0.9, 1)),
    dict(type='RandomTranspose'),
]
NAMES = [
    'resize',
    'random resize',
    'rotation',
    'rotation with canvas',
    'crop',
    'crop or resize',
    'flip',
    'resized crop',
    'transpose',
]


def scene(height=12, width=20, target=None):
    base = torch.randint(0, 256, (1, height, width), dtype=torch.uint8)
    inputs = {'rgb': base.repeat(3, 1, 1), 'depth': base.clone(), 'ir': base.float()}
    return {'inputs': inputs, 'present': torch.ones(3, dtype=torch.bool), 'target': target, 'info': {'file': 'x'}}


@pytest.mark.parametrize('config', ALL, ids=NAMES)
def test_all_modalities_are_moved_by_one_draw(config):
    sample = scene(target=torch.tensor(3))
    for _ in range(5):
        moved = TRANSFORMS.build(config)(sample)
        depth = moved['inputs']['depth']
        assert torch.equal(moved['inputs']['rgb'], depth.repeat(3, 1, 1))
        assert (moved['inputs']['ir'] - depth.float()).abs().max() < 1.01  # rounding to 8 bits, once for each axis
        assert [type(x) for x in moved['inputs'].values()] == [torch.Tensor] * 3
        assert [x.dtype for x in moved['inputs'].values()] == [torch.uint8, torch.uint8, torch.float32]
        assert moved['target'] == 3
        assert moved['info'] == {'file': 'x'}


@pytest.mark.parametrize('config', ALL, ids=NAMES)
def test_the_sample_given_is_not_changed_and_the_global_seed_decides(config):
    sample = scene()
    before = {m: x.clone() for m, x in sample['inputs'].items()}
    transform = TRANSFORMS.build(config)
    torch.manual_seed(5)
    first = transform(sample)
    torch.manual_seed(5)
    second = transform(sample)
    assert all(torch.equal(first['inputs'][m], second['inputs'][m]) for m in before)
    assert all(torch.equal(sample['inputs'][m], before[m]) for m in before)


@pytest.mark.parametrize('config', ALL, ids=NAMES)
def test_a_mask_moves_with_its_image_and_gets_no_new_labels(config):
    mask = torch.zeros(40, 60, dtype=torch.int64)
    mask[10:30, 20:45] = 7
    image = (mask[None] * 30).to(torch.uint8)
    sample = {'inputs': {'ir': image}, 'present': torch.tensor([True]), 'target': mask}
    if config['type'] == 'RandomCrop':
        config = {**config, 'size': (31, 41)}
    for _ in range(5):
        moved = TRANSFORMS.build(config)(sample)
        assert moved['target'].dtype == torch.int64
        assert moved['target'].shape == moved['inputs']['ir'].shape[1:]
        assert set(moved['target'].unique().tolist()) == {0, 7}
        # bilinear and nearest agree but for the rim
        assert ((moved['inputs']['ir'][0] > 105) != (moved['target'] > 0)).float().mean() < 0.06


@pytest.mark.parametrize('config', ALL, ids=NAMES)
def test_boxes_move_with_their_image(config):
    image = torch.zeros(1, 40, 60)
    image[:, 12:28, 18:36] = 255
    boxes = {'boxes': torch.tensor([[18.0, 12, 36, 28]]), 'labels': torch.tensor([4])}
    sample = {'inputs': {'ir': image}, 'present': torch.tensor([True]), 'target': boxes}
    if config['type'] == 'RandomCrop':
        config = {**config, 'size': (34, 50)}
    for _ in range(5):
        moved = TRANSFORMS.build(config)(sample)
        inside = moved['inputs']['ir'][0] > 127
        rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
        expected = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
        torch.testing.assert_close(moved['target']['boxes'][0], expected, atol=1.6, rtol=0)
        assert type(moved['target']['boxes']) is torch.Tensor
        assert moved['target']['labels'].tolist() == [4]


def test_boxes_that_leave_the_crop_are_dropped_with_their_labels():
    torch.manual_seed(0)
    target = {'boxes': torch.tensor([[0.0, 0, 2, 2], [0, 0, 40, 60]]), 'labels': torch.tensor([1, 2]), 'note': 'x'}
    sample = scene(60, 40, target)
    lost = 0
    for _ in range(20):
        moved = RandomCrop(10)(sample)['target']
        assert moved['boxes'][-1].tolist() == [0, 0, 10, 10]
        assert moved['labels'].tolist() in ([2], [1, 2])
        assert moved['note'] == 'x'
        lost += len(moved['labels']) == 1
    assert lost > 10


def test_resize_takes_modalities_of_different_sizes_and_the_others_say_so():
    sample = scene()
    sample['inputs']['ir'] = torch.rand(1, 5, 9)
    sizes = {tuple(x.shape[1:]) for x in Resize((8, 6))(sample)['inputs'].values()}
    assert sizes == {(8, 6)}
    with pytest.raises(InputError, match=r'RandomFlip needs modalities of one size.*put Resize before'):
        RandomFlip()(sample)


def test_resize_is_pillows_bilinear():
    image = torch.randint(0, 256, (1, 30, 50), dtype=torch.uint8)
    for size in [(11, 17), (64, 80)]:
        ours = Resize(size)({'inputs': {'ir': image}, 'present': torch.tensor([True])})['inputs']['ir'][0]
        theirs = np.asarray(Image.fromarray(image[0].numpy()).resize(size[::-1], Image.Resampling.BILINEAR))
        assert np.abs(ours.numpy().astype(int) - theirs).max() <= 1


def test_rotation_by_nothing_on_a_canvas_is_the_central_part():
    sample = scene(20, 30)
    moved = RandomRotation(0, canvas=0.8)(sample)['inputs']['rgb']
    assert torch.equal(moved, sample['inputs']['rgb'][:, 2:18, 3:27])


def test_the_canvas_is_its_share_of_the_box_around_the_rotated_image():
    sample = scene(100, 140)
    torch.manual_seed(3)
    angle = np.deg2rad((2 * torch.rand(()).item() - 1) * 30)
    torch.manual_seed(3)
    moved = RandomRotation(30, canvas=0.8)(sample)['inputs']['depth']
    cos, sin = np.cos(angle), np.abs(np.sin(angle))
    assert tuple(moved.shape[1:]) == (int(0.8 * (100 * cos + 140 * sin)), int(0.8 * (100 * sin + 140 * cos)))


def test_angles_fill_the_range():
    shapes = {tuple(RandomRotation(30, canvas=1.0)(scene(100, 100))['inputs']['ir'].shape[1:]) for _ in range(60)}
    sides = [s[0] for s in shapes]
    assert max(sides) <= 100 * (np.cos(np.pi / 6) + 0.5)
    assert min(sides) < 106
    assert max(sides) > 130


def test_crops_reach_every_corner_and_are_cut_from_the_image():
    image = torch.arange(6 * 8).view(1, 6, 8).float()
    sample = {'inputs': {'ir': image}, 'present': torch.tensor([True])}
    corners = set()
    for _ in range(400):
        crop = RandomCrop((4, 5))(sample)['inputs']['ir'][0]
        top, left = divmod(int(crop[0, 0]), 8)
        assert torch.equal(crop, image[0, top : top + 4, left : left + 5])
        corners.add((top, left))
    assert corners == {(t, x) for t in range(3) for x in range(4)}


def test_a_flip_happens_as_often_as_asked():
    sample = scene()
    image = sample['inputs']['rgb']
    flipped = [torch.equal(RandomFlip(0.25)(sample)['inputs']['rgb'], image.flip(2)) for _ in range(400)]
    assert 60 < sum(flipped) < 140
    assert torch.equal(RandomFlip(0)(sample)['inputs']['rgb'], image)
    assert torch.equal(RandomFlip(1)(sample)['inputs']['rgb'], image.flip(2))


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='Resize', size=0), 'A size is an integer'),
        (dict(type='Resize', size=(4, 5, 6)), 'A size is an integer'),
        (dict(type='RandomCrop', size=4.5), 'A size is an integer'),
        (dict(type='RandomRotation', degrees=-1), r'degrees in 0\.\.180'),
        (dict(type='RandomRotation', canvas=0), r'canvas in \(0, 1\]'),
        (dict(type='RandomResize', scale=1.4), r'scale of RandomResize is a pair of numbers, got 1\.4'),
        (dict(type='RandomResize', scale=(1.4, 1.0)), r'is a pair \(smallest, largest\), got \(1\.4, 1\.0\)'),
        (dict(type='RandomResize', scale=(0, 1)), r'scale of RandomResize is above 0'),
        (
            dict(type='RandomResizedCrop', size=4, scale=(0, 1)),
            r'takes a scale in \(0, 1\] and a ratio above 0, got \(0',
        ),
        (dict(type='RandomResizedCrop', size=4, ratio=(0, 1)), 'and a ratio above 0'),
        (dict(type='RandomFlip', p=1.5), r'RandomFlip takes a probability p, which must be in 0\.\.1, got 1\.5'),
    ],
)
def test_wrong_arguments_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        TRANSFORMS.build(config)


def test_a_resized_crop_is_a_part_of_the_area_and_ratio_asked_for():
    image = torch.stack([torch.arange(80.0)[:, None].expand(80, 120), torch.arange(120.0).expand(80, 120)])
    for _ in range(40):
        y, x = RandomResizedCrop(24, scale=(0.2, 0.5), ratio=(0.8, 1.25))({'inputs': {'ir': image}})['inputs']['ir']
        height, width = ((a.max() - a.min()).item() * 24 / 23 for a in (y, x))
        assert 0.15 < height * width / (80 * 120) < 0.56
        assert 0.7 < width / height < 1.4


@pytest.mark.parametrize(('direction', 'axis', 'turned'), [('horizontal', -1, 0), ('vertical', -2, 1)])
def test_a_flip_turns_the_motion_along_its_axis(direction, axis, turned):
    flow = torch.randint(0, 256, (4, 2, 5, 6), dtype=torch.uint8)  # u, v, u, v of two frames
    sample = {'inputs': {'flow': flow, 'real': flow - 127.5}}
    moved = RandomFlip(1, direction, flow=['flow', 'real'])(sample)['inputs']
    expected = (flow - 127.5).flip(axis)
    expected[turned::2] *= -1
    assert torch.equal(moved['real'], expected)
    assert torch.equal(moved['flow'], (expected + 127.5).to(torch.uint8))
    assert torch.equal(RandomFlip(0, direction, flow='flow')(sample)['inputs']['flow'], flow)


def test_a_crop_larger_than_its_image_is_refused():
    with pytest.raises(InputError, match=r'RandomCrop of \(16, 16\) .* image of \(12, 20\)'):
        RandomCrop(16)(scene())


def checkers(height, width):
    """Depth with holes: 0 and 1000 in turn, so that any mixture shows."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return ((rows + columns) % 2 * 1000.0)[None]


NEAREST = [
    dict(type='Resize', size=(9, 14)),
    dict(type='RandomResize', scale=(1.1, 1.4)),
    dict(type='RandomRotation', degrees=30),
    dict(type='RandomCrop', size=(13, 30), resize_smaller=True),
]


@pytest.mark.parametrize('config', NEAREST, ids=lambda c: c['type'])
@pytest.mark.parametrize('nearest', ['depth', ['ir', 'depth']])
def test_values_of_the_named_modalities_are_never_mixed(config, nearest):
    sample = scene(12, 20, target=checkers(12, 20)[0].long() // 1000)
    sample['inputs'] = {'depth': checkers(12, 20), 'rgb': checkers(12, 20).repeat(3, 1, 1)}
    moved = TRANSFORMS.build({**config, 'nearest': nearest})(sample)
    assert set(moved['inputs']['depth'].unique().tolist()) == {0, 1000}
    assert len(moved['inputs']['rgb'].unique()) > 2
    assert moved['inputs']['depth'].dtype == torch.float32
    assert type(moved['inputs']['depth']) is torch.Tensor
    assert torch.equal(moved['inputs']['depth'][0], moved['target'] * 1000.0)


def test_one_factor_scales_both_sides_and_fills_the_range():
    sizes = [tuple(RandomResize((0.5, 1.5))(scene(100, 140))['inputs']['ir'].shape[1:]) for _ in range(60)]
    heights = [h for h, _ in sizes]
    assert min(heights) < 60
    assert max(heights) > 140
    assert max(abs(w / h - 1.4) for h, w in sizes) < 0.03
    assert RandomResize((2, 2))(scene(3, 5))['inputs']['ir'].shape == (1, 6, 10)


@pytest.mark.parametrize(
    ('height', 'width', 'crops'), [(17, 25, True), (16, 25, False), (17, 24, False), (9, 9, False)]
)
def test_a_window_that_the_image_does_not_exceed_takes_all_of_it(height, width, crops):
    image = torch.arange(height * width).view(1, height, width).float()
    sample = {'inputs': {'ir': image}, 'present': torch.tensor([True])}
    found = RandomCrop((16, 24), resize_smaller=True)(sample)['inputs']['ir']
    assert found.shape == (1, 16, 24)
    resized = Resize((16, 24))(sample)['inputs']['ir']
    assert torch.equal(found, resized) != crops
    if crops:
        assert (found[0, :, 1:] - found[0, :, :-1]).unique().tolist() == [1]


def test_a_mask_may_keep_its_size():
    mask = torch.randint(0, 5, (12, 20))
    moved = Resize((6, 8), inputs_only=True)(scene(12, 20, target=mask))
    assert {tuple(x.shape[1:]) for x in moved['inputs'].values()} == {(6, 8)}
    assert torch.equal(moved['target'], mask)
    assert moved['info'] == {'file': 'x', 'mask_size': (12, 20)}
    with pytest.raises(InputError, match=r'RandomFlip needs a mask of the size \(6, 8\).*got \(12, 20\)'):
        RandomFlip()(moved)
    assert Resize((6, 8))(moved)['target'].shape == (6, 8)


@pytest.mark.parametrize('target', [torch.tensor(3), None, 'text'])
def test_other_targets_pass_a_resize_of_the_inputs(target):
    moved = Resize((6, 8), inputs_only=True)(scene(target=target))
    assert moved['target'] is target
    assert moved['info'] == {'file': 'x'}


def test_boxes_can_not_stay_behind():
    boxes = {'boxes': torch.zeros(0, 4), 'labels': torch.zeros(0).long()}
    with pytest.raises(InputError, match='boxes move with their image'):
        Resize(8, inputs_only=True)(scene(target=boxes))


def test_a_transpose_swaps_height_and_width_of_everything_half_of_the_time():
    sample = scene(12, 20, {'boxes': torch.tensor([[1.0, 2, 18, 11]]), 'labels': torch.tensor([0])})
    moved = RandomTranspose(1)(sample)
    assert torch.equal(moved['inputs']['rgb'], sample['inputs']['rgb'].mT)
    assert moved['target']['boxes'].tolist() == [[2, 1, 11, 18]]
    shapes = [tuple(RandomTranspose()(sample)['inputs']['ir'].shape) for _ in range(60)]
    assert 15 < shapes.count((1, 20, 12)) < 45
    with pytest.raises(InputError, match='RandomTranspose takes a probability'):
        RandomTranspose(2)
