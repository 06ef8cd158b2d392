"""Sums of losses."""

import pytest
import torch
import torch.nn.functional as F

from registry import LOSSES, InputError, NameNotFound

LOGITS = torch.tensor([[1.0, -1.0, 0.5], [0.0, 2.0, -0.5]])
TARGET = torch.tensor([2, 0])


def test_it_is_the_weighted_sum_of_its_parts():
    losses = ['CrossEntropyLoss', dict(type='CrossEntropyLoss', weight=[1, 2, 4])]
    loss = LOSSES.build(dict(type='WeightedSum', losses=losses, weights=[1, 0.5]))
    expected = F.cross_entropy(LOGITS, TARGET) + 0.5 * F.cross_entropy(LOGITS, TARGET, torch.tensor([1.0, 2.0, 4.0]))
    torch.testing.assert_close(loss(LOGITS, TARGET), expected)
    plain = LOSSES.build(dict(type='WeightedSum', losses=losses[:1]))
    assert plain(LOGITS, TARGET) == F.cross_entropy(LOGITS, TARGET)


def test_its_parts_are_modules_and_keep_their_weights():
    part = dict(type='CrossEntropyLoss', weight=[1, 2, 4])
    loss = LOSSES.build(dict(type='WeightedSum', losses=[part, dict(type='WeightedSum', losses=[part])]))
    assert loss.state_dict().keys() == {'losses.0.weight', 'losses.1.losses.0.weight'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(losses=[]), r'list of one or more losses, got \[\]'),
        (dict(losses='MSELoss'), "list of one or more losses, got 'MSELoss'"),
        (dict(losses=['MSELoss'], weights=[1, 2]), r'are 1 numbers, one for each loss, got \[1, 2\]'),
        (dict(losses=['MSELoss'], weights=['a']), 'one for each loss'),
        (dict(losses=['MSELoss'], weights=[float('nan')]), 'one for each loss'),
        (dict(losses=['MSELoss'], weights=2), 'one for each loss, got 2'),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        LOSSES.build(dict(type='WeightedSum', **arguments))


def test_an_unknown_part():
    with pytest.raises(NameNotFound, match=r"'CrossEntropyLos'\. Did you mean 'CrossEntropyLoss'"):
        LOSSES.build(dict(type='WeightedSum', losses=['CrossEntropyLos']))
