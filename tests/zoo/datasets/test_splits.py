"""Dividing samples: shares, classes and groups."""

from collections import Counter

import pytest

from registry import InputError
from zoo.datasets.splits import SHARES, divide_groups, shuffled


def test_single_samples_are_divided_class_by_class_as_exactly_as_whole_numbers_can_be():
    labels = [0] * 50 + [1] * 30 + [2] * 10
    parts = divide_groups(labels, range(90), SHARES)
    counts = {name: Counter(labels[i] for i in part) for name, part in parts.items()}
    assert counts == {'train': {0: 40, 1: 24, 2: 8}, 'val': {0: 5, 1: 3, 2: 1}, 'test': {0: 5, 1: 3, 2: 1}}


def test_every_sample_has_one_part_and_no_group_two():
    labels = [i % 3 for i in range(300)]
    groups = [f'g{i * i % 97}' for i in range(300)]  # of different sizes and mixed classes
    parts = divide_groups(labels, groups, SHARES)
    assert sorted(i for part in parts.values() for i in part) == list(range(300))
    owners = [{groups[i] for i in part} for part in parts.values()]
    assert len(set.union(*owners)) == sum(map(len, owners))
    assert all(abs(len(parts[s]) / 300 - share) < 0.02 for s, share in SHARES.items())
    for part in parts.values():
        assert all(abs(n / len(part) - 1 / 3) < 0.08 for n in Counter(labels[i] for i in part).values())


def test_the_division_depends_on_names_and_seed_and_not_on_the_order():
    names = [f'{i:02d}' for i in range(40)]
    first = {names[i] for i in divide_groups([0] * 40, names, SHARES)['test']}
    turned = names[::-1]
    assert {turned[i] for i in divide_groups([0] * 40, turned, SHARES)['test']} == first
    assert first == {'14', '25', '31', '38'}  # a change would mix up users' splits
    assert {names[i] for i in divide_groups([0] * 40, names, SHARES, seed=1)['test']} != first


def test_a_large_group_does_not_go_where_it_does_not_fit():
    parts = divide_groups([0] * 20, ['patient'] * 10 + list(range(10)), SHARES)
    assert set(range(10)) <= set(parts['train'])
    assert [len(parts[s]) for s in SHARES] == [16, 2, 2]


def test_shuffled_keeps_all_items():
    assert sorted(shuffled(range(100), 'x')) == list(range(100))
    assert shuffled(range(100), 'x') != shuffled(range(100), 'y')


@pytest.mark.parametrize('shares', [{}, {'train': 0.5}, {'train': 1.5, 'test': -0.5}])
def test_shares_that_do_not_sum_up_are_refused(shares):
    with pytest.raises(InputError, match=r'shares of a division are above 0 and sum up to 1, got \{'):
        divide_groups([0, 1], [0, 1], shares)
