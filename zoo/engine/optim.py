"""One parameter group for each branch, and an optimiser wrapper for mixed precision that puts rates back."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from registry import OPTIM_WRAPPERS, OPTIMIZERS, InputError, unknown_name
from zoo.host import MultimodalHost

DECAY = ('norm_decay_mult', 'bias_decay_mult')
DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


def parameter_groups(
    host: MultimodalHost, norm_decay_mult: float = 1.0, bias_decay_mult: float = 1.0
) -> list[dict[str, Any]]:
    """One group for each branch (``group['branch']`` names the modality) and one, last, for the rest.

    A parameter in two branches is shared and goes to the rest. Empty groups are left out. Where norm layers or biases
    decay otherwise than weights do, each of these groups is split, and the parts say their ``decay_mult``. So are
    parameters to which a plugin gives a decay of their own (`Plugin.weight_decays`), which says ``weight_decay``.

    Args:
        host: Whose parameters.
        norm_decay_mult: What the weight decay of norm layers' parameters is multiplied by.
        bias_decay_mult: The same for the biases of other layers.
    """
    owners: dict[nn.Parameter, list[str]] = {}
    for m in host.modalities:
        for parameter in host.branch(m):
            owners.setdefault(parameter, []).append(m)
    multipliers = (1.0, norm_decay_mult, bias_decay_mult)
    own = {p: d for plugin in host.plugins.values() for p, d in plugin.weight_decays(host).items()}
    kinds = _decay_kinds(host)
    decays = [{} if k == 1 else {'decay_mult': k} for k in multipliers]
    options = [*decays, *({'weight_decay': d} for d in dict.fromkeys(own.values()))]
    options = [o for i, o in enumerate(options) if o not in options[:i]]
    groups = [{'params': [], 'branch': m or None, **o} for m in (*host.modalities, '') for o in options]
    for parameter in host.parameters():
        if parameter.requires_grad:
            names = owners.get(parameter, [])
            option = {'weight_decay': own[parameter]} if parameter in own else decays[kinds.get(parameter, 0)]
            start = len(options) * (host.modalities.index(names[0]) if len(names) == 1 else len(host.modalities))
            groups[start + options.index(option)]['params'].append(parameter)
    return [g for g in groups if g['params']]


def _decay_kinds(host: MultimodalHost) -> dict[nn.Parameter, int]:
    """1 for the parameters of norm layers, 2 for other biases."""
    kinds = {}
    for module in host.modules():
        norm = isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm, nn.RMSNorm))
        for name, parameter in module.named_parameters(recurse=False):
            if norm or name.endswith('bias'):
                kinds[parameter] = 1 if norm else 2
    return kinds


@OPTIM_WRAPPERS.register_module()
class BranchOptimWrapper(OptimWrapper):
    """mmengine's wrapper with autocast on any device, and learning rates that a plugin changed put back after the step.

    Args:
        optimizer: Made from `parameter_groups`.
        accumulative_counts: Micro-batches for each step.
        clip_grad: Arguments of ``clip_grad_norm_`` (``max_norm``), or with ``type='value'`` of ``clip_grad_value_``.
        dtype: ``'float16'`` (with loss scaling) or ``'bfloat16'``; None computes in float32.

    Raises:
        NameNotFound: Another dtype.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        accumulative_counts: int = 1,
        clip_grad: Mapping[str, Any] | None = None,
        dtype: str | None = None,
    ) -> None:
        if dtype is not None and dtype not in DTYPES:
            raise unknown_name('dtype for mixed precision', dtype, DTYPES)
        super().__init__(optimizer, accumulative_counts, dict(clip_grad) if clip_grad else None)
        self.dtype = DTYPES.get(dtype)
        device = optimizer.param_groups[0]['params'][0].device.type
        self.scaler = torch.amp.GradScaler(device, enabled=self.dtype is torch.float16)
        # a fused optimiser would unscale and skip inside its step, behind the plugins' hook
        optimizer._step_supports_amp_scaling = False
        self.logged: dict[str, Tensor] = {}
        self._stepped = True
        optimizer.register_step_pre_hook(self._note)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and no gradient exchange inside an accumulation window."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, self.dtype, enabled=self.dtype is not None):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Backward of the scaled loss."""
        super().backward(self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Unscale, clip, let the plugins act (a hook of the optimiser), step; rates are as before, also on an error."""
        rates = [g['lr'].clone() if isinstance(g['lr'], Tensor) else g['lr'] for g in self.optimizer.param_groups]
        originals = [g['lr'] for g in self.optimizer.param_groups]
        self._stepped = False
        try:
            if self.clip_grad_kwargs:
                self.scaler.unscale_(self.optimizer)
                self._clip_grad()
            self.scaler.step(self.optimizer, **kwargs)
        finally:
            for group, original, rate in zip(self.optimizer.param_groups, originals, rates):
                group['lr'] = original.copy_(rate) if isinstance(original, Tensor) else original
        self.scaler.update()

    @property
    def window_open(self) -> bool:
        """Whether plugins hold something that no step has used yet: inside an accumulation window, and after a step
        that the loss scaler skipped."""
        return not self.should_update() or not self._stepped

    def _note(self, *_: Any) -> None:
        self._stepped = True

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state and the loss scale."""
        return {**super().state_dict(), 'scaler': self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        state_dict = dict(state_dict)
        if scaler := state_dict.pop('scaler', None):
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)

    def _clip_grad(self) -> None:
        grads = [p for g in self.optimizer.param_groups for p in g['params'] if p.grad is not None]
        if grads and (norm := self.clip_func(grads, **self.clip_grad_kwargs)) is not None:
            self.logged[self.grad_name] = norm.detach()  # read at the logging interval


def build_optim_wrapper(host: MultimodalHost, cfg: Mapping[str, Any]) -> BranchOptimWrapper:
    """From ``dict(optimizer=dict(type='SGD', lr=...), clip_grad=..., accumulative_counts=..., dtype=...)``.

    Plugins act on the gradients in a hook right before each real step of the optimiser. Of mmengine's
    ``paramwise_cfg`` the entries ``norm_decay_mult`` and ``bias_decay_mult`` are known, see `parameter_groups`.
    """
    cfg = {'type': 'BranchOptimWrapper', **cfg}
    multipliers = dict(cfg.pop('paramwise_cfg', None) or {})
    for name, value in multipliers.items():
        if name not in DECAY:
            raise unknown_name('entry of paramwise_cfg', name, DECAY)
        if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise InputError(f'{name} of paramwise_cfg must be a number of at least 0, got {value!r}.')
    if 'optimizer' not in cfg:
        raise InputError(f'optim_wrapper needs "optimizer", for instance dict(type="SGD", lr=0.1); got {sorted(cfg)}.')
    try:
        optimizer = OPTIMIZERS.build(cfg.pop('optimizer'), params=parameter_groups(host, **multipliers))
    except (TypeError, ValueError) as error:
        raise InputError(f'The optimiser can not be built: {error}') from None
    for group in optimizer.param_groups:
        if 'decay_mult' in group:
            multiplier = group.pop('decay_mult')
            group['weight_decay'] = multiplier * group.get('weight_decay', 0)
    optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: host.on_gradients(optimizer))
    return OPTIM_WRAPPERS.build(cfg, optimizer=optimizer)
