import pytest
import torch

from registry import ENCODERS
from zoo.encoders.erla_encoder import AlwaysDropout
from zoo.hosts import ESANet


@pytest.mark.parametrize(
    ('cfg', 'widths', 'reductions'),
    [
        (dict(type='ERLAEncoder', depths=(2, 1), widths=(16, 24)), [16, 24], [4, 8]),
        (dict(type='ERLAPyramid', model='test_resnet', out_indices=(1, 2)), [32, 48], [4, 8]),
        (dict(type='ERLAPyramid', model='test_vit', block=dict(form='paper')), [64, 64, 64], [16, 16, 16]),
    ],
    ids=lambda x: x.get('model', x['type']) if isinstance(x, dict) else '',
)
def test_the_maps_and_what_the_chain_of_steps_gives(cfg, widths, reductions):
    encoder = ENCODERS.build(dict(**cfg, in_chans=2)).eval()
    assert (encoder.out_channels, encoder.reductions) == (widths, reductions)
    x = torch.randn(2, 2, 64, 96)
    maps = encoder(x)
    assert [tuple(y.shape) for y in maps] == [(2, c, 64 // r, 96 // r) for c, r in zip(widths, reductions)]
    if 'vit' in str(cfg):
        assert encoder.steps is None
        return
    for step, expected in zip(encoder.steps, maps, strict=True):
        x = step(x)
        assert torch.equal(x, expected)
    assert [s.training for s in encoder.train().steps] == [True] * 2


def test_elements_are_dropped_behind_the_first_block_of_every_stage_but_the_first():
    encoder = ENCODERS.build(dict(type='ERLAEncoder', depths=(2, 2, 1), widths=(8, 8, 8), mc_dropout=True))
    places = [[i for i, m in enumerate(layer) if isinstance(m, AlwaysDropout)] for layer in
              (encoder.layer1, encoder.layer2, encoder.layer3)]  # fmt: skip
    assert places == [[], [1], [1]]
    plain = ENCODERS.build(dict(type='ERLAEncoder', depths=(1, 1), widths=(8, 8), dropout=0))
    assert not [m for m in plain.modules() if isinstance(m, torch.nn.Dropout)]


def test_other_hosts_that_fuse_between_stages_take_it():
    host = ESANet(
        ('rgb', 'depth'), 3, encoder=dict(type='ERLAEncoder', depths=(1, 1, 1, 1), widths=(8, 8, 16, 16)),
        neck=None, head='FCN8s',
    )  # fmt: skip
    assert host({m: torch.randn(2, 3, 32, 64) for m in host.modalities}).shape == (2, 3, 32, 64)
