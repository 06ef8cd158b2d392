"""torch's losses with what a config can hold."""

import pytest
import torch
from torch import nn

from registry import LOSSES, InputError

LOGITS = torch.tensor([[1.0, -1.0, 0.5], [0.0, 2.0, -0.5]])


@pytest.mark.parametrize('reduction', ['mean', 'none'])
def test_class_weights_may_be_a_list(reduction):
    ours = LOSSES.build(dict(type='CrossEntropyLoss', weight=[1, 2, 4], ignore_index=1, reduction=reduction))
    theirs = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 4.0]), ignore_index=1, reduction=reduction)
    for target in (torch.tensor([2, 0]), torch.tensor([1, 2])):
        assert torch.equal(ours(LOGITS, target), theirs(LOGITS, target))


def test_binary_weights_may_be_lists():
    ours = LOSSES.build(dict(type='BCEWithLogitsLoss', weight=[1, 0, 2], pos_weight=[3, 1, 1]))
    theirs = nn.BCEWithLogitsLoss(torch.tensor([1.0, 0.0, 2.0]), pos_weight=torch.tensor([3.0, 1.0, 1.0]))
    target = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    assert torch.equal(ours(LOGITS, target), theirs(LOGITS, target))


@pytest.mark.parametrize('name', ['CrossEntropyLoss', 'BCEWithLogitsLoss', 'MSELoss'])
def test_a_misspelt_argument_is_refused(name):
    with pytest.raises(InputError, match=rf"loss {name} has no argument 'reducton'\. Did you mean 'reduction'"):
        LOSSES.build(dict(type=name, reducton='none'))
