import pytest
import torch

from registry import NameNotFound
from zoo.blocks import EMILA, ERLA


def size(module):
    return sum(p.numel() for p in module.parameters())


def test_the_blocks_have_the_size_that_the_formulas_say():
    # C_i C_o / g + 34 C_i + C_o (C_o + 2 C_i) / f + 2 C_o, + 2 C_o^2 / r + C_o / r + C_o + 1, + C_i C_o + 2 C_o
    assert size(EMILA(64)) == 15_057
    assert size(ERLA(64)) == 34_466
    assert size(ERLA(64, 128, stride=2)) == 116_674


@pytest.mark.parametrize('form', ['official', 'paper'])
@pytest.mark.parametrize(('channels', 'stride'), [((24, 24), 1), ((24, 40), 2)])
def test_odd_sizes_train_every_parameter(channels, stride, form):
    torch.manual_seed(0)
    block = ERLA(*channels, stride=stride, form=form)
    y = block(torch.randn(4, channels[0], 7, 5))
    assert y.shape == (4, channels[1], -(-7 // stride), -(-5 // stride))
    y.square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in block.parameters())
    assert block.eval()(torch.randn(1, channels[0], 7, 5)).isfinite().all()


def test_the_official_form_composed_by_hand():
    block = EMILA(24, 40, stride=2).eval()
    x = torch.randn(2, 24, 7, 5)
    y = block.norm(block.msgdc.fuse(block.msgdc.scales(x)))
    torch.testing.assert_close(block(x), (block.skip(x) + block.attention(y)).relu())


def test_the_form_of_the_paper_composed_by_hand():
    block = EMILA(24, form='paper').eval()
    x = torch.randn(2, 24, 7, 5)
    torch.testing.assert_close(block(x), x + block.msgdc.fuse(block.attention(block.msgdc.scales(x))))
    assert block.attention.squeeze.in_features == 3 * 24


def test_the_projection_may_depend_on_the_shapes():
    assert size(EMILA(64)) - size(EMILA(64, proj='auto')) == 64 * 64 + 2 * 64
    assert size(EMILA(64, 32)) == size(EMILA(64, 32, proj='auto'))


def test_what_can_not_be_built_is_told():
    with pytest.raises(NameNotFound, match=r"form of EMILA named 'code'.*official, paper"):
        EMILA(8, form='code')
    with pytest.raises(NameNotFound, match=r"named 'never'.*always, auto"):
        ERLA(8, proj='never')
