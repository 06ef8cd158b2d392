"""The runner: mmengine's, with plugins, exact resuming, and checkpoints that are safe to load."""

import json
import logging
import multiprocessing
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmengine
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import ReduceOnPlateauParamScheduler
from mmengine.runner import BaseLoop, set_random_seed
from mmengine.runner import Runner as BaseRunner
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.utils.data import DataLoader

from registry import LOOPS, PARAM_SCHEDULERS, InputError
from zoo.host import MultimodalHost

from . import checkpoint as ckpt
from .config import check_config, plain_config, what_changed
from .data import build_dataloader
from .devices import pick_device, start_processes, under_torchrun
from .evaluate import build_host, check_dataset, check_metric, evaluate, make_writable
from .hooks import CheckpointHook, DeferredInfoHook, ProgressHook, check_hooks
from .optim import BranchOptimWrapper, build_optim_wrapper
from .sweep import Sweep

_NOISE = ('Hooks will be executed', 'Exp name')


class Runner(BaseRunner):
    """Trains a host with plugins and sweeps its modalities, from a config.

    Everything that can be wrong in a config (names, arguments, data) is found before anything is written.

    Args:
        cfg: As `zoo.engine.load_config` returns it.
        work_dir: Where everything is written; that of the config when None.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``; the best there is when None.
        trust: Unpickle anything from checkpoints.

    Raises:
        InputError: Anything in the config that can not work.
        NameNotFound: An unknown host, plugin, data set or part.
    """

    def __init__(
        self, cfg: Config, work_dir: str | Path | None = None, device: str | None = None, trust: bool = False
    ) -> None:
        check_config(cfg)
        self.target_device = pick_device(device)
        self.trust = trust
        self.state: dict[str, Any] = {}  # of hooks: plain values, saved with the checkpoints
        launcher = 'pytorch' if under_torchrun() else 'none'
        if launcher == 'pytorch':
            start_processes(self.target_device)
        rank, world = (dist.get_rank(), dist.get_world_size()) if launcher == 'pytorch' else (0, 1)
        randomness = {'seed': 0, **cfg.get('randomness', {})}
        set_random_seed(randomness['seed'])
        host = build_host(cfg).to(self.target_device)
        loaders = self._build_loaders(cfg, host, randomness['seed'], rank, world)
        if 'train' in loaders:
            prepare(host, loaders['train'].dataset.dataset)  # before DDP, which keeps the buffers that it finds
        self.test_loader = loaders.pop('test', None)
        loops = {}
        if 'train' in loaders:
            loops['train_cfg'] = _build_loop('TrainLoop', cfg.train_cfg, runner=self, dataloader=loaders['train'])
        if 'val' in loaders:
            arguments = {'dataloader': loaders['val'], 'evaluator': cfg.val_evaluator}
            loops['val_cfg'] = _build_loop('ValSweep', cfg.get('val_cfg'), runner=self, **arguments)
            loops['val_evaluator'] = cfg.val_evaluator
        optim_wrapper = build_optim_wrapper(host, cfg.optim_wrapper) if 'train' in loaders else None
        folder = Path(work_dir or cfg.get('work_dir') or Path('work_dirs') / Path(cfg.filename or 'run').stem)
        make_writable(folder)
        super().__init__(
            model=host,
            work_dir=str(folder),
            **{f'{stage}_dataloader': loader for stage, loader in loaders.items()},
            **loops,
            optim_wrapper=optim_wrapper,
            param_scheduler=cfg.get('param_scheduler') if optim_wrapper else None,
            default_hooks=cfg.get('default_hooks'),
            custom_hooks=cfg.get('custom_hooks'),
            launcher=launcher,
            env_cfg=cfg.get('env_cfg', {'mp_cfg': {'mp_start_method': multiprocessing.get_start_method()}}),
            log_processor={'type': 'QuietLogProcessor', **cfg.get('log_processor', {})},
            log_level=cfg.get('log_level', 'INFO'),
            visualizer=cfg.get('visualizer'),
            default_scope='zoo',
            randomness=randomness,
            experiment_name=cfg.get('experiment_name') or f'{folder.name}_{time.time_ns()}',
            cfg=cfg,
        )
        if self.param_schedulers:
            self.param_schedulers = self._build_schedulers(self.param_schedulers)
        set_random_seed(randomness['seed'] + rank)  # equal weights on all ranks, from here on different draws
        self.host.clock.seed, self.host.clock.rank = self.seed, self.rank

    def _build_loaders(
        self, cfg: Config, host: MultimodalHost, seed: int, rank: int, world: int
    ) -> dict[str, DataLoader]:
        """The loaders, and a look at what else the config names."""
        loaders = {}
        for stage in ('train', 'val', 'test'):
            if loader := cfg.get(f'{stage}_dataloader'):
                cuda = self.target_device.type == 'cuda'
                loaders[stage] = build_dataloader(
                    loader, stage == 'train', seed, rank, world, cuda, getattr(host, 'num_classes', None)
                )
                check_dataset(host, loaders[stage].dataset.dataset, f'{stage}_dataloader')
                if stage != 'train':
                    check_metric(host, cfg[f'{stage}_evaluator'], f'{stage}_evaluator')
        if 'train' in loaders and 'val' in loaders:
            check_disjoint(*(loaders[stage].dataset.dataset for stage in ('train', 'val')))
        check_hooks(cfg)
        schedulers = cfg.get('param_scheduler') or []
        for scheduler in [schedulers] if isinstance(schedulers, Mapping) else schedulers:
            PARAM_SCHEDULERS.find(scheduler.get('type', ''))
        return loaders

    @property
    def seed(self) -> int:
        """The run's seed, equal on all ranks."""
        return self._randomness_cfg['seed']

    @property
    def host(self) -> MultimodalHost:
        """The host without its wrapper."""
        return self.model.module if hasattr(self.model, 'module') else self.model

    @property
    def max_iters(self) -> int:
        """Iterations of the whole training."""
        return self._train_loop.max_iters

    # ---- building

    def build_model(self, model: MultimodalHost) -> MultimodalHost:
        """The host that was built already, its encoders compiled where the config says so."""
        if self.cfg.get('compile_encoders'):
            modules, limits = list(model.compilable()), torch._dynamo.config
            # graphs of all modules of a class count together, also where these differ; what is over runs uncompiled
            limits.recompile_limit = max(limits.recompile_limit, 8 * len(modules))
            for module in modules:
                module.compile(dynamic=True)  # in place: the keys of the state dict stay
        return model

    def wrap_model(self, model_wrapper_cfg: Mapping | None, model: MultimodalHost) -> nn.Module:
        """To the device, and for several processes into DDP."""
        model = model.to(self.target_device)
        if not self.distributed:
            return model
        if owner := next((p.name for p in model.plugins.values() if p.owns_step), None):
            raise InputError(f'{owner} runs a training step of its own, which works in one process only.')
        if self.cfg.get('sync_bn') and self.target_device.type == 'cuda':
            model = convert_sync_batchnorm(model)  # torch's own would drop the activation in timm's norm layers
        idle = any(p.idle_parameters for p in model.plugins.values())
        # buffers are broadcast: only rank 0's are saved, and a resumed run must equal the uninterrupted one.
        # device_ids=None: DDP would move `present` to the GPU
        return MMDistributedDataParallel(
            model,
            device_ids=None,
            broadcast_buffers=True,
            find_unused_parameters=self.cfg.get('find_unused_parameters', idle),
        )

    def build_optim_wrapper(self, optim_wrapper: BranchOptimWrapper) -> BranchOptimWrapper:
        """Built already."""
        return optim_wrapper

    def _build_schedulers(self, configs: Any) -> list:
        try:
            return self.build_param_scheduler(configs)
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            raise InputError(f'param_scheduler can not be built: {error}') from None

    def _init_model_weights(self) -> None:
        """Nothing: the host initialised itself, and DDP has sent rank 0's weights to the others."""

    def register_default_hooks(self, hooks: Mapping[str, Any] | None = None) -> None:
        """Ours where mmengine's would wait for the device or lose state, then the plugins."""
        hooks = {k: dict(v) if isinstance(v, Mapping) else v for k, v in (hooks or {}).items()}
        logger = {'interval': 10, **(hooks.get('logger') or {})}
        default = {
            'runtime_info': DeferredInfoHook(logger['interval']),
            'timer': {'type': 'IterTimerHook'},
            'logger': {'type': 'LoggerHook', **logger},
            'param_scheduler': {'type': 'ParamSchedulerHook'},
            'checkpoint': CheckpointHook(**(hooks.get('checkpoint') or {})),
            'progress': ProgressHook(),
        }
        given = {k: v for k, v in hooks.items() if k not in ('logger', 'checkpoint') or v is None}
        for hook in {**default, **given}.values():
            if hook is not None:
                self.register_hook(hook)
        for plugin in self.host.plugins.values():
            self.register_hook(plugin)

    def build_logger(self, log_level: str = 'INFO', log_file: str | None = None, **kwargs: Any) -> Any:
        """mmengine's logger: everything to the file, to a terminal only warnings (it shows a progress bar)."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda record: not str(record.msg).startswith(_NOISE))
                if getattr(handler.stream, 'isatty', lambda: False)():
                    handler.setLevel(logging.WARNING)
        return logger

    def get_hooks_info(self) -> str:
        """One line."""
        return ', '.join(type(h).__name__ for h in self.hooks)

    def _log_env(self, env_cfg: Mapping[str, Any]) -> None:
        device = self.target_device
        name = torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.processor() or 'CPU'
        self.logger.info(
            f'torch {torch.__version__}, mmengine {mmengine.__version__}, {name}, {self.world_size} process(es)'
        )

    # ---- running

    def train_and_test(self, test: bool = True) -> Sweep | None:
        """Train, then sweep the best checkpoint (by the validation data) on the test data; returns the sweep."""
        if not hasattr(self, '_resumed') and self.rank == 0:
            ckpt.set_aside(Path(self.work_dir))
        self.train()
        if not test or self.test_loader is None:
            return None
        if self.distributed:
            dist.barrier()  # rank 0 wrote it
        folder = Path(self.work_dir)
        path = folder / 'best.pth' if 'best_score' in self.state else ckpt.latest(folder)
        saved = ckpt.load(path, self.trust)
        ckpt.load_weights(self.host, saved, path)
        return evaluate(self.host, self.test_loader, self.cfg, saved, path, folder)

    def save(self, path: Path, iteration: int, training_state: bool = True) -> None:
        """Write a checkpoint; every process calls it, since each has random states of its own.

        Args:
            path: The file.
            iteration: The next iteration.
            training_state: Also what resuming needs; without it the state of plugins that only act in training is left
                out too: peers and heads of distillation, for instance.
        """
        saved: dict[str, Any] = {
            'meta': {
                'iter': iteration,
                'epoch': iteration // len(self.train_dataloader),
                'seed': self.seed,
                'config': plain_config(self.cfg),
                'classes': _class_names(self.train_dataloader.dataset.dataset),
                'torch': torch.__version__.split('+')[0],
                **self._geometry(),
            },
            'state_dict': self.host.state_dict(),
        }
        if training_state:
            states = [ckpt.random_states(self.host.device)]
            if self.distributed:
                gathered = [None] * self.world_size
                dist.all_gather_object(gathered, states[0])
                states = gathered
            saved.update(
                optimizer=self.optim_wrapper.state_dict(),
                param_schedulers=[s.state_dict() for s in self.param_schedulers or []],
                random_states=states,
                state=self.state,
            )
        self.call_hook('before_save_checkpoint', checkpoint=saved)
        if not training_state:
            idle = tuple(f'plugins.{p.name}.' for p in self.host.plugins.values() if not p.structural)
            for name in [k for k in saved if k.endswith('state_dict')]:  # those of averaged weights too
                kept = {k: v for k, v in saved[name].items() if not k.removeprefix('module.').startswith(idle)}
                saved[name] = kept
        if self.rank == 0:
            ckpt.save(saved, path)

    def load_or_resume(self) -> None:
        """Called by ``train`` once everything is built; resumes when `resume_from` named a checkpoint."""
        if resumed := getattr(self, '_resumed', None):
            self._restore(*resumed)

    def resume_from(self, path: str | Path | None = None) -> Path | None:
        """Continue, when `train` is called, from a checkpoint: the latest of the work directory when None.

        Raises:
            InputError: It belongs to another model, or to another batch size, data set size or number of processes.
        """
        path = Path(path) if path else ckpt.latest(Path(self.work_dir))
        if path is None:
            self.logger.warning(f'Nothing to resume in {self.work_dir}: starting from the beginning.')
            return None
        saved = ckpt.load(path, self.trust)
        if 'optimizer' not in saved:
            raise InputError(f'{str(path)!r} holds weights only: resume from an iter_<n>.pth.')
        for key, own in self._geometry().items():
            if saved['meta'].get(key) != own:
                raise InputError(
                    f'{str(path)!r} was written with {key}={saved["meta"].get(key)}, now it is {own}: '
                    'the run would not be the same. Start a new one, or put the setting back.'
                )
        if saved['meta']['seed'] != self.seed:
            raise InputError(f'{str(path)!r} was written with seed {saved["meta"]["seed"]}, now it is {self.seed}.')
        if changed := what_changed(json.loads(saved['meta']['config']), json.loads(plain_config(self.cfg))):
            raise InputError(
                f'{str(path)!r} was written with another {" and ".join(changed)}: the run would not be the same. '
                'Start a new one, or put the config back.'
            )
        ckpt.load_weights(self.host, saved, path)
        self._resumed, self._resume = (saved, path), True  # the second tells mmengine's hooks, EMAHook for one
        return path

    def _restore(self, saved: dict[str, Any], path: Path) -> None:
        self.call_hook('after_load_checkpoint', checkpoint=saved)
        ckpt.load_weights(self.host, saved, path)
        self.optim_wrapper.load_state_dict(saved['optimizer'])
        for scheduler, state in zip(self.param_schedulers or [], saved['param_schedulers'], strict=True):
            _restore_schedule(scheduler, state)
        self.state.update(saved['state'])
        self._train_loop.iter = saved['meta']['iter']
        ckpt.set_random_states(saved['random_states'][self.rank], self.host.device)
        self.logger.info(f'Resumed from {path.name}: iteration {self.iter} of {self.max_iters}.')

    def _geometry(self) -> dict[str, int]:
        loader = self.train_dataloader
        return {'batch_size': loader.batch_size, 'loader_length': len(loader), 'world_size': self.world_size}


def _restore_schedule(scheduler: Any, state: dict[str, Any]) -> None:
    """Where a schedule of mmengine's stands; where it ends is up to the config, that may ask for more epochs now."""
    lengths = ('end', 'total_iters', 'total_steps', 'T_max', '_schedule_phases')
    scheduler.load_state_dict({k: v for k, v in state.items() if k not in lengths})
    reached = state['_global_step'] == state['end'] < scheduler.end
    if reached and not isinstance(scheduler, ReduceOnPlateauParamScheduler):  # what counted as the end did not step it
        scheduler._global_step -= 1
        scheduler.step()


def prepare(host: MultimodalHost, dataset: Any) -> None:
    """Hand the training data to every part of a host, its plugins included, that has a method ``prepare``; losses count
    classes there, teachers compare theirs. Every process does it, with the same result.

    `Runner` calls it before training; a loop of your own has to, once, before the host is wrapped.

    Args:
        host: With its plugins.
        dataset: Of the training data.

    Raises:
        InputError: A part can not work with these data.
    """
    for module in host.modules():
        if callable(method := getattr(module, 'prepare', None)):
            method(dataset)


def check_disjoint(training: Any, validation: Any) -> None:
    """Refuse to validate on training samples, where data sets know the names of theirs (``list`` and ``names``).

    Raises:
        InputError: Names one that both have.
    """
    lists = [(getattr(d, 'list', None), set(getattr(d, 'names', ()))) for d in (training, validation)]
    if lists[0][0] is not None and lists[0][0] == lists[1][0] and (common := lists[0][1] & lists[1][1]):
        raise InputError(
            f'{len(common)} samples of {lists[0][0]} are in the training and in the validation data, such as '
            f'{min(common)!r}: give both data sets the same val_fraction, shares and seed.'
        )


def _class_names(dataset: Any) -> list[str] | dict[str, list[str]]:
    """The names of a data set's classes, of several tasks for each; none where it does not say."""
    classes = getattr(dataset, 'classes', None) or ()
    return {t: list(names) for t, names in classes.items()} if isinstance(classes, Mapping) else list(classes)


def _build_loop(default: str, cfg: Mapping[str, Any] | None, **arguments: Any) -> BaseLoop:
    return LOOPS.build({'type': default, **(cfg or {})}, **arguments)
