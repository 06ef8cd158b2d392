"""The moving average against its formula, and when it is updated."""

import math

import pytest
import torch
from torch import nn

import zoo
from registry import InputError
from zoo.engine import ModelEMA, WarmupEMA, build_optim_wrapper


def test_weights_follow_the_schedule():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model.register_buffer('wide', torch.zeros(2, dtype=torch.float64))
    average = WarmupEMA(model, momentum=0.01, gamma=5)
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    for step in range(1, 5):
        model.wide += step
        model(torch.randn(8, 3)).sum().backward()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        average.update_parameters(model)
        weight = 0.01 + 0.99 * math.exp(-step / 5)
        for k, v in model.state_dict().items():
            expected[k] = (1 - weight) * expected[k] + weight * v if v.is_floating_point() else v
    found = average.module.state_dict()
    assert found.keys() == expected.keys()
    for k, v in expected.items():
        torch.testing.assert_close(found[k], v.to(found[k].dtype), msg=k)
    assert found['1.num_batches_tracked'] == 4
    assert found['wide'].dtype == torch.float64


class FakeRunner:
    """What the hook asks a runner for."""

    def __init__(self, accumulate):
        self.model = zoo.create_host('late_fusion', modalities=['a', 'b'], num_classes=3, encoder='test_resnet')
        config = {'optimizer': {'type': 'SGD', 'lr': 0.1}, 'accumulative_counts': accumulate}
        self.optim_wrapper = build_optim_wrapper(self.model, config)
        self.optim_wrapper.initialize_count_status(self.model, 0, 100)
        self.iter = 0

    def train(self, hook):
        inputs = {m: torch.randn(2, 3, 32, 48) for m in 'ab'}
        losses = self.model(inputs, target=torch.tensor([0, 1]), mode='loss')
        self.optim_wrapper.update_params(sum(losses.values()))
        hook.after_train_iter(self, self.iter)
        self.iter += 1


@pytest.mark.parametrize(('accumulate', 'updates'), [(1, 6), (3, 2)])
def test_it_counts_steps_of_the_optimiser(accumulate, updates):
    runner, hook = FakeRunner(accumulate), ModelEMA()
    hook.before_run(runner)
    for _ in range(6):
        runner.train(hook)
    assert hook.ema_model.steps == updates


@pytest.mark.parametrize(
    ('arguments', 'message'), [({'momentum': 1.0}, 'momentum of ModelEMA'), ({'gamma': 0}, 'gamma')]
)
def test_values_out_of_range(arguments, message):
    with pytest.raises(InputError, match=message):
        ModelEMA(**arguments)
