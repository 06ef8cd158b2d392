"""RPAN: random projection filters and noise on attention, a defence that acts at inference too."""

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from registry import PLUGINS, InputError, PluginWarning, unknown_name
from zoo.batch import Batch
from zoo.blocks import MSGDC, Site
from zoo.host import MultimodalHost

from .attention_noise import MODES, AttentionNoise, Unlisted
from .plugin import Plugin
from .random_filters import CONVOLUTIONS, RandomFilters, random_count

RESAMPLE = ('phase', 'forward')
KERNELS = (3, 5)


@PLUGINS.register_module()
class RPAN(Plugin):
    """Random projection filters with modulated attention noise, the defence of Robust-MAIL (Dhar et al., KDD 2026).

    A share of the filters of convolutions is random and never learnt (`RandomFilters`), and a noise with a learnt
    strength acts on what decides the gates (`AttentionNoise`, at every `zoo.blocks.Site`). Both act in eval mode too:
    they are the defence. Without `AdversarialTraining` it only makes a host worse; with it, the filters are drawn anew
    before each attack and before each trained pass, else once in each batch.

    Of a host with `MSGDC` blocks their branches become random in part, in encoders and in EMCAM, and are normalised one
    by one then: the random filters of 1x1 would be larger than the learnt ones by the square root of their fan-in. On
    any other host it is every convolution of side 3 or 5 with more than one filter in the path of a single modality
    (`MultimodalHost.branch`) but its first; noise acts where there are sites, so mostly nowhere.

    The keys of the host's state dict stay: checkpoints of the plain host load, and it loads these. Random filters,
    ``delta`` and the norms of branches are saved with the plugin. The filters of a checkpoint are the last that were
    drawn; the noise comes from torch's random state, so results are those of one draw: see `frozen`.

    Args:
        ratio: Share of the filters that are random, in [0, 1].
        noise_std: Standard deviation of the noise before ``delta``; 0 is the clean host in the modes ``'add'`` and
            ``'mul_residual'`` only: in ``'mul'`` it closes every gate half.
        noise_mode: See `AttentionNoise`; the paper multiplies.
        spatial: See `AttentionNoise`.
        resample: When random filters are drawn anew: ``'phase'``, when a plugin asks for it or once in a training
            batch; or ``'forward'``, as the authors' code, at each call of each convolution, of which `EMSCA` makes two
            in a pass. Within `fresh_draw` and `frozen` the network is one draw in either.
        branch_norm: Normalise the changed branches of an `MSGDC`.
        match_scale: See `RandomFilters`.
        targets: Shell patterns of the names of the convolutions to change, of any host; None for those above.
        weight_decay: Of the filters of changed convolutions that learn, and of ``delta``; None for the optimiser's.
        name: See `Plugin`.

    Raises:
        InputError: A value outside its range, a host without such convolutions, or one that is changed already.
        NameNotFound: An unknown mode.
    """

    structural = True
    random = True
    min_modalities = 1
    looks = frozenset({'on_inputs'})
    random_buffers = ('kernels',)

    def __init__(
        self,
        ratio: float = 0.25,
        noise_std: float = 0.6,
        noise_mode: str = 'mul',
        spatial: bool = False,
        resample: str = 'phase',
        branch_norm: bool = True,
        match_scale: bool = False,
        targets: Sequence[str] | None = None,
        weight_decay: float | None = 5e-4,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not isinstance(ratio, (int, float)) or not 0 <= ratio <= 1:
            raise InputError(f'ratio must be in [0, 1], got {ratio!r}.')
        for key, value in (('noise_std', noise_std), ('weight_decay', 0 if weight_decay is None else weight_decay)):
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise InputError(f'{key} must be a finite number of at least 0, got {value!r}.')
        if noise_mode not in MODES:
            raise unknown_name('mode of the noise (noise_mode)', noise_mode, MODES)
        if resample not in RESAMPLE:
            raise unknown_name('time to draw filters (resample)', resample, RESAMPLE)
        self.ratio, self.noise_std, self.noise_mode, self.spatial = ratio, noise_std, noise_mode, spatial
        self.each_call = resample == 'forward'
        self.branch_norm, self.match_scale = branch_norm, match_scale
        self.targets = (targets,) if isinstance(targets, str) else targets and tuple(targets)
        self.decay = weight_decay
        self.seed: int | None = None  # of `frozen`
        # modules of the host, which are not submodules of the plugin
        self.inserted: dict[str, Unlisted] = {}
        self.filters: list[RandomFilters] = []
        self.places: dict[RandomFilters, slice] = {}

    # ---- changing a host

    def attach(self, host: MultimodalHost) -> None:
        """See `convert`."""
        super().attach(host)
        self.convert(host)

    def convert(self, host: MultimodalHost) -> None:
        """Put random filters and noise into a host; `MultimodalHost.plug` does it.

        Raises:
            InputError: The host has no such convolutions, or is changed already.
        """
        modules = list(host.named_modules(remove_duplicate=False))
        if any(isinstance(m, (RandomFilters, AttentionNoise)) for _, m in modules):
            raise InputError(f'This {type(host).__name__} has random filters or noise of {self.name} already.')
        chosen = self._chosen(host)
        if not chosen:
            wanted = 'of side 3 or 5 behind the first in the path of a single modality'
            wanted = f'named {", ".join(self.targets)} (targets)' if self.targets else wanted
            raise InputError(
                f'{self.name} found no convolution to change in this {type(host).__name__}: none {wanted}.'
            )
        made: dict[nn.Module, nn.Module] = {}
        for path, module in modules:
            if isinstance(module, MSGDC) and self.branch_norm:
                for i, (norm, conv) in enumerate(zip(module.norms, (module.pointwise, *module.depthwise))):
                    if isinstance(norm, nn.Identity) and conv in chosen and random_count(conv, self.ratio):
                        module.norms[i] = self._insert(f'{path}.norms.{i}', BranchNorm(conv.out_channels), host)
            elif isinstance(module, Site):
                if module not in made:
                    noise = AttentionNoise(
                        module.channels, self.noise_std, self.noise_mode, self.spatial, self.standard_normal
                    )
                    made[module] = self._insert(path, noise, host)
            elif module in chosen and module not in made and (count := random_count(module, self.ratio)):
                made[module] = RandomFilters(module, count, self.random_filters, self.match_scale)
                self.filters.append(made[module].train(module.training))
        if self.ratio and not self.filters:
            warnings.warn(
                f'{self.name}: a ratio of {self.ratio:g} makes no filter random, the groups of this '
                f'{type(host).__name__} have too few.',
                PluginWarning,
                stacklevel=2,
            )
        _replace(host, made)
        start = 0
        for f in self.filters:
            self.places[f] = slice(start, start := start + f.before.numel())
        self.register_buffer('kernels', torch.zeros(start, device=host.device))
        spread = [torch.full((f.before.numel(),), f.deviation) for f in self.filters]
        self.register_buffer('spread', torch.cat([torch.zeros(0), *spread]).to(host.device), persistent=False)
        self._draw(self.generator(host, host.device, shared=True))

    def revert(self, host: MultimodalHost) -> None:
        """Take random filters and noise out again: the filters that were random are what they were before."""
        made: dict[nn.Module, nn.Module] = {f: f.restored() for f in self.filters}
        for module in self.inserted.values():
            made[module] = Site(module.channels) if isinstance(module, AttentionNoise) else nn.Identity()
            made[module].train(module.training)
        _replace(host, made)
        self.inserted, self.filters, self.places = {}, [], {}
        if self.name in host.plugins:
            del host.plugins[self.name]

    def _chosen(self, host: MultimodalHost) -> set[nn.Module]:
        convolutions = {k: m for k, m in host.named_modules() if type(m) in CONVOLUTIONS and _is_plain(m)}
        if self.targets:
            return {m for k, m in convolutions.items() if any(fnmatchcase(k, t) for t in self.targets)}
        if blocks := [m for m in host.modules() if isinstance(m, MSGDC)]:
            return {c for b in blocks for c in (b.pointwise, *b.depthwise)}
        chosen: set[nn.Module] = set()
        for m in host.modalities:
            own = {id(p) for p in host.branch(m)}
            path = [c for c in convolutions.values() if id(c.weight) in own]
            chosen.update(c for c in path[1:] if c.out_channels > 1 and set(c.kernel_size) <= {c.kernel_size[0]})
        return {c for c in chosen if c.kernel_size[0] in KERNELS}

    def _insert(self, path: str, module: Unlisted, host: MultimodalHost) -> Unlisted:
        module.path = path
        self.inserted[path] = module.to(host.device).train(host.training)
        return module

    # ---- drawing

    def on_inputs(self, host: MultimodalHost, batch: Batch) -> Batch:
        """Draw for a batch, unless another plugin says when."""
        if not any(p.redraws for p in host.plugins.values()):
            self.resample(host, 'inference')
        if noises := [m.delta for m in self.inserted.values() if isinstance(m, AttentionNoise)]:
            self.log(delta=torch.stack(torch._foreach_norm(noises, 1)).sum() / sum(map(len, noises)))
        return batch

    def resample(self, host: MultimodalHost, phase: str) -> None:
        """Draw all random filters anew, alike on all ranks; nothing where each call draws its own."""
        if not self.each_call:
            self._draw(self.generator(host, self.kernels.device, shared=True, purpose=phase))

    @torch.no_grad()
    def _draw(self, generator: torch.Generator | None) -> None:
        self.kernels.normal_(generator=generator).mul_(self.spread)

    @contextmanager
    def fresh_draw(self, generator: torch.Generator | None = None) -> Iterator[None]:
        """Another draw of the random filters: from a generator, or from torch's random state."""
        kept = self.kernels.clone()
        each_call, self.each_call = self.each_call, False
        self._draw(generator)
        try:
            yield
        finally:
            self.each_call = each_call
            self.kernels.copy_(kept)

    @contextmanager
    def frozen(self, seed: int) -> Iterator[None]:
        """One draw of the whole network, by seed: random filters, and a noise that is the same in every pass and for
        all samples. For predictions that repeat, and for export; a defence only where nobody knows the seed."""
        outer, self.seed = self.seed, seed
        try:
            with self.fresh_draw(torch.Generator(self.kernels.device).manual_seed(seed)):
                yield
        finally:
            self.seed = outer

    def random_filters(self, filters: RandomFilters) -> Tensor:
        """The random filters of a convolution in this call."""
        if self.each_call:
            return filters.deviation * torch.randn_like(filters.before)
        return self.kernels[self.places[filters]].view_as(filters.before)

    def standard_normal(self, noise: AttentionNoise, shape: tuple[int, ...], x: Tensor) -> Tensor:
        """The draws of a site in this pass."""
        if self.seed is None:
            return torch.randn(shape, device=x.device)
        digest = hashlib.blake2b(f'{self.seed} {noise.path}'.encode(), digest_size=8).digest()
        generator = torch.Generator(x.device).manual_seed(int.from_bytes(digest, 'little') >> 1)
        return torch.randn((1, *shape[1:]), device=x.device, generator=generator)

    # ---- training and saving

    def weight_decays(self, host: MultimodalHost) -> dict[nn.Parameter, float]:
        """That of the filters that learn, and of ``delta``."""
        if self.decay is None:
            return {}
        noises = [m.delta for m in self.inserted.values() if isinstance(m, AttentionNoise)]
        return dict.fromkeys([*(f.weight for f in self.filters), *noises], self.decay)

    @property
    def settings(self) -> dict[str, Any]:
        """That results are those of one draw, and of what."""
        kept = 'of each call' if self.each_call else 'of the checkpoint'
        return {
            'random_filters': f'{self.ratio:g}, {kept}',
            'noise': f'{self.noise_mode} {self.noise_std:g}, one draw for each pass',
        }

    def get_extra_state(self) -> dict[str, dict[str, Tensor]]:
        """``delta`` of each site, and the norms of branches."""
        return {path: module.state() for path, module in self.inserted.items()}

    def set_extra_state(self, state: Mapping[str, dict[str, Tensor]]) -> None:
        """Put back what `get_extra_state` gave.

        Raises:
            InputError: It is of another host.
        """
        if state.keys() != self.inserted.keys():
            raise InputError(f'The state of {self.name} has other places than this host: {len(state)} of them.')
        for path, module in self.inserted.items():
            module.restore(state[path])


class BranchNorm(Unlisted, _NormBase):
    """`nn.BatchNorm2d` of which the plugin keeps the state. It stays one of its own process, and takes running
    statistics where there is one value for a channel."""

    def _check_input_dim(self, x: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        batch = self.training and x.numel() > x.shape[1]  # one value for a channel has no variance
        mean, var = (None, None) if batch and not self.track_running_stats else (self.running_mean, self.running_var)
        return F.batch_norm(x, mean, var, self.weight, self.bias, batch, self.momentum, self.eps)


def _is_plain(conv: nn.Module) -> bool:
    return not isinstance(conv.padding, str) and 'weight' in conv._parameters


def _replace(host: nn.Module, made: Mapping[nn.Module, nn.Module]) -> None:
    for module in list(host.modules()):
        for name, child in list(module._modules.items()):
            if child in made:
                module._modules[name] = made[child]
