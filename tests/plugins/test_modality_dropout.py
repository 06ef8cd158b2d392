"""ModalityDropout: how often what is dropped, and what never happens."""

import itertools

import pytest
import torch

from plugins.modality_dropout import ModalityDropout, keep_some, keep_subset
from registry import InputError, NameNotFound

DRAWS = 40000


def frequencies(kept):
    """How often each row occurs, by row."""
    rows, counts = kept.unique(dim=0, return_counts=True)
    return {tuple(map(bool, row)): count / len(kept) for row, count in zip(rows.tolist(), counts.tolist())}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('present', [(True, True, True), (True, False, True), (False, True, False)])
def test_subsets_are_uniform_over_what_the_sample_has(present):
    have = [i for i, here in enumerate(present) if here]
    found = frequencies(keep_subset(torch.tensor(present).repeat(DRAWS, 1), generator()))
    subsets = [s for n in range(1, len(have) + 1) for s in itertools.combinations(have, n)]
    expected = {tuple(i in s for i in range(3)): 1 / len(subsets) for s in subsets}
    assert found.keys() == expected.keys()
    assert all(found[k] == pytest.approx(expected[k], abs=0.01) for k in expected)


@pytest.mark.parametrize('p', [(0.5, 0.5, 0.5), (0.8, 0.8, 0.8), (1.0, 1.0, 1.0), (0.0, 0.3, 0.9)])
def test_each_modality_is_dropped_with_its_probability_but_never_all(p):
    kept = keep_some(torch.ones(DRAWS, 3, dtype=torch.bool), torch.tensor(p, dtype=torch.float64), generator())
    assert kept.any(1).all()
    found = frequencies(kept)
    for row in itertools.product([False, True], repeat=3):
        if sum(row) >= 2:  # rows of one also stand for those where none was left
            chance = torch.tensor([1 - q if here else q for here, q in zip(row, p)]).prod().item()
            assert found.get(row, 0) == pytest.approx(chance, abs=0.01)
    if len(set(p)) == 1:
        singles = [found[tuple(i == j for j in range(3))] for i in range(3)]
        assert max(singles) - min(singles) < 0.015


def test_absent_modalities_never_come_back():
    present = torch.tensor([[True, False, True], [False, True, False], [False, False, False]]).repeat(200, 1)
    for kept in (keep_some(present, torch.full((3,), 0.9, dtype=torch.float64)), keep_subset(present)):
        assert not (kept & ~present).any()
        assert torch.equal(kept.any(1), present.any(1))


@pytest.mark.parametrize('mode', ['bernoulli', 'subsets'])
def test_only_present_changes_and_only_in_the_columns_of_the_host(tiny_host, tiny_batch, mode):
    host = tiny_host(('rgb', 'depth')).plug(plugin := ModalityDropout(mode=mode))
    names = ('depth', 'teacher', 'rgb')
    batch = host.make_batch(**tiny_batch(names, size=200, absent=[(0, 'depth'), (1, 'rgb')]), modalities=names)
    before = batch.present.clone()
    dropped = plugin.on_inputs(host, batch)
    assert torch.equal(batch.present, before)
    assert torch.equal(dropped.available, before)
    assert torch.equal(dropped.present[:, 1], before[:, 1])
    assert dropped.inputs is batch.inputs
    assert dropped.present[:, [0, 2]].any(1).all()
    assert dropped.present[0].tolist() == [False, True, True]
    assert dropped.present[1].tolist() == [True, True, False]
    assert (dropped.present != before).any()
    assert dropped.present.device.type == 'cpu'


def test_draws_follow_seed_iteration_and_rank(tiny_host, tiny_batch):
    def drawn(seed=1, iteration=2, rank=0, disturb=0):
        host = tiny_host().plug(plugin := ModalityDropout())
        host.clock.seed, host.clock.iteration, host.clock.rank = seed, iteration, rank
        torch.manual_seed(disturb)
        return plugin.on_inputs(host, host.make_batch(**tiny_batch(size=50))).present

    reference = drawn()
    assert torch.equal(drawn(disturb=8), reference)
    assert all(not torch.equal(other, reference) for other in (drawn(seed=2), drawn(iteration=3), drawn(rank=1)))


def test_probabilities_can_be_named(tiny_host, tiny_batch):
    host = tiny_host().plug(plugin := ModalityDropout(p={'depth': 1.0}))
    present = plugin.on_inputs(host, host.make_batch(**tiny_batch(size=30, absent=[(3, 'rgb')]))).present
    assert present[:, 0].sum() == 29
    assert present[:, 1].nonzero().flatten().tolist() == [3]  # all that this sample has


def test_a_probability_of_zero_drops_nothing(tiny_host, tiny_batch):
    host = tiny_host().plug(plugin := ModalityDropout(p=0.0))
    assert plugin.on_inputs(host, host.make_batch(**tiny_batch())).present.all()


def test_it_acts_in_training_only(tiny_host, tiny_batch):
    host, plain = tiny_host().plug(ModalityDropout(p=1.0)), tiny_host()
    batch = tiny_batch()
    assert host(**batch, mode='loss')['loss_task'] != plain(**batch, mode='loss')['loss_task']
    host.eval(), plain.eval()
    assert host(**batch, mode='loss')['loss_task'] == plain(**batch, mode='loss')['loss_task']


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'p': 1.5}, r'p must be in \[0, 1\], got 1\.5'),
        ({'p': {'rgb': -0.5}}, r'p must be in \[0, 1\]'),
        ({'mode': 'subset'}, "got 'subset'. Did you mean 'subsets'"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        ModalityDropout(**arguments)


def test_names_must_be_the_hosts(tiny_host):
    with pytest.raises(NameNotFound, match="Did you mean 'depth'"):
        tiny_host().plug(ModalityDropout(p={'depht': 0.5}))
    with pytest.raises(InputError, match='needs at least 2 modalities'):
        tiny_host(('rgb',)).plug(ModalityDropout())
