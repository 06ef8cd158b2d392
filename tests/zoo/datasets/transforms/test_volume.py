"""Transforms of volumes: one draw for all modalities and the mask."""

import pytest
import torch

from registry import TRANSFORMS, InputError
from zoo.datasets import IGNORE, BrainPhantoms
from zoo.datasets.transforms import IntensityShift, VolumeCrop, VolumeFlip, VolumeRotation, rotate_volume

SIZE = (8, 10, 12)
GEOMETRY = [dict(type='VolumeCrop', size=(6, 7, 9)), dict(type='VolumeFlip', p=1.0), dict(type='VolumeFlip', p=0.5)]


def numbered(size=SIZE):
    """Every voxel has a number of its own, in both modalities and below IGNORE in the mask."""
    x = torch.arange(size[0] * size[1] * size[2]).view(size)
    return {
        'inputs': {'flair': x[None].float(), 't2': torch.stack([x, -x]).float()},
        'present': torch.ones(2, dtype=torch.bool),
        'target': x % 250,
    }


@pytest.mark.parametrize('cfg', GEOMETRY)
def test_modalities_and_mask_move_together(cfg):
    sample = numbered()
    for _ in range(5):
        moved = TRANSFORMS.build(cfg)(sample)
        flair, t2 = moved['inputs']['flair'], moved['inputs']['t2']
        assert torch.equal(t2, torch.cat([flair, -flair]))
        assert torch.equal(moved['target'], flair[0].long() % 250)
    assert torch.equal(sample['inputs']['flair'].flatten(), torch.arange(960.0))


def test_rotation_moves_modalities_and_mask_together():
    sample = numbered()
    sample['target'] = (sample['inputs']['flair'][0] % 7).long()
    sample['inputs']['t1'] = (sample['inputs']['flair'] % 7).float()
    moved = VolumeRotation(40, nearest='t1')(sample)
    assert moved['target'].shape == SIZE
    inside = moved['target'] != IGNORE
    assert 0.5 < inside.float().mean() < 1
    assert torch.equal(moved['inputs']['t1'][0][inside].long(), moved['target'][inside])
    assert torch.equal(moved['inputs']['t2'][0], moved['inputs']['flair'][0])


def test_crops_reach_every_place_and_are_no_larger():
    starts = set()
    for _ in range(200):
        flair = VolumeCrop((7, 9, 12))(numbered())['inputs']['flair']
        assert flair.shape == (1, 7, 9, 12)
        starts.add(int(flair.flatten()[0]))
    assert starts == {d * 120 + h * 12 for d in (0, 1) for h in (0, 1)}


def test_what_is_cut_out_is_all_that_is_read(monkeypatch):
    """A volume may lie in a file, of which reading the whole would take most of the time."""
    monkeypatch.setattr('zoo.datasets.transforms.volume._smallest', lambda x: pytest.fail('the whole was read'))
    given = numbered()
    for m, x in VolumeCrop(4)(given)['inputs'].items():
        assert x.untyped_storage().data_ptr() == given['inputs'][m].untyped_storage().data_ptr()
    VolumeFlip(p=1)(given)


def test_a_smaller_volume_is_padded_on_both_sides():
    sample = numbered((2, 3, 4))
    sample['inputs']['flair'] += 5
    moved = VolumeCrop((5, 3, 6), pad=True)(sample)
    flair, t2, mask = moved['inputs']['flair'], moved['inputs']['t2'], moved['target']
    assert flair.shape == (1, 5, 3, 6)
    inner = (slice(1, 3), slice(None), slice(1, 5))
    assert torch.equal(flair[0][inner], sample['inputs']['flair'][0])
    assert torch.equal(mask[inner], sample['target'])
    outside = torch.ones(5, 3, 6, dtype=torch.bool)
    outside[inner] = False
    assert (flair[0][outside] == 5).all()
    assert (t2[0][outside] == 0).all()
    assert (t2[1][outside] == -23).all()
    assert (mask[outside] == IGNORE).all()


def test_one_axis_may_be_given_as_a_number():
    sample = numbered()
    moved = VolumeFlip(p=1.0, axes=1)(numbered())['inputs']['flair']
    assert torch.equal(moved, sample['inputs']['flair'].flip(2))


def test_a_smaller_volume_is_refused_with_its_file():
    data = BrainPhantoms(split='test', size=16, count=1, transforms=[dict(type='VolumeCrop', size=(8, 24, 8))])
    with pytest.raises(InputError, match=r'^BrainPhantoms\[0\]: .*16x16x16 .* than the crop of 8x24x8: .*pad=True'):
        data[0]


def test_one_axis_may_be_smaller_and_another_larger():
    moved = VolumeCrop((12, 4, 12), pad=True)(numbered())
    assert moved['inputs']['flair'].shape == (1, 12, 4, 12)
    assert (moved['target'] == IGNORE).sum() == 4 * 4 * 12


def test_foreground_crops_hold_a_labelled_voxel():
    sample = numbered((20, 20, 20))
    sample['target'] = torch.zeros(20, 20, 20, dtype=torch.int64)
    sample['target'][0, 19, 10] = 2
    sample['target'][5:] = IGNORE
    hits = [bool((VolumeCrop(4, foreground=1.0)(sample)['target'] == 2).any()) for _ in range(50)]
    assert all(hits)
    plain = [bool((VolumeCrop(4)(sample)['target'] == 2).any()) for _ in range(50)]
    assert not all(plain)
    sample['target'].zero_()
    assert VolumeCrop(4, foreground=1.0)(sample)['target'].shape == (4, 4, 4)


def test_a_foreground_crop_pads_a_smaller_volume():
    sample = numbered((3, 20, 3))
    sample['target'] = torch.zeros(3, 20, 3, dtype=torch.int64)
    sample['target'][2, 0, 2] = 1
    for _ in range(10):
        target = VolumeCrop(5, foreground=1.0, pad=True)(sample)['target']
        assert target.shape == (5, 5, 5)
        assert (target == 1).sum() == 1


def test_flips_are_independent():
    seen = set()
    for _ in range(200):
        flair = VolumeFlip()(numbered((2, 2, 2)))['inputs']['flair']
        seen.add(int(flair.flatten()[0]))
    assert seen == set(range(8))
    assert torch.equal(VolumeFlip(1.0, axes=[1])(numbered())['target'], numbered()['target'].flip(1))


@pytest.mark.parametrize('plane', [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize('nearest', [True, False])
def test_a_right_angle_is_that_of_torch(plane, nearest):
    x = torch.randn(2, 6, 6, 6)
    fill = torch.full((2, 1, 1, 1), -9.0)
    found = rotate_volume(x, 90, plane, fill, nearest)
    expected = torch.rot90(x, 1, [1 + plane[0], 1 + plane[1]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_half_turn_of_unequal_sides_is_two_flips():
    x = torch.randn(1, 4, 7, 10)
    found = rotate_volume(x, 180, (1, 2), torch.zeros(1, 1, 1, 1))
    torch.testing.assert_close(found, x.flip(2, 3), atol=1e-5, rtol=0)


def test_angles_are_true_where_sides_differ():
    x = torch.zeros(1, 1, 41, 81)
    x[0, 0, 20, 40 + 15] = 1  # 15 voxels from the centre
    found = rotate_volume(x, 90, (1, 2), torch.zeros(1, 1, 1, 1), nearest=True)
    assert torch.equal(
        found.nonzero(), torch.rot90(x[:, :, :, 20:61], 1, [2, 3]).nonzero() + torch.tensor([0, 0, 0, 20])
    )


def test_what_comes_in_from_outside_is_air_and_is_not_labelled():
    sample = numbered()
    sample['inputs'] = {m: x + 100 for m, x in sample['inputs'].items()}
    sample['target'] = torch.full(SIZE, 3)
    torch.manual_seed(2)
    moved = VolumeRotation(45)(sample)
    outside = moved['target'] == IGNORE
    assert set(moved['target'].unique().tolist()) == {3, IGNORE}
    for m, x in moved['inputs'].items():
        for channel, before in zip(x, sample['inputs'][m]):
            assert float(channel.min()) >= float(before.min()) - 1e-3
            assert float(channel[outside].mean()) < float(before.mean())
    corner = moved['inputs']['flair'][0, 0, 0, 0]
    assert outside[0, 0, 0] or outside[0, 0, -1] or corner >= 100


def test_no_degrees_change_nothing():
    sample = numbered()
    moved = VolumeRotation(0)(sample)
    torch.testing.assert_close(moved['inputs'], sample['inputs'], atol=1e-3, rtol=0)
    assert torch.equal(moved['target'], sample['target'])


def test_classes_stay_where_the_target_is_no_mask():
    sample = {**numbered(), 'target': torch.tensor(3)}
    assert VolumeCrop(4)(sample)['target'] == 3


def test_intensities_have_one_draw_for_each_modality():
    x = torch.randn(1, *SIZE)
    sample = {'inputs': {'flair': x, 't2': x.clone()}, 'target': torch.tensor(0)}
    moved = IntensityShift((0.5, 2.0), (-1.0, 1.0))(sample)['inputs']
    factors = []
    for y in moved.values():
        factor = (y.max() - y.min()) / (x.max() - x.min())
        torch.testing.assert_close(y, factor * x + (y.mean() - factor * x.mean()))
        factors.append(float(factor))
        assert 0.5 <= factor <= 2
    assert abs(factors[0] - factors[1]) > 1e-3


def test_intensities_of_slices_differ_where_asked_for():
    x = torch.ones(1, 30, 4, 5)
    moved = IntensityShift((0.9, 1.1), (0.0, 0.0), per_slice=True)({'inputs': {'flair': x}})['inputs']['flair']
    levels = moved[0, :, 0, 0]
    assert torch.equal(moved, levels[None, :, None, None].expand_as(moved))
    assert levels.min() < 0.95
    assert levels.max() > 1.05
    assert levels.min() >= 0.9
    assert levels.max() <= 1.1


def test_other_modalities_keep_their_intensities():
    sample = numbered()
    moved = IntensityShift((2, 2), (0, 0), modalities='t2')(sample)['inputs']
    assert torch.equal(moved['flair'], sample['inputs']['flair'])
    assert torch.equal(moved['t2'], 2 * sample['inputs']['t2'])


@pytest.mark.parametrize('cfg', [*GEOMETRY, dict(type='VolumeRotation')])
def test_sizes_must_agree(cfg):
    transform = TRANSFORMS.build(cfg)
    sample = numbered()
    with pytest.raises(InputError, match=r'needs volumes \(C, D, H, W\) of one size'):
        transform({**sample, 'inputs': {**sample['inputs'], 't1': torch.zeros(1, 4, 4, 4)}})
    with pytest.raises(InputError, match=r'needs volumes \(C, D, H, W\)'):
        transform({'inputs': {'flair': torch.zeros(1, 8, 8)}})
    with pytest.raises(InputError, match=r'needs a mask of the size \(8, 10, 12\)'):
        transform({**sample, 'target': torch.zeros(8, 10, 11, dtype=torch.int64)})


@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='VolumeCrop', size=0),
        dict(type='VolumeCrop', size=(4, 4)),
        dict(type='VolumeCrop', size=4, foreground=1.5),
        dict(type='VolumeFlip', p=-0.1),
        dict(type='VolumeFlip', axes=[0, 3]),
        dict(type='VolumeFlip', axes=[1, 1]),
        dict(type='VolumeRotation', degrees=181),
        dict(type='IntensityShift', scale=(-1, 1)),
        dict(type='IntensityShift', shift=0.1),
    ],
)
def test_wrong_arguments_are_refused(cfg):
    with pytest.raises(InputError):
        TRANSFORMS.build(cfg)
