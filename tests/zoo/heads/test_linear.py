"""The linear head and its shares."""

import pytest
import torch

from registry import HEADS, InputError
from zoo.heads import LinearHead


def test_shares_by_hand():
    head = LinearHead(3, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
        head.bias.copy_(torch.tensor([2.0, -4.0]))
    x = torch.tensor([[1.0, 10.0, 100.0]])
    assert head.share(x[:, :2], slice(0, 2), 2).tolist() == [[21 + 1, 54 - 2]]
    assert head.share(x[:, 2:], slice(2, 3), 2).tolist() == [[300 + 1, 600 - 2]]
    assert head(x).tolist() == [[323, 650]]


def test_a_class_is_needed():
    with pytest.raises(InputError, match='num_classes must be at least 1, got 0'):
        HEADS.build(dict(type='LinearHead', in_channels=3, num_classes=0))
