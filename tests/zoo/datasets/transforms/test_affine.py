"""Random affine maps: pixels, boxes and masks together, and which boxes stay."""

import math

import numpy as np
import pytest
import torch

from registry import TRANSFORMS, InputError
from zoo.datasets import IGNORE
from zoo.datasets.transforms import RandomAffine, RandomFlip
from zoo.datasets.transforms.affine import Warp

STILL = dict(translate=0.0, scale=0.0)


def sample(target=None, **inputs):
    return {'inputs': inputs, 'present': torch.ones(len(inputs), dtype=torch.bool), 'target': target}


def boxes(*rows):
    return {'boxes': torch.tensor(rows, dtype=torch.float32).view(-1, 4), 'labels': torch.arange(len(rows))}


def extent(inside):
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def test_without_any_range_nothing_moves():
    x = torch.randint(0, 256, (3, 20, 36), dtype=torch.uint8)
    moved = RandomAffine(**STILL)(sample(boxes([3, 4, 20, 18]), rgb=x, ir=x[:1].float()))
    assert torch.equal(moved['inputs']['rgb'], x)
    assert torch.equal(moved['inputs']['ir'], x[:1].float())
    assert moved['target']['boxes'].tolist() == [[3, 4, 20, 18]]


def test_a_smaller_size_is_cut_out_about_the_centre():
    x = torch.randint(0, 256, (3, 20, 36), dtype=torch.uint8)
    moved = RandomAffine((10, 16), **STILL)(sample(boxes([12, 7, 40, 40], [0, 0, 9, 4]), rgb=x))
    assert torch.equal(moved['inputs']['rgb'], x[:, 5:15, 10:26])
    assert moved['target']['boxes'].tolist() == [[2, 2, 16, 10]]
    assert moved['target']['labels'].tolist() == [0]


def test_all_modalities_and_the_boxes_move_by_one_draw():
    image = torch.zeros(1, 60, 80)
    image[:, 20:44, 25:60] = 255
    colour, stack = image.repeat(3, 1, 1).to(torch.uint8), image.repeat(6, 1, 1)
    given = sample(boxes([25, 20, 60, 44]), ir=image, rgb=colour, stack=stack)
    seen = set()
    for _ in range(20):
        moved = RandomAffine(degrees=4, translate=0.1, scale=0.3, shear=2, fill=0)(given)
        ir = moved['inputs']['ir']
        # OpenCV moves some numbers of channels in steps of 1/32 pixel
        torch.testing.assert_close(moved['inputs']['stack'], ir.repeat(6, 1, 1), atol=255 / 32, rtol=0)
        assert (moved['inputs']['rgb'].float() - ir).abs().max() < 1.01
        assert [x.dtype for x in moved['inputs'].values()] == [torch.float32, torch.uint8, torch.float32]
        torch.testing.assert_close(moved['target']['boxes'][0], extent(ir[0] > 20), atol=1.6, rtol=0)
        seen.add(tuple(moved['target']['boxes'][0].tolist()))
    assert len(seen) == 20


@pytest.mark.parametrize('factor', [0.5, 2.0, 1.5])
def test_pixels_are_moved_by_their_centres(factor):
    """A linear ramp stays one: the value at the centre of a pixel is where it came from."""
    ramp = (torch.arange(64) + 0.5).expand(1, 64, 64).contiguous()
    at_centre = torch.tensor([[factor, 0, 32 - 32 * factor], [0, factor, 32 - 32 * factor], [0, 0, 1]]).double().numpy()
    moved = Warp(at_centre, (64, 64))(ramp, 0.0)[0, 32, 20:44]
    expected = 32 + (torch.arange(20, 44) + 0.5 - 32) / factor
    torch.testing.assert_close(moved, expected, atol=0.02, rtol=0)


def test_degrees_turn_counter_clockwise():
    image = torch.zeros(1, 41, 41)
    image[:, 19:22, 34:39] = 1  # to the right of the centre
    above, below = 0, 0
    for _ in range(40):
        rows = (RandomAffine(degrees=90, fill=0, **STILL)(sample(ir=image))['inputs']['ir'][0] > 0.5).nonzero()[:, 0]
        above, below = above + bool(rows.float().mean() < 15), below + bool(rows.float().mean() > 25)
    assert min(above, below) > 4  # both directions
    torch.manual_seed(3)
    angle = 90 * (2 * torch.rand(()).item() - 1)
    torch.manual_seed(3)
    box = RandomAffine(degrees=90, fill=0, **STILL)(sample(boxes([34, 19, 39, 22]), ir=image))['target']['boxes'][0]
    radius = 36.5 - 20.5
    centre = [20.5 + radius * math.cos(math.radians(angle)), 20.5 - radius * math.sin(math.radians(angle))]
    assert ((box[:2] + box[2:]) / 2).tolist() == pytest.approx(centre, abs=1e-3)


def test_a_mask_takes_the_nearest_label_and_ignores_what_comes_in():
    mask = torch.zeros(40, 60, dtype=torch.int64)
    mask[10:30, 20:45] = 7
    image = (mask[None] * 30).float()
    for _ in range(5):
        moved = RandomAffine((50, 90), degrees=10, scale=0.2, shear=3, fill=0)(sample(mask, ir=image))
        assert moved['target'].dtype == torch.int64
        assert moved['target'].shape == (50, 90)
        assert set(moved['target'].unique().tolist()) == {0, 7, IGNORE}
        assert ((moved['inputs']['ir'][0] > 105) != (moved['target'] == 7)).float().mean() < 0.03
    assert RandomAffine()(sample(torch.tensor(3), ir=image))['target'] == 3


def test_outside_lies_what_was_asked_for():
    inputs = {
        'rgb': torch.zeros(3, 8, 8, dtype=torch.uint8),
        'ir': torch.full((1, 8, 8), 9.0),
        'six': torch.ones(6, 8, 8),
    }
    moved = RandomAffine(16, **STILL)(sample(**inputs))['inputs']
    assert [moved[m][:, 0, 0].unique().tolist() for m in inputs] == [[114], [9], [1]]
    moved = RandomAffine(16, fill={'rgb': 5, 'six': -2}, **STILL)(sample(**inputs))['inputs']
    assert [moved[m][:, 0, 0].unique().tolist() for m in inputs] == [[5], [9], [-2]]
    holes = (torch.arange(8)[:, None] + torch.arange(8))[None] % 2 * 1000.0
    moved = RandomAffine(degrees=20, fill=0, nearest=['depth'])(sample(depth=holes, ir=holes))['inputs']
    assert set(moved['depth'].unique().tolist()) == {0, 1000}
    assert len(moved['ir'].unique()) > 2


@pytest.mark.parametrize(
    ('box', 'stays'),
    [
        ([10, 10, 12.1, 12.1], True),
        ([10, 10, 12, 40], False),  # no more than 2 pixels wide
        ([10, 10, 11, 11], False),
        ([0, 50, 400, 54.1], True),
        ([0, 50, 400, 53.9], False),  # 100 times as long as high
        ([-89, 10, 11, 30], True),
        ([-91, 10, 9, 30], False),  # a tenth of it is left, not more
        ([-50, -50, -10, -10], False),
        ([390, 90, 500, 200], False),
    ],
)
def test_boxes_stay_by_size_shape_and_share(box, stays):
    given = sample({**boxes(box), 'own': {'ir': boxes(box, [0, 0, 40, 40])}}, ir=torch.zeros(1, 100, 400))
    moved = RandomAffine(fill=0, **STILL)(given)['target']
    assert moved['labels'].tolist() == ([0] if stays else [])
    assert moved['boxes'].shape == (int(stays), 4)
    assert moved['own']['ir']['labels'].tolist() == ([0, 1] if stays else [1])


def test_the_share_counts_after_scaling():
    """Of an image at a fifth of its size all is shown, with a twentieth of the pixels."""
    moved = RandomAffine(**STILL)
    moved.draw = lambda height, width: Warp(np.diag([0.2, 0.2, 1.0]), (height, width))
    target = moved(sample(boxes([10, 10, 40, 40]), ir=torch.zeros(1, 50, 50)))['target']
    torch.testing.assert_close(target['boxes'], torch.tensor([[2.0, 2, 8, 8]]))


def test_no_boxes_pass():
    moved = RandomAffine(degrees=10, shear=5)(sample(boxes(), ir=torch.rand(1, 12, 20)))['target']
    assert moved['boxes'].shape == (0, 4)
    assert moved['labels'].shape == (0,)


def test_factors_and_shifts_fill_their_ranges():
    given = sample(boxes([45, 45, 55, 55]), ir=torch.zeros(1, 100, 100))
    found = torch.cat([RandomAffine()(given)['target']['boxes'] for _ in range(200)])
    sides, centres = found[:, 2] - found[:, 0], (found[:, :2] + found[:, 2:]) / 2
    assert 5 <= sides.min() < 5.5
    assert 14.5 < sides.max() <= 15
    for axis in centres.T:
        assert 40 <= axis.min() < 41.5
        assert 58.5 < axis.max() <= 60


def test_torchs_seed_decides_and_the_sample_given_stays():
    given = sample(boxes([4, 4, 16, 10]), rgb=torch.randint(0, 256, (3, 12, 20), dtype=torch.uint8))
    before = given['inputs']['rgb'].clone()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(RandomAffine(degrees=5)(given)['inputs']['rgb'])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(given['inputs']['rgb'], before)


def test_modalities_of_two_sizes_are_refused():
    with pytest.raises(InputError, match='RandomAffine needs modalities of one size'):
        RandomAffine()(sample(ir=torch.zeros(1, 4, 6), rgb=torch.zeros(3, 8, 6)))


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(size=0), 'A size is an integer or a pair'),
        (dict(degrees=-1), r'degrees of RandomAffine must be in 0\.\.180, got -1'),
        (dict(translate=1.1), r'translate of RandomAffine must be in 0\.\.1, got 1\.1'),
        (dict(scale=1), r'scale of RandomAffine must be in 0\.\.1 and below 1, got 1'),
        (dict(shear=90), r'shear of RandomAffine must be in 0\.\.90 and below 90, got 90'),
        (dict(scale=float('nan')), 'scale of RandomAffine must be in .* got nan'),
        (dict(scale='large'), "scale of RandomAffine must be in .* got 'large'"),
        (dict(fill=[1]), r'fill of RandomAffine is None.*got \[1\]'),
    ],
)
def test_wrong_arguments_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        TRANSFORMS.build(dict(type='RandomAffine', **config))


def test_a_flip_may_be_vertical():
    x = torch.arange(24).view(1, 4, 6).float()
    moved = RandomFlip(1, direction='vertical')(sample(boxes([0, 0, 2, 1]), ir=x))
    assert torch.equal(moved['inputs']['ir'], x.flip(1))
    assert moved['target']['boxes'].tolist() == [[0, 3, 2, 4]]
    with pytest.raises(LookupError, match=r"No direction of RandomFlip named 'vertcal'\. Did you mean 'vertical'"):
        RandomFlip(direction='vertcal')
