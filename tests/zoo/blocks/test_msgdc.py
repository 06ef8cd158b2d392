import pytest
import torch

from registry import InputError, NameNotFound
from zoo.blocks import MSGDC


@pytest.mark.parametrize(('out_channels', 'stride', 'fuse'), [(24, 1, 'concat'), (40, 2, 'concat'), (40, 2, 'add')])
def test_odd_sizes_and_widths_that_no_group_divides_train_every_weight(out_channels, stride, fuse):
    block = MSGDC(24, out_channels, stride, fuse=fuse)
    y = block(torch.randn(2, 24, 7, 5))
    assert y.shape == (2, out_channels, -(-7 // stride), -(-5 // stride))
    y.square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in block.parameters())
    assert block.pointwise.groups == 8  # gcd(16, 24, 40)


def test_the_branches_stand_where_others_look_for_them():
    block = MSGDC(32, kernel_sizes=(3, 5, 7), branch_norm=True)
    assert [c.kernel_size[0] for c in block.depthwise] == [3, 5, 7]
    assert all(c.groups == 32 for c in block.depthwise)
    assert [type(n).__name__ for n in block.norms] == ['BatchNorm2d'] * 4
    assert block.fuse.in_channels == 4 * 32
    assert not any(isinstance(n, torch.nn.BatchNorm2d) for n in MSGDC(32).norms)


def test_the_concatenation_is_shuffled_before_it_is_mixed_or_not():
    torch.manual_seed(0)
    shuffled, plain = MSGDC(32), MSGDC(32, shuffle=False)
    plain.load_state_dict(shuffled.state_dict())
    x = torch.randn(2, 32, 7, 5)
    rows = plain.scales(x)  # (2, 96, 7, 5)
    assert torch.equal(shuffled.scales(x), rows.view(2, 16, 6, 7, 5).transpose(1, 2).flatten(1, 2))
    assert torch.equal(torch.channel_shuffle(shuffled.scales(x), 6), rows)
    assert not torch.allclose(shuffled(x), plain(x))


def test_what_can_not_be_built_is_told():
    with pytest.raises(NameNotFound, match=r"way to fuse branches named 'sum'.*add, concat"):
        MSGDC(8, fuse='sum')
    with pytest.raises(InputError, match=r'at least 1.*in_channels=0'):
        MSGDC(0)
    for sizes in ((), (3, 4)):
        with pytest.raises(InputError, match='kernel_sizes that are odd, one at least'):
            MSGDC(8, kernel_sizes=sizes)
