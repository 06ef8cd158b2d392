"""The views of MAIL's augmentation, against SciPy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from registry import TRANSFORMS, InputError, NameNotFound
from zoo.datasets import IGNORE
from zoo.datasets.transforms import VIEWS, RandomView


def sample(height=24, width=36):
    draw = torch.Generator().manual_seed(1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    smooth = (120 + 60 * torch.sin(x / 5) + 50 * torch.cos(y / 4)).float()
    return {
        'inputs': {
            'rgb': torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=draw),
            'ct': smooth[None],
        },
        'present': torch.tensor([True, True]),
        'target': (x > 10).long(),
    }


def test_a_shift_moves_all_pixels_to_the_right_and_down():
    before, after = sample(), RandomView('shifted', shift=(5, 3))(sample())
    for m, x in before['inputs'].items():
        assert torch.equal(after['inputs'][m][:, 3:, 5:], x[:, :-3, :-5])
        assert not after['inputs'][m][:, :3].any()
    assert torch.equal(after['target'][3:, 5:], before['target'][:-3, :-5])
    assert after['target'][:3].unique().tolist() == [IGNORE]


def test_a_rotation_turns_counter_clockwise_about_the_centre_like_scipy():
    after = RandomView('rotated', degrees=20)(sample())
    expected = ndimage.rotate(sample()['inputs']['ct'][0].numpy(), 20, reshape=False, order=1)
    inside = ndimage.binary_erosion(ndimage.rotate(np.ones((24, 36)), 20, reshape=False, order=1) > 0.999)
    difference = np.abs(after['inputs']['ct'][0].numpy() - expected)[inside]
    assert difference.max() < 1.5  # of 230; OpenCV interpolates between 32 positions a pixel
    outside = ndimage.binary_erosion(ndimage.rotate(np.ones((24, 36)), 20, reshape=False, order=1) < 0.001)
    assert not after['inputs']['rgb'][:, torch.from_numpy(outside)].any()
    assert set(after['target'][torch.from_numpy(outside)].tolist()) == {IGNORE}
    assert set(after['target'].unique().tolist()) == {0, 1, IGNORE}


def test_a_blur_is_the_gaussian_of_three_pixels_and_leaves_masks_alone():
    before, after = sample(), RandomView('blurred')(sample())
    kernel = np.exp(-(np.arange(-1, 2) ** 2) / (2 * 0.8**2))
    kernel /= kernel.sum()
    for m, x in before['inputs'].items():
        expected = x.double().numpy()
        for axis in (1, 2):
            expected = ndimage.correlate1d(expected, kernel, axis, mode='mirror')
        assert np.abs(after['inputs'][m].numpy() - expected).max() <= (0.501 if x.dtype == torch.uint8 else 1e-3)
        assert after['inputs'][m].dtype == x.dtype
    assert torch.equal(after['target'], before['target'])


def test_modalities_with_holes_take_the_nearest_pixel_and_are_not_blurred():
    given = sample()
    given['inputs']['ct'] = (given['inputs']['ct'] > 120).float() * 1000
    for view in ('rotated', 'blurred'):
        moved = RandomView(view, nearest='ct')(given)['inputs']['ct']
        assert set(moved.unique().tolist()) == {0, 1000}


def test_each_view_comes_with_the_same_probability_for_all_modalities_alike():
    given = sample()
    views = {v: RandomView(v)(given)['inputs'] for v in VIEWS}
    transform = TRANSFORMS.build('RandomView')
    counts = dict.fromkeys(VIEWS, 0)
    for _ in range(400):
        found = transform(given)['inputs']
        (view,) = [v for v, inputs in views.items() if torch.equal(inputs['rgb'], found['rgb'])]
        assert torch.equal(views[view]['ct'], found['ct'])
        counts[view] += 1
    assert all(70 < n < 130 for n in counts.values())  # 100 expected, standard deviation 9


def test_a_class_stays_and_the_given_sample_too():
    given = {**sample(), 'target': torch.tensor(3)}
    before = given['inputs']['rgb'].clone()
    for view in VIEWS:
        assert RandomView(view)(given)['target'] == 3
    assert torch.equal(given['inputs']['rgb'], before)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(views=['rotate']), NameNotFound, "No view of RandomView named 'rotate'. Did you mean 'rotated'"),
        (dict(views=[]), InputError, 'at least one of original, rotated'),
        (dict(degrees=200), InputError, r'The degrees of RandomView must be in -180\.\.180'),
        (dict(shift=5), InputError, r'The shift of RandomView is a pair \(right, down\)'),
        (dict(shift=(5, 'a')), InputError, 'The shift of RandomView must be in'),
        (dict(blur=4), InputError, 'The blur of RandomView is an odd number'),
    ],
)
def test_a_wrong_argument_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        TRANSFORMS.build(dict(type='RandomView', **arguments))
