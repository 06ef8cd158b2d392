"""The context module of ESANet."""

import pytest
import torch
import torch.nn.functional as F

from registry import NECKS, InputError, NameNotFound
from zoo.necks import PyramidContext

WIDTHS, REDUCTIONS = [4, 6, 8, 12, 16], [2, 4, 8, 16, 32]


def build(kind='ppm', **arguments):
    cfg = {'type': 'PyramidContext', 'kind': kind, **arguments}
    return NECKS.build(cfg, in_channels=WIDTHS, reductions=REDUCTIONS)


def pyramid(size=(64, 96), batch=2):
    return [torch.randn(batch, c, size[0] // r, size[1] // r) for c, r in zip(WIDTHS, REDUCTIONS)]


@pytest.mark.parametrize('kind', ['ppm', 'ppm-1-2-4-8', 'appm', 'appm-1-2-4-8'])
@pytest.mark.parametrize(('channels', 'published'), [(512, 788_480), (2048, 6_296_576)])
def test_the_published_parameters_are_there_to_the_unit(channels, published, kind):
    neck = PyramidContext([64, channels], [2, 32], kind, train_size=(480, 640))
    assert sum(p.numel() for p in neck.parameters()) == published


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('kind', ['ppm', 'appm-1-2-4-8', 'ppm-1-3-6', 'ppm-3'])
@pytest.mark.parametrize('size', [(64, 96), (32, 160), (512, 320)])
def test_only_the_coarsest_map_is_replaced(kind, size, training):
    neck = build(kind, width=20, train_size=(64, 96)).train(training)
    maps = pyramid(size)
    found = neck(maps)
    assert neck.out_channels == [4, 6, 8, 12, 20]
    assert neck.reductions == REDUCTIONS
    assert all(a is b for a, b in zip(found[:-1], maps))
    assert found[-1].shape == (2, 20, size[0] // 32, size[1] // 32)
    found[-1].sum().backward()
    assert not [n for n, p in neck.named_parameters() if p.grad is None]


@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
def test_values_are_those_of_the_formula(mode):
    neck = build('ppm-1-2', width=10, upsampling=mode).train()
    x = torch.randn(3, 16, 4, 6)

    def layer(block, x):
        y = F.batch_norm(F.conv2d(x, block[0].weight), None, None, training=True)
        return torch.relu(y)

    pooled = [x.mean((2, 3), keepdim=True), x.view(3, 16, 2, 2, 2, 3).mean((3, 5))]
    parts = [layer(b, p) for b, p in zip(neck.branches, pooled)]
    parts[0] = parts[0].expand(-1, -1, 4, 6)
    if mode == 'nearest':
        parts[1] = parts[1].repeat_interleave(2, 2).repeat_interleave(3, 3)
    else:
        parts[1] = F.interpolate(parts[1], (4, 6), mode='bilinear', align_corners=False)
    expected = layer(neck.mix, torch.cat([x, *parts], 1))
    torch.testing.assert_close(neck([x])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('size', 'factors'),
    [
        ((480, 640), (1, 1)),
        ((960, 1280), (2, 2)),
        ((704, 1280), (1, 2)),  # 22 / 15 is below one and a half
        ((736, 640), (2, 1)),  # 23 / 15 is above
        ((224, 320), (1, 1)),  # below half the training size, where the official factor is 0
        ((32, 32), (1, 1)),
    ],
)
def test_adaptive_grids_keep_the_size_of_their_cells(size, factors):
    neck = PyramidContext([8], [32], 'appm', train_size=(480, 640)).eval()
    h, w = factors
    small = (size[0] // 32, size[1] // 32)
    assert neck.grids(small) == [(h, w), (5 * h, 5 * w)]
    assert neck([torch.randn(1, 8, *small)])[0].shape == (1, 512, *small)
    assert PyramidContext([8], [32]).grids(small) == [(1, 1), (5, 5)]


def test_one_number_is_a_square_training_size():
    assert PyramidContext([8], [32], 'appm', train_size=96).grids((6, 9)) == [(2, 3), (10, 15)]


def test_a_batch_of_one_trains_with_running_statistics_where_one_value_is_left():
    neck = build('ppm').train()
    alone, other = neck.branches[0][1], neck.branches[1][1]
    found = neck(pyramid(batch=1))[-1]
    assert found.isfinite().all()
    found.square().sum().backward()
    assert not [n for n, p in neck.named_parameters() if p.grad is None]
    assert not alone.running_mean.any()
    assert other.running_mean.any()
    assert all(m.training for m in neck.modules())
    neck(pyramid(batch=2))
    assert alone.running_mean.any()


def test_he_initialisation_is_that_of_fan_out():
    torch.manual_seed(0)
    neck = PyramidContext([512], [32], he_init=True)
    assert neck.mix[0].weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.01)


@pytest.mark.parametrize('kind', ['pmp', 'ppm-', 'ppm-0', 'ppm-1-x', 'aappm', 'PPM'])
def test_another_kind_is_answered_with_those_there_are(kind):
    with pytest.raises(NameNotFound, match=r'No kind of PyramidContext named .*ppm-1-2-4-8'):
        PyramidContext([8], [32], kind)


def test_bad_arguments_are_refused():
    with pytest.raises(NameNotFound, match=r"No upsampling of PyramidContext named 'nearst'.*'nearest'"):
        PyramidContext([8], [32], upsampling='nearst')
    for size in (None, (15, 20), (480,), 31):
        with pytest.raises(InputError, match='appm of PyramidContext needs train_size'):
            PyramidContext([8], [32], 'appm', train_size=size)
    with pytest.raises(InputError, match=r'ppm-1-2-4-8 of PyramidContext needs a channel for each grid.* has 3'):
        PyramidContext([3], [32], 'ppm-1-2-4-8')
