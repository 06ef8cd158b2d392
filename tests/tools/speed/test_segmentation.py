"""What the measurements of segmentation count, and that they run; how fast anything is, no test asks."""

import pytest
import torch
import torch.nn.functional as F

from registry import DATASETS
from tools.speed import loading, segmentation
from tools.speed.segmentation import Backward, TrainingStep, batch_of, convolution, multiply_accumulates, saved_bytes
from zoo.datasets import IGNORE

SIZE = (64, 96)


def test_multiply_accumulates_are_those_of_the_formula():
    x, weight = torch.randn(2, 3, 10, 12), torch.randn(5, 3, 3, 3)
    assert multiply_accumulates(lambda: F.conv2d(x, weight, padding=1)) == 2 * 10 * 12 * 5 * 3 * 9


@pytest.mark.parametrize('training', [False, True])
def test_the_yardstick_is_a_convolution_on_a_quarter_of_the_sides(training):
    call = convolution(batch_of(2, 'cpu', SIZE), torch.no_grad, training)
    forward = call.forward if isinstance(call, Backward) else call
    assert forward().shape == (2, 256, 16, 24)
    assert multiply_accumulates(forward) == 2 * 16 * 24 * 256 * 256 * 9


def test_saved_memory_counts_each_storage_once_and_no_parameter():
    x = torch.randn(4, 6)
    weight = torch.randn(5, 6, requires_grad=True)

    def forward():
        y = x @ weight.t()  # keeps x, and the weight if x wanted a gradient
        return (y.sigmoid() * y.view(20).view(4, 5)).sum()  # keeps the sigmoid, for two reasons, and y

    assert saved_bytes(forward, [weight]) == 4 * (4 * 6 + 4 * 5 + 4 * 5)
    x.requires_grad_()
    assert saved_bytes(forward, [weight]) == 4 * (4 * 6 + 4 * 5 + 4 * 5)
    assert saved_bytes(forward) == 4 * (4 * 6 + 4 * 5 + 4 * 5 + 5 * 6)


def test_a_training_step_trains():
    host = segmentation.build_host('esanet/esanet_r34nbt1d_nyuv2.py')
    step = TrainingStep(host, batch_of(2, 'cpu', SIZE))
    before = host.head.classify.weight.detach().clone()
    step()
    assert not torch.equal(before, host.head.classify.weight)


def test_esanet_is_measured_per_multiply_accumulate():
    rows = {r['call']: r for r in segmentation.measure_esanet(repeats=1, size=SIZE)}
    assert list(rows) == [
        'convolution',
        'ESANet R34-NBt1D, evaluation',
        'ESANet R34-NBt1D, only rgb',
        'ESANet R34-NBt1D, only depth',
        'ESANet-MD R50, evaluation',
        'ESANet-MD R50, only rgb',
        'ESANet-MD R50, only depth',
        'convolution, forward and backward',
        'ESANet R34-NBt1D, training step',
        'ESANet-MD R50, training step',
    ]
    for name in segmentation.NETWORKS:
        whole, rgb, step = (rows[f'{name}, {what}'] for what in ('evaluation', 'only rgb', 'training step'))
        assert whole['ms / GMAC'] == pytest.approx(whole['ms'] / whole['GMAC'])
        assert 0.5 < rgb['GMAC'] / whole['GMAC'] < 0.9  # one encoder of two, and the whole decoder
        assert 6 <= step['GMAC'] / whole['GMAC'] < 6.1  # two images, three passes, side outputs
        assert step['saved for backward, MB'] > 1
    assert rows['convolution']['ratio'] == rows['convolution, forward and backward']['ratio'] == 1


def test_the_sweep_of_segmentation_is_measured_with_its_parts():
    rows = {r['evaluation']: r for r in segmentation.measure_sweep(repeats=1, size=(96, 128))}
    assert list(rows)[:2] == ['complete set', '3 subsets']
    assert 1 < rows['3 subsets, multiply-accumulates']['ratio'] < 1.3


def test_synthetic_scenes_are_read_as_nyuv2(tmp_path):
    loading.write_samples(tmp_path, 2, SIZE)
    data = DATASETS.build({'type': 'NYUv2', 'root': str(tmp_path), 'split': 'train', 'size': SIZE, 'augment': False})
    sample = data[1]
    assert sample['inputs']['rgb'].shape == (3, *SIZE)
    assert 500 <= sample['inputs']['depth'].min() < sample['inputs']['depth'].max() <= 10000
    assert 5 < len(sample['target'].unique()) <= 41
    assert set(sample['target'].unique().tolist()) <= {*range(40), IGNORE}


def test_clouds_are_smooth_and_of_unit_variance():
    x = loading.clouds(200, (48, 80), torch.Generator().manual_seed(0))
    assert x.shape == (200, 48, 80)
    assert abs(x.mean()) < 0.1
    assert 0.3 < x.var() < 1.2  # less between the points of a grid
    assert (x[:, 1:] - x[:, :-1]).var() < 0.1 * x.var()


def test_waiting_is_a_share_of_the_loop():
    rows = loading.measure(size=SIZE)
    assert [r['workers'] for r in rows] == [0, 2]
    for row in rows:
        assert 0 < float(row['waiting'].rstrip('%')) < 100
        assert row['step, ms / sample'] > 0
