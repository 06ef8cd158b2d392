"""A data set, a plugin and a hook that users could have written; tests name this module in ``custom_imports``."""

import os
import random
import signal

import numpy as np
import torch
from mmengine.hooks import Hook

from plugins import Plugin
from registry import DATASETS, PLUGINS


@DATASETS.register_module()
class ToyScenes(torch.utils.data.Dataset):
    """Class k is a bright block at one of four places; its noise comes from all three random states."""

    modalities = ('rgb', 'depth')

    def __init__(self, length=21, size=(16, 24), bad=None, channels=None):
        self.length, self.size, self.bad = length, size, bad
        self.channels = channels or {'rgb': 3, 'depth': 1}

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        label = index % 4
        noise = {'rgb': torch.randn(3, *self.size), 'depth': torch.from_numpy(np.random.randn(1, *self.size)).float()}
        for m in noise:
            noise[m] = noise[m] * (0.3 + 0.1 * random.random())
            noise[m][:, label // 2 * 8 : label // 2 * 8 + 8, label % 2 * 12 : label % 2 * 12 + 12] += 1
        present = torch.tensor([index % 5 != 3, index % 7 != 2])
        if self.bad == 'infinite' and index == 3:
            noise['rgb'][0, 0, 0], present[0] = torch.nan, True
        if self.bad == 'nothing' and index == 3:
            return {'inputs': noise, 'present': torch.zeros(2, dtype=torch.bool), 'target': torch.tensor(label)}
        return {'inputs': noise, 'present': present | ~present.any(), 'target': torch.tensor(label)}


@PLUGINS.register_module()
class EpochCounter(Plugin):
    """Counts the epochs that began, and keeps a running sum of draws: state that a resumed run must have again."""

    def __init__(self):
        super().__init__()
        self.register_buffer('epochs', torch.zeros((), dtype=torch.long))
        self.register_buffer('drawn', torch.zeros(()))

    def before_train_epoch(self, runner):
        self.epochs += 1

    def on_losses(self, host, batch, outputs, losses):
        noise = torch.rand((), generator=self.generator(host))
        self.drawn += noise
        self.log(noise=noise)
        return {**losses, 'loss_noise': noise * outputs.prediction.square().mean() * 1e-3}


class KillHook(Hook):
    """Dies as a machine does, at one iteration; by itself only the first time."""

    priority = 'LOWEST'

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


from mmengine.registry import HOOKS  # noqa: E402

HOOKS.register_module(module=KillHook)
