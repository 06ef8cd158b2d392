"""All that leans on mmengine: runner, loops, data loading, optimisers, checkpoints, the sweep."""

from .cli import command
from .config import check_config, keep_structural, load_config, parse_options, parse_plugin
from .data import Collate, EpochSampler, build_dataloader, build_dataset
from .ema import ModelEMA, WarmupEMA
from .evaluate import build_host, evaluate_checkpoint
from .loops import TrainLoop, ValSweep
from .memory import keep_freed_memory
from .one_cycle import OneCycle, one_cycle
from .optim import BranchOptimWrapper, build_optim_wrapper, parameter_groups
from .runner import Runner, prepare
from .sweep import Sweep, parse_subsets, sweep

__all__ = [
    'BranchOptimWrapper',
    'Collate',
    'EpochSampler',
    'ModelEMA',
    'OneCycle',
    'Runner',
    'Sweep',
    'TrainLoop',
    'ValSweep',
    'WarmupEMA',
    'build_dataloader',
    'build_dataset',
    'build_host',
    'build_optim_wrapper',
    'check_config',
    'command',
    'keep_freed_memory',
    'keep_structural',
    'load_config',
    'one_cycle',
    'parameter_groups',
    'parse_options',
    'parse_plugin',
    'parse_subsets',
    'prepare',
    'sweep',
    'evaluate_checkpoint',
]
