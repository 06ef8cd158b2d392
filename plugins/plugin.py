"""The contract that every plugin keeps: when it acts on a host, and where its state lives."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn
from torch.optim import Optimizer

from registry import HOSTS, InputError
from zoo.batch import Batch, Features, Outputs
from zoo.host import MultimodalHost, check_key


class Plugin(nn.Module, Hook):
    """A training-time intervention on any host: a module (state, parameters) that is also an mmengine hook (events).

    A subclass overrides the points at which it acts; each is a no-op here. Points are called in the config's order,
    plugins that list the point in ``looks`` first. See ``docs/write_a_plugin.md``.

    Attributes:
        needs: What a host must offer: of ``'features'``, ``'unimodal'``, ``'sample_losses'``.
        looks: The points at which it reads but changes nothing; it then sees what no other plugin has changed.
        structural: It changes the architecture: attached for testing too, and its ``on_features`` runs in every pass.
        owns_step: It overrides `train_step`.
        random: It draws in every pass, in eval mode too: results are then means over several draws.
        redraws: It calls `resample` of all plugins in each batch; random architectures then leave it to this plugin.
        idle_parameters: Some of its parameters may be unused in a step, which DDP then searches for.
        min_modalities: The fewest modalities with which it makes sense.
    """

    priority = 'NORMAL'
    needs: frozenset[str] = frozenset()
    looks: frozenset[str] = frozenset()
    structural = False
    owns_step = False
    random = False
    redraws = False
    idle_parameters = False
    min_modalities = 2

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        object.__setattr__(self, '_held', {})
        object.__setattr__(self, 'logged', {})
        self.name = name or type(self).__name__
        check_key('plugin', self.name)

    # ---- what a plugin defines

    def attach(self, host: MultimodalHost) -> None:
        """Prepare for a host: check needs, make buffers and heads (in the plugin), or rewire layers. Called once.

        Raises:
            InputError: The host lacks what the plugin needs; hosts that have it are named.
        """
        if len(host.modalities) < self.min_modalities:
            raise InputError(
                f'{self.name} needs at least {self.min_modalities} modalities, '
                f'the host {type(host).__name__} has {len(host.modalities)}: {", ".join(host.modalities)}.'
            )
        for need in sorted(self.needs - host.offers):
            able = sorted(n for n, h in HOSTS.module_dict.items() if need in getattr(h, 'offers', ()))
            how = host.offers_with.get(need)
            raise InputError(
                f'{self.name} needs {need!r}, which this {type(host).__name__} does not offer (it offers '
                f'{", ".join(sorted(host.offers)) or "nothing"}{f"; it would with {how}" if how else ""}). '
                f'Hosts that can: {", ".join(able) or "none"}.'
            )

    def on_inputs(self, host: MultimodalHost, batch: Batch) -> Batch:
        """Act on a preprocessed batch: mask, drop, attack."""
        return batch

    def on_features(self, host: MultimodalHost, batch: Batch, features: Features) -> Mapping[str, Any]:
        """Act on the features of each modality, before fusion."""
        return features

    def on_losses(
        self, host: MultimodalHost, batch: Batch, outputs: Outputs, losses: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Reweight losses or add terms; every key with "loss" in it is added up."""
        return losses

    def on_gradients(self, host: MultimodalHost, optimizer: Optimizer) -> None:
        """Act on the gradients: once for each optimiser step, after all-reduce, unscaling and clipping."""

    def train_step(self, host: MultimodalHost, batch: Batch, optim_wrapper: Any) -> dict[str, Tensor]:
        """Own the whole step, where ``owns_step`` is set; returns what to log."""
        raise NotImplementedError

    def resample(self, host: MultimodalHost, phase: str) -> None:
        """Draw anew what the plugin draws now and then and keeps: random weights.

        Args:
            host: It is attached to.
            phase: What comes next: ``'attack'``, or ``'inference'``, the pass that is trained.
        """

    @contextmanager
    def fresh_draw(self) -> Iterator[None]:
        """Within it, what is drawn and kept is another draw, from torch's random state; afterwards it is back."""
        yield

    @contextmanager
    def frozen(self, seed: int) -> Iterator[None]:
        """Within it, all that is drawn is one draw, by seed: the same in every pass and for all samples."""
        yield

    def weight_decays(self, host: MultimodalHost) -> Mapping[nn.Parameter, float]:
        """Parameters whose weight decay is not the optimiser's, and theirs."""
        return {}

    @property
    def settings(self) -> dict[str, Any]:
        """Of a structural plugin: plain values without which results can not be read; they are stored with them."""
        return {}

    # ---- what a plugin may use

    def generator(
        self, host: MultimodalHost, device: torch.device | str = 'cpu', shared: bool = False, purpose: str = ''
    ) -> torch.Generator:
        """A random generator seeded by (run seed, plugin, iteration, and rank unless ``shared``): nothing to save.

        Two calls in one iteration begin the same stream; a different ``purpose`` begins another.
        """
        clock = host.clock
        key = (clock.seed, self.name, clock.iteration, -1 if shared else clock.rank, *([purpose] if purpose else []))
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(digest, 'little') >> 1)

    def hold(self, **modules: nn.Module) -> None:
        """Keep frozen modules (teachers) outside the module tree: not saved, not optimised, not reached by ``train()``;
        they follow the plugin to its device and are attributes of it."""
        for name, module in modules.items():
            if name not in self._held and hasattr(self, name):
                raise AttributeError(f'{name!r} is an attribute already; hold the module under another name.')
            self._held[name] = module.requires_grad_(False).eval()

    def log(self, modalities: Sequence[str] = (), **values: Tensor) -> None:
        """Note what was decided in this step; read at the logging interval, so nothing waits for the device.

        Args:
            modalities: Names for vectors (M,), logged as ``plugin/<name>/<modality>/<key>``.
            values: Scalars () or vectors (M,). A key must not contain "loss": mmengine adds all those up.
        """
        for key, value in values.items():
            if 'loss' in key:
                raise ValueError(f'A logged key must not contain "loss", got {key!r}.')
            self.logged[key] = (tuple(modalities) if value.ndim else (), value.detach().clone())

    # ---- how it is kept

    def __getattr__(self, name: str) -> Any:
        held = self.__dict__.get('_held', {})
        return held[name] if name in held else super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, MultimodalHost):
            raise TypeError(
                f'A plugin must not store a host, it would become its submodule: {name!r}. See `Plugin.hold`.'
            )
        if callable(getattr(Plugin, name, None)) and not name.startswith('__'):
            raise AttributeError(f'{name!r} is a method of every plugin; choose another name for the attribute.')
        super().__setattr__(name, value)

    def _apply(self, fn: Callable, recurse: bool = True) -> 'Plugin':
        for module in self._held.values():
            module._apply(fn, recurse)
            if isinstance(module, MultimodalHost):
                module.to(module.device)  # mmengine tells the preprocessor its device only here
        return super()._apply(fn, recurse)
