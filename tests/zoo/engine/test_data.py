"""Sampling, seeding, collation and the loaders made of them."""

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from registry import InputError
from zoo.datasets import IGNORE, UNLABELLED
from zoo.engine import Collate, EpochSampler, build_dataloader
from zoo.engine.data import SeededDataset


def indices(sampler):
    return [index for _, index in sampler]


@pytest.mark.parametrize('world', [1, 2, 3])
@pytest.mark.parametrize('round_up', [True, False])
def test_ranks_share_all_samples(world, round_up):
    samplers = [EpochSampler(10, True, seed=3, rank=r, world_size=world, round_up=round_up) for r in range(world)]
    drawn = [indices(s) for s in samplers]
    assert [len(d) for d in drawn] == [len(s) for s in samplers]
    assert {i for d in drawn for i in d} == set(range(10))
    total = sum(map(len, drawn))
    assert total == (-(-10 // world) * world if round_up else 10)


def test_the_order_changes_with_epoch_and_seed_only():
    a, b, c = EpochSampler(20, True, 1), EpochSampler(20, True, 1), EpochSampler(20, True, 2)
    assert indices(a) == indices(b) != indices(c)
    b.set_position(1)
    assert indices(a) != indices(b)


def test_a_position_in_mid_epoch_continues_the_same_order():
    whole, rest = (EpochSampler(20, True, 1, rank=1, world_size=2) for _ in range(2))
    rest.set_position(0, 4)
    assert indices(rest) == indices(whole)[4:]
    assert len(rest) == 10


class Noise(Dataset):
    modalities = ('a',)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        value = torch.stack([torch.rand(()), torch.tensor(np.random.rand()).float(), torch.tensor(random.random())])
        return {'inputs': {'a': value.view(3, 1, 1)}, 'present': torch.tensor([True]), 'target': torch.tensor(index)}


def test_a_samples_randomness_depends_on_seed_epoch_and_index():
    values = {
        (seed, epoch, index): tuple(SeededDataset(Noise(), seed)[epoch, index]['inputs']['a'].flatten().tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
        for index in (0, 1)
    }
    assert len(set(values.values())) == 8
    torch.rand(5), np.random.rand(), random.random()
    again = SeededDataset(Noise(), 1)[1, 0]['inputs']['a']
    assert tuple(again.flatten().tolist()) == values[1, 1, 0]


def test_the_global_random_states_stay():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    SeededDataset(Noise(), 0)[0, 0]
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert before[2] == random.getstate()


def test_iterating_a_loader_draws_nothing_from_the_global_state():
    loader = build_dataloader({'dataset': Noise(), 'batch_size': 2, 'num_workers': 0}, training=True)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(before, torch.get_rng_state())


def sample(**inputs):
    return {'inputs': inputs, 'present': torch.tensor(['a' in inputs, 'b' in inputs])}


def test_collate_fills_what_some_samples_lack_and_leaves_out_what_all_lack():
    a = torch.ones(2, 4, 5)
    batch = Collate(['a', 'b'])([{**sample(a=a), 'target': 1}, {**sample(a=a), 'target': 2}])
    assert list(batch['inputs']) == ['a']
    assert batch['target'].tolist() == [1, 2]
    batch = Collate(['a', 'b'])([sample(a=a), sample(b=torch.ones(1, 4, 5))])
    assert batch['present'].tolist() == [[True, False], [False, True]]
    assert batch['inputs']['a'][1].abs().sum() == 0
    assert batch['inputs']['b'].shape == (2, 1, 4, 5)
    assert batch['target'] is None


def test_collate_stacks_masks_and_lists_boxes():
    boxes = [torch.rand(n, 4) for n in (1, 3)]
    rows = [
        {**sample(a=torch.ones(1, 2, 2)), 'target': {'boxes': b, 'mask': torch.zeros(2, 2)}, 'info': {'n': i}}
        for i, b in enumerate(boxes)
    ]
    batch = Collate(['a', 'b'])(rows)
    assert batch['target']['mask'].shape == (2, 2, 2)
    assert [len(b) for b in batch['target']['boxes']] == [1, 3]
    assert batch['info'] == [{'n': 0}, {'n': 1}]


def test_boxes_are_listed_even_when_their_numbers_happen_to_agree():
    rows = [{**sample(a=torch.ones(1, 2, 2)), 'target': {'boxes': torch.rand(2, 4)}} for _ in range(2)]
    assert isinstance(Collate(['a', 'b'])(rows)['target']['boxes'], list)


def test_label_sets_of_single_modalities_keep_their_nest():
    def labels(n):
        return {'boxes': torch.rand(n, 4), 'labels': torch.arange(n)}

    sets = [{'own': {m: labels(n) for m in 'ab'}, **labels(n + 1)} for n in (2, 0, 2)]
    target = Collate(['a', 'b'])([{**sample(a=torch.ones(1, 2, 2)), 'target': t} for t in sets])['target']
    assert list(target['own']) == ['a', 'b']
    for m in 'ab':
        for k in ('boxes', 'labels'):
            assert isinstance(target['own'][m][k], list)
            assert all(x is t['own'][m][k] for x, t in zip(target['own'][m][k], sets, strict=True))
    assert [len(x) for x in target['labels']] == [3, 1, 3]


def test_targets_that_hold_different_things_are_refused():
    rows = [{**sample(a=torch.ones(1, 2, 2)), 'target': {'own': {m: {}}}} for m in 'ab']
    with pytest.raises(InputError, match=r"targets of a batch differ in what they hold: \['a'\], \['b'\]"):
        Collate(['a', 'b'])(rows)


class Epochs(Noise):
    """Its target is the epoch that it was told."""

    epoch = -1

    def __getitem__(self, index):
        return {**super().__getitem__(index), 'target': torch.tensor(self.epoch)}


@pytest.mark.parametrize('workers', [0, 2])
def test_a_data_set_that_asks_is_told_the_epoch(workers):
    loader = build_dataloader({'dataset': Epochs(), 'batch_size': 3, 'num_workers': workers}, training=True)
    told = []
    for epoch in (0, 1, 7):
        loader.sampler.set_position(epoch)
        told += [set(batch['target'].tolist()) for batch in loader]
    assert told == [{0}, {0}, {1}, {1}, {7}, {7}]
    assert not hasattr(build_dataloader({'dataset': Noise()}, training=True).dataset.dataset, 'epoch')


def test_samples_of_different_shape_are_refused_by_name():
    with pytest.raises(InputError, match="differ in the shape of 'a'"):
        Collate(['a', 'b'])([sample(a=torch.ones(1, 2, 2)), sample(a=torch.ones(1, 2, 3))])


def test_samples_of_8_and_16_bits_are_refused_by_name():
    message = r"samples of a batch differ in the type of 'a': float32, uint8\. Files of 8 bits \(uint8\) and of 16 bits"
    with pytest.raises(InputError, match=message):
        Collate(['a', 'b'])([sample(a=torch.ones(1, 2, 2)), sample(a=torch.ones(1, 2, 2).byte())])
    batch = Collate(['a', 'b'])([sample(a=torch.ones(1, 2, 2).byte()), sample(b=torch.ones(1, 2, 2))])
    assert (batch['inputs']['a'].dtype, batch['inputs']['b'].dtype) == (torch.uint8, torch.float32)


@pytest.mark.parametrize(
    ('cfg', 'training', 'message'),
    [
        ({'batch_size': 2}, True, 'needs "dataset"'),
        ({'dataset': Noise(), 'batch_size': 2, 'shuffle': True}, False, 'neither shuffles nor drops'),
        ({'dataset': Noise(), 'batch_size': 7, 'drop_last': True}, True, 'leaves no batch: 6 samples, batch_size=7'),
        ({'dataset': Noise(), 'batch_sizes': 7}, True, 'batch_sizes'),
        ({'dataset': Noise(), 'batch_size': 0}, True, 'batch_size'),
        ({'dataset': {'type': 'DigitScene'}}, True, "Did you mean 'DigitScenes'"),
    ],
)
def test_bad_loaders_are_refused(cfg, training, message):
    with pytest.raises((InputError, LookupError), match=message):
        build_dataloader(cfg, training)


@pytest.mark.parametrize(
    ('box', 'label', 'message'),
    [
        ([2.0, 2, 9, 9], 1, r'Boxed\[0\]: the box .* leaves its image'),
        ([2.0, 2, 2, 5], 1, r'Boxed\[0\]: the box .* is empty'),
        ([2.0, 2, 5, 5], 3, r'Boxed\[0\]: label 3 is out of range, expected 0\.\.2'),
        ([2.0, 2, 5, 5], -1, r'Boxed\[0\]: label -1 is out of range'),
    ],
)
def test_boxes_of_a_data_set_of_its_own_kind_are_checked(box, label, message):
    class Boxed(Noise):
        def __getitem__(self, index):
            target = {'boxes': torch.tensor([box]), 'labels': torch.tensor([label])}
            return {'inputs': {'a': torch.zeros(3, 8, 8)}, 'present': torch.tensor([True]), 'target': target}

    with pytest.raises(InputError, match=message):
        SeededDataset(Boxed(), 0, num_classes=3)[0, 0]


@pytest.mark.parametrize('wrong', [3, -1])
def test_masks_of_a_data_set_of_its_own_kind_are_checked(wrong):
    class Masks(Noise):
        def __getitem__(self, index):
            target = torch.tensor([[0, 1, 2, IGNORE, -100, wrong if index else 0]])
            return {'inputs': {'a': torch.zeros(3, 8, 8)}, 'present': torch.tensor([True]), 'target': target}

    data = SeededDataset(Masks(), 0, num_classes=3)
    data[0, 0]
    with pytest.raises(InputError, match=rf'Masks\[1\]: label {wrong} is out of range, expected 0\.\.2'):
        data[0, 1]


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        ({'cells': 1, 'skin': torch.tensor(6)}, ''),
        ({'cells': torch.tensor(UNLABELLED), 'skin': 2}, ''),
        ({'cells': 5, 'skin': 2}, r'Several\[0\], task cells: label 5 is out of range, expected 0\.\.4'),
        ({'cells': 1, 'skin': torch.tensor(-2)}, r'Several\[0\], task skin: label -2 is out of range'),
        ({'cells': 1}, r"Several\[0\]: the host has the tasks cells, skin, but the target lacks 'skin'"),
        (torch.tensor(1), r'Several\[0\]: the host has the tasks cells, skin, but the target is tensor\(1\)'),
    ],
)
def test_labels_of_tasks_of_a_data_set_of_its_own_kind_are_checked(target, message):
    class Several(Noise):
        def __getitem__(self, index):
            return {'inputs': {'a': torch.zeros(3, 8, 8)}, 'present': torch.tensor([True]), 'target': target}

    expected = pytest.raises(InputError, match=message) if message else nullcontext()
    with expected:
        SeededDataset(Several(), 0, num_classes={'cells': 5, 'skin': 7})[0, 0]
