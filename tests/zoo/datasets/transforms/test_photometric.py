"""Changes of colour, against the standard library's conversion in double precision."""

import colorsys

import pytest
import torch

from registry import TRANSFORMS, InputError
from zoo.datasets.transforms import RandomGain, RandomHSV, scale_hsv


def by_hand(image, factors, shift=0.0):
    """Pixel by pixel in float64."""
    pixels = []
    for rgb in image.flatten(1).T.tolist():
        hue, *rest = (min(x * f, 1) for x, f in zip(colorsys.rgb_to_hsv(*(v / 255 for v in rgb)), factors))
        pixels.append([255 * v for v in colorsys.hsv_to_rgb((hue + shift) % 1, *rest)])
    return torch.tensor(pixels, dtype=torch.float64).T.view(image.shape)


EDGES = torch.tensor(
    [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 20], [20, 0, 255], [7, 7, 7]],
    dtype=torch.uint8,
).T.view(3, 2, 4)


@pytest.mark.parametrize('factors', [(1, 1, 1), (0.9, 1.1, 1.05), (1.1, 0.9, 0.9), (1.1, 1.1, 1.1), (0, 0, 0.5)])
@pytest.mark.parametrize('edges', [True, False])
def test_factors_act_on_hue_saturation_and_value(factors, edges):
    image = EDGES if edges else torch.randint(0, 256, (3, 9, 14), dtype=torch.uint8)
    before = image.clone()
    found = scale_hsv(image, factors)
    assert found.dtype == torch.uint8
    assert (found.double() - by_hand(image, factors)).abs().max() < 0.5 + 1e-3 * 255
    assert torch.equal(image, before)


@pytest.mark.parametrize('shift', [0.015, -0.015, 0.5, 1, -1])
@pytest.mark.parametrize('edges', [True, False])
def test_a_shift_turns_the_hue_around_the_circle(shift, edges):
    image = EDGES if edges else torch.randint(0, 256, (3, 9, 14), dtype=torch.uint8)
    found = scale_hsv(image, (1, 0.7, 1.2), shift)
    assert (found.double() - by_hand(image, (1, 0.7, 1.2), shift)).abs().max() < 0.5 + 1e-3 * 255


def test_factors_of_one_change_nothing():
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    assert torch.equal(scale_hsv(image, (1, 1, 1)), image)


def test_the_layout_in_memory_does_not_matter():
    image = torch.randint(0, 256, (9, 14, 3), dtype=torch.uint8).permute(2, 0, 1)
    cut = image[:, 2:8, 3:10]
    assert torch.equal(scale_hsv(cut, (1.1, 0.9, 1.05)), scale_hsv(cut.contiguous(), (1.1, 0.9, 1.05)))


def sample():
    inputs = {
        'rgb': torch.randint(30, 220, (3, 8, 12), dtype=torch.uint8),
        'depth': torch.rand(1, 8, 12),
        'second': torch.randint(30, 220, (3, 8, 12), dtype=torch.uint8),
    }
    return {'inputs': inputs, 'present': torch.ones(3, dtype=torch.bool), 'target': torch.zeros(8, 12).long()}


def test_only_the_named_modalities_change():
    given = sample()
    before = {m: x.clone() for m, x in given['inputs'].items()}
    found = TRANSFORMS.build('RandomHSV')(given)
    assert not torch.equal(found['inputs']['rgb'], before['rgb'])
    assert found['inputs']['depth'] is given['inputs']['depth']
    assert found['inputs']['second'] is given['inputs']['second']
    assert found['target'] is given['target']
    assert all(torch.equal(given['inputs'][m], x) for m, x in before.items())
    both = RandomHSV(modalities=['second', 'absent'])(given)
    assert torch.equal(both['inputs']['rgb'], before['rgb'])
    assert not torch.equal(both['inputs']['second'], before['second'])


def test_torchs_seed_decides():
    given = sample()

    def draw(seed):
        torch.manual_seed(seed)
        return RandomHSV()(given)['inputs']['rgb']

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_factors_fill_their_ranges():
    grey = {'inputs': {'rgb': torch.full((3, 1, 1), 200, dtype=torch.uint8)}}
    values = [int(RandomHSV(v=(0.5, 1.0))(grey)['inputs']['rgb'][0]) for _ in range(200)]
    assert 100 <= min(values) < 110
    assert 190 < max(values) <= 200


def test_the_hue_may_be_shifted_instead_of_scaled():
    red = {'inputs': {'rgb': torch.tensor([200, 0, 0], dtype=torch.uint8).view(3, 1, 1)}}
    turned = RandomHSV(h=(1 / 3, 1 / 3), s=(1, 1), v=(1, 1), shift_hue=True)(red)['inputs']['rgb']
    assert turned.flatten().tolist() == [0, 200, 0]
    values = [RandomHSV((-0.01, 0.01), (1, 1), (1, 1), shift_hue=True)(red)['inputs']['rgb'] for _ in range(40)]
    greens, blues = (max(int(v[c]) for v in values) for c in (1, 2))
    assert min(greens, blues) > 6
    assert max(greens, blues) <= 12  # a hundredth of the circle, 3.6 of the 60 degrees from 0 to 200


def test_gain_and_offset_act_on_the_named_modalities_only():
    given = sample()
    before = {m: x.clone() for m, x in given['inputs'].items()}
    found = RandomGain(['depth', 'second', 'absent'], gain=(2, 2), offset=(-100, -100))(given)['inputs']
    assert torch.equal(found['depth'], 2 * before['depth'] - 100)
    expected = [min(max(2 * v - 100, 0), 255) for v in before['second'].flatten().tolist()]
    assert found['second'].flatten().tolist() == expected
    assert found['second'].dtype == torch.uint8
    assert found['rgb'] is given['inputs']['rgb']
    assert all(torch.equal(given['inputs'][m], x) for m, x in before.items())
    ones = {'inputs': {'ir': torch.ones(1, 1, 1)}}
    values = [RandomGain('ir', (0.5, 1), (0, 0.25))(ones)['inputs']['ir'].item() for _ in range(200)]
    assert 0.5 <= min(values) < 0.6
    assert 1.15 < max(values) <= 1.25


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(gain=1.1), r'gain of RandomGain is a pair of numbers, got 1\.1'),
        (dict(gain=(-1, 1)), r'gain of RandomGain is at least 0, got \(-1, 1\)'),
        (dict(offset=(1, 0)), r'offset of RandomGain is a pair \(smallest, largest\)'),
    ],
)
def test_wrong_gains_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        RandomGain('ir', **arguments)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(h=(0.9, 1.1), shift_hue=True), r'h of RandomHSV is a share of the circle in -1\.\.1, got \(0\.9, 1\.1\)'),
        (dict(h=(0, 0), s=(-1, 1), shift_hue=True), 'factors of RandomHSV are at least 0'),
        (dict(h=0.9), r'factor h of RandomHSV is a pair of numbers, got 0\.9'),
        (dict(s=(1.1, 0.9)), r'factor s of RandomHSV is a pair \(smallest, largest\)'),
        (dict(v=(-0.1, 1)), 'factors of RandomHSV are at least 0'),
        (dict(v=(1, float('nan'))), r'factor v of RandomHSV is a pair'),
    ],
)
def test_wrong_arguments_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        TRANSFORMS.build(dict(type='RandomHSV', **config))


@pytest.mark.parametrize('x', [torch.rand(3, 4, 5), torch.zeros(1, 4, 5, dtype=torch.uint8)])
def test_an_image_without_8_bit_colours_is_refused(x):
    with pytest.raises(InputError, match=r'RandomHSV of ir: Expected a colour image of uint8 \(3, H, W\), got torch'):
        RandomHSV(modalities='ir')({'inputs': {'ir': x}})
