"""The decoder of ESANet: parameter counts, sizes, its order of operations, other pyramids."""

import pytest
import torch
from torch import nn

from registry import HEADS, InputError, NameNotFound
from zoo.heads import ESANetDecoder
from zoo.heads.upsampling import LearnedUpsampling

R34 = ([64, 64, 128, 256, 512], [2, 4, 8, 16, 32])
R50 = ([64, 256, 512, 1024, 512], [2, 4, 8, 16, 32])  # with its context


def numbers(module):
    return sum(p.numel() for p in module.parameters())


def build(in_channels=(4, 6, 8, 12), reductions=(4, 8, 16, 32), classes=5, **arguments):
    cfg = {'type': 'ESANetDecoder', 'widths': (10, 8, 6), 'blocks': 1, **arguments}
    return HEADS.build(cfg, in_channels=list(in_channels), reductions=list(reductions), num_classes=classes)


def pyramid(widths, reductions, size=(64, 96), batch=2):
    return [torch.randn(batch, c, size[0] // r, size[1] // r) for c, r in zip(widths, reductions)]


@pytest.mark.parametrize(
    ('encoder', 'skips'), [(R34, [132_096, 33_280, 8_448]), (R50, [525_312, 131_584, 33_024])], ids=['R34', 'R50']
)
def test_the_published_parameters_are_there_to_the_unit(encoder, skips):
    head = ESANetDecoder(*encoder, num_classes=40)
    stages = [numbers(stage) + numbers(side) for stage, side in zip(head.stages, head.sides)]
    assert stages == [11_835_432, 3_558_440, 894_504]
    assert numbers(head.classify) == 46_120
    assert [numbers(up) for up in head.ups] == [400, 400]
    assert numbers(head.sides) == sum(p.numel() for p in head.training_only()) == 35_960
    assert [numbers(skip) for skip in head.skips] == skips
    assert numbers(head) - sum(skips) == 16_335_296
    assert numbers(head) - numbers(ESANetDecoder(*encoder, num_classes=39)) == 2_072


def test_it_predicts_at_four_sizes_in_training_and_at_one_in_testing():
    head = build()
    maps = pyramid((4, 6, 8, 12), (4, 8, 16, 32))
    logits, sides = head(maps)
    assert logits.shape == (2, 5, 64, 96)
    assert [tuple(s.shape) for s in sides] == [(2, 5, 64 // r, 96 // r) for r in (8, 16, 32)]
    assert head.eval()(maps).shape == (2, 5, 64, 96)
    head.train()
    (logits.mean() + sum(s.mean() for s in sides)).backward()
    assert not [n for n, p in head.named_parameters() if p.grad is None]


@pytest.mark.parametrize('upsampling', ['learned-3x3-zeropad', 'learned-3x3', 'nearest', 'bilinear'])
def test_the_order_of_operations_is_that_of_the_paper(upsampling):
    """Written out, with a stage of the width of its map, which is added as it is."""
    head = build((4, 6, 8, 12), widths=(8, 5, 7), upsampling=upsampling).train()
    assert isinstance(head.skips[0], nn.Identity)
    maps = pyramid((4, 6, 8, 12), (4, 8, 16, 32))
    before = [m.clone() for m in maps]
    logits, sides = head(maps)
    x, expected = maps[3], []
    for stage, side, skip, finer in zip(head.stages, head.sides, head.skips, maps[2::-1]):
        x = stage['body'](x)
        expected.insert(0, side(x))
        x = stage['up'](x) + skip(finer)
    x = head.ups[1](head.ups[0](head.classify(x)))
    torch.testing.assert_close((logits, *sides), (x, *expected))
    assert all(torch.equal(a, b) for a, b in zip(maps, before))


def test_maps_finer_than_its_stages_reach_are_left_out():
    head = build((3, 4, 6, 8, 12), (2, 4, 8, 16, 32)).eval()
    other = build().eval()
    other.load_state_dict(head.state_dict())
    maps = pyramid((3, 4, 6, 8, 12), (2, 4, 8, 16, 32))
    assert torch.equal(head(maps), other(maps[1:]))


@pytest.mark.parametrize(
    ('reductions', 'widths', 'skips'),
    [
        ((4, 8, 16, 32), (10, 8, 6), 3),
        ((8, 16, 32), (10, 8, 6), 2),
        ((8,), (10, 8, 6), 0),  # one map; it reaches the input without upsampling logits
        ((2, 4, 8), (10, 8), 2),
        ((1, 2, 4, 8), (10, 8, 6), 3),
        ((16, 32, 64), (10,), 1),
        ((4, 4, 8, 16), (10,), 1),  # what it does not use need not halve
    ],
)
def test_any_pyramid_that_halves_is_decoded_to_the_size_of_the_input(reductions, widths, skips):
    channels = range(4, 4 + len(reductions))
    head = build(channels, reductions, widths=widths)
    maps = pyramid(channels, reductions, (64, 128))
    logits, sides = head(maps)
    assert len(head.skips) == skips
    assert logits.shape == (2, 5, 64, 128)
    assert [s.shape[2] for s in sides] == [64 * 2**i // reductions[-1] for i in range(len(widths))][::-1]


def test_each_stage_can_have_blocks_of_its_own():
    head = build(blocks=(2, 0, 1))
    assert [len(stage['body']) - 1 for stage in head.stages] == [2, 0, 1]


def test_he_initialisation_leaves_what_predicts_and_what_upsamples():
    torch.manual_seed(0)
    head = build((4, 256), (16, 32), 3, widths=(128,), he_init=True)
    body = head.stages[0]['body']
    assert body[0][0].weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert not body[1].conv3x1_1.bias.any()
    assert head.sides[0].weight.abs().max() <= 128**-0.5  # torch's own: uniform within this
    assert head.classify.bias.any()
    ups = [m for m in head.modules() if isinstance(m, LearnedUpsampling)]
    assert len(ups) == 5
    assert all(m.weight.max() == 0.25 for m in ups)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'reductions': (4, 8, 32, 64)}, r'maps that halve step by step.*got \[4, 8, 32, 64\]'),
        ({'reductions': (4, 8, 16, 16)}, r'maps that halve step by step.*got \[4, 8, 16, 16\]'),
        ({'reductions': (7, 14, 28, 56)}, 'must be a power of two and at least 8'),
        ({'reductions': (1, 2, 4, 4)}, '1/4 .*must be a power of two and at least 8'),
        ({'reductions': (4, 8, 16)}, 'a width and a reduction for each map'),
        ({'classes': 0}, 'num_classes must be at least 1, got 0'),
        ({'blocks': (1, 2)}, r'a number of blocks for each.* \[1, 2\]'),
        ({'blocks': -1}, 'a number of blocks for each'),
    ],
)
def test_what_is_no_pyramid_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build(**arguments)


def test_another_upsampling_is_answered_with_the_nearest():
    with pytest.raises(NameNotFound, match=r"No upsampling named 'bilinar'.*'bilinear'"):
        build(upsampling='bilinar')
