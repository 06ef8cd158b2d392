"""Masks of blocks: what is disjoint, how much is hidden, and that nothing depends on the grid."""

import math

import pytest
import torch

from plugins.masks import Blocks, complementary_masks, intervention_masks, random_masks
from registry import InputError, NameNotFound

SIZES = [(256, 256), (64, 64), (32, 32), (20, 33), (16, 16), (3, 3), (1, 1), (4, 20, 24), (375,)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('overlap', ['priority', 'pixel'])
@pytest.mark.parametrize('modalities', [2, 3, 4])
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_no_place_is_hidden_twice_and_no_modality_in_more_than_its_share(size, modalities, overlap):
    kept = complementary_masks(5, modalities, size, generator=seeded(), overlap=overlap, disks=0.3)
    assert kept.shape == (5, modalities, *size)
    assert kept.dtype == torch.bool
    hidden = ~kept
    assert hidden.sum(1).max() <= 1
    assert hidden.flatten(2).float().mean(2).max() <= 0.5
    # a grid of one place can not be hidden in half, any other has a block
    assert bool(hidden.any()) == (math.prod(size) > 1)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_random_masks_are_one_for_all(size):
    kept = random_masks(6, size, generator=seeded())
    assert kept.shape == (6, 1, *size)
    assert (~kept).flatten(2).float().mean(2).max() <= 0.5


def test_the_number_of_blocks_is_that_which_was_asked_for():
    one = random_masks(8, (256, 256), count=(1, 1), generator=seeded())
    assert ((~one).flatten(1).sum(1) == 256).all()
    several = Blocks.draw(64, 3, (256, 256), 16, (1, 6), 0.5, 0.0, seeded(), None).hits((256, 256))
    area = several.flatten(2).sum(2)
    assert area.min() >= 256
    assert area.max() <= 1536


def test_masks_are_distributed_as_those_of_a_loop_over_samples():
    generator = seeded(3)
    areas = []
    for _ in range(2048):
        hidden = torch.zeros(40, 56, dtype=torch.bool)
        for _ in range(int(torch.randint(1, 4, (), generator=generator))):
            y, x = (int(torch.randint(0, s - 8 + 1, (), generator=generator)) for s in (40, 56))
            hidden[y : y + 8, x : x + 8] = True
        areas.append(float(hidden.sum()))
    found = (~random_masks(2048, (40, 56), 8, (1, 3), seeded(4))).flatten(1).sum(1).float()
    expected = torch.tensor(areas)
    deviation = (expected.var() / 2048 + found.var() / 2048).sqrt()
    assert (found.mean() - expected.mean()).abs() < 3 * deviation
    assert found.unique().min() == 64


def test_the_same_generator_gives_the_same_masks():
    first, second, other = (complementary_masks(3, 2, (40, 40), generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_without_a_share_or_a_block_all_is_kept():
    assert complementary_masks(2, 2, (32, 32), ratio=0.0, generator=seeded()).all()
    assert random_masks(2, (32, 32), count=(0, 0), generator=seeded()).all()


def test_an_absent_modality_takes_no_place_from_the_others():
    present = torch.tensor([[True, False]] * 64)
    blocks = {'block': 12, 'count': (3, 3), 'generator': None}
    kept = complementary_masks(64, 2, (32, 32), **{**blocks, 'generator': seeded()}, present=present)
    assert kept[:, 1].all()
    both = complementary_masks(64, 2, (32, 32), **{**blocks, 'generator': seeded()})
    assert (~kept[:, 0]).sum() > (~both[:, 0]).sum()


def test_disks_are_round():
    blocks = Blocks.draw(4, 1, (64, 64), 16, (1, 1), 0.5, 1.0, seeded(), None)
    area = blocks.hits((64, 64)).flatten(1).sum(1)
    assert ((area - math.pi * 64).abs() < 12).all()


def test_masks_of_different_resolution_lie_over_each_other():
    sizes = {'rgb': (64, 96), 'ir': (32, 48), 'seq': (160,), 'vector': ()}
    present = torch.ones(7, 4, dtype=torch.bool)
    found = intervention_masks(sizes, present, seeded(), 16, (1, 6), 0.5, 'priority', 0.0, 'complementary')
    assert set(found) == {'rgb', 'ir', 'seq'}
    assert found['ir'].shape == (7, 1, 32, 48)
    large = found['ir'].repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert not (~large & ~found['rgb']).any()
    assert (~large).any()
    shared = intervention_masks(sizes, present, seeded(), 16, (1, 6), 0.5, 'priority', 0.0, 'random')
    assert torch.equal(shared['rgb'][..., ::2, ::2], shared['ir'])


def test_disks_and_drawn_lots_are_disjoint_on_each_grid_of_several():
    sizes = {'a': (32, 48), 'b': (32, 48), 'c': (8, 12)}
    everyone = torch.ones(16, 3, dtype=torch.bool)
    found = intervention_masks(sizes, everyone, seeded(), 8, (4, 6), 0.5, 'pixel', 0.5, 'complementary')
    assert not (~found['a'] & ~found['b']).any()
    assert (~found['c']).any()


def test_a_block_of_a_sequence_is_a_sixteenth_of_it():
    found = intervention_masks(
        {'a': (320,), 'b': (320,)},
        torch.ones(9, 2, dtype=torch.bool),
        seeded(),
        16,
        (1, 1),
        0.5,
        'priority',
        0.0,
        'complementary',
    )
    assert (~found['a']).flatten(1).sum(1).max() == 20


@pytest.mark.parametrize(
    ('call', 'error', 'words'),
    [
        (lambda: complementary_masks(2, 1, (8, 8)), InputError, 'at least 2 modalities, got 1'),
        (lambda: random_masks(2, (8, 8), block=0), InputError, 'block must be an integer of at least 1, got 0'),
        (lambda: random_masks(2, (8, 8), count=(3, 1)), InputError, r'fewest <= most, got \(3, 1\)'),
        (lambda: random_masks(2, (8, 8), ratio=1.5), InputError, r'ratio must be in \[0, 1\], got 1.5'),
        (
            lambda: complementary_masks(2, ('rgb', 'ir'), (8, 8)),
            InputError,
            'a number of at least 2 modalities, got .*rgb',
        ),
        (
            lambda: complementary_masks(2, 2, (8, 8), present=torch.ones(3, 2, dtype=torch.bool)),
            InputError,
            r'\(B, M\) = \(2, 2\), got torch.bool of shape \(3, 2\)',
        ),
        (
            lambda: complementary_masks(2, 2, (8, 8), present=torch.ones(2, 2)),
            InputError,
            r'got torch.float32 of shape \(2, 2\)',
        ),
        (lambda: random_masks(-1, (8, 8)), InputError, 'batch_size must be an integer of at least 0, got -1'),
        (lambda: random_masks(2, (0, 8)), InputError, r'at least 1, .* got \(0, 8\)'),
        (lambda: random_masks(2, 8), InputError, r'as \(64, 96\) does, got 8'),
        (lambda: complementary_masks(2, 2, (8, 8), overlap='prority'), NameNotFound, 'priority'),
    ],
)
def test_bad_arguments_are_one_clear_line(call, error, words):
    with pytest.raises(error, match=words):
        call()
