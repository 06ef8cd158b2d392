"""The contract that every host keeps: what goes in (`Batch`), what comes out (`Outputs`), and the road between."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from registry import InputError, check_arguments, unknown_name

from .batch import Batch, Features, Outputs, is_words, map_target
from .preprocessor import MultimodalPreprocessor
from .rows import Rows, to_device, untouched_statistics
from .taps import Taps

ENCODE_ON = ('present', 'all', 'dense')
SIDE = 32  # pixels, of a blank picture where no other input is one


@dataclass
class Clock:
    """Where training stands. The runner sets it before each iteration; a plugin's random draws are a function of it."""

    seed: int = 0
    epoch: int = 0
    iteration: int = 0
    rank: int = 0
    max_epochs: int | None = field(default=None)


class MultimodalHost(BaseModel):
    """A multimodal model on which plugins can act.

    A subclass says how to ``encode`` each modality, ``fuse`` and ``decode``, what the ``losses`` are, and which
    parameters are each modality's own path (``branch``). See ``docs/add_a_host.md``.

    Args:
        modalities: Names of the inputs, in the order of the columns of ``present``; any number from 1.
        data_preprocessor: Moves a batch to the device and normalises it: a module, or the arguments of
            `zoo.MultimodalPreprocessor`.
        encode_on: Which rows an encoder sees: ``'present'``; ``'all'``, those that the data set delivered, also when a
            plugin dropped them (published training that drops at fusion); or ``'dense'``, all, zeros for absent ones.

    Raises:
        InputError: No modality, a name twice, or one that is not an identifier or that ``nn.ModuleDict`` has taken.
    """

    task = ''  # 'classification', 'segmentation', ...: how predictions are shown
    separable = True  # encoders do not see each other: subsets can be re-fused from one encoding
    offers: frozenset[str] = frozenset()  # of 'features', 'unimodal', 'sample_losses': what plugins may ask for
    offers_with: Mapping[str, str] = {}  # for what only some arguments make it offer: those arguments, in words

    def __init__(
        self,
        modalities: Sequence[str],
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        if not isinstance(data_preprocessor, nn.Module):
            check_arguments(MultimodalPreprocessor, 'data preprocessor', (), data_preprocessor or {})
            data_preprocessor = MultimodalPreprocessor(**(data_preprocessor or {}))
        super().__init__(data_preprocessor=data_preprocessor)
        modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
        if not modalities or len(set(modalities)) < len(modalities):
            raise InputError(f'modalities must be one or more different identifiers, got {list(modalities)}.')
        for m in modalities:
            check_key('modality', m)
        if encode_on not in ENCODE_ON:
            raise unknown_name('way to encode (encode_on)', encode_on, ENCODE_ON)
        self.modalities = modalities
        self.encode_on = encode_on
        self.plugins = nn.ModuleDict()
        self.clock = Clock()
        self.taps = Taps()
        self._tapped: set[str] = set()
        self._aside = False

    # ---- what a host defines

    def encode(self, batch: Batch) -> Mapping[str, Any]:
        """Turn each modality into features: {modality: (B, C, ...) or a list of them}, zero where absent."""
        raise NotImplementedError

    def fuse(self, features: Features, mask: Tensor) -> Any:
        """Merge the features that ``mask`` (B, M), on the device, lets through."""
        raise NotImplementedError

    def decode(self, fused: Any, features: Features) -> Outputs:
        """Turn fused features into the prediction."""
        raise NotImplementedError

    def postprocess(self, outputs: Outputs) -> Outputs:
        """What metrics and pictures take: the outputs with the prediction in its final form, boxes for instance."""
        return outputs

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The task's losses, ``{'loss_task': scalar, ...}``; every key with "loss" in it is added up."""
        raise NotImplementedError

    def branch(self, modality: str) -> Iterable[nn.Parameter]:
        """The parameters of this modality's own path, each in at most one branch."""
        raise NotImplementedError

    def unimodal(self, outputs: Outputs) -> dict[str, Any] | None:
        """One prediction for each modality alone, where the architecture defines them."""
        return None

    def unimodal_loss(self, prediction: Any, batch: Batch, rows: Tensor) -> Tensor:
        """The task's loss of one unimodal prediction over ``rows``, (B,) bool on the CPU, as if these samples were the
        batch; a zero with a gradient path where there is none."""
        raise NotImplementedError

    def sample_losses(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The task's loss of each sample, (B,)."""
        raise NotImplementedError

    def true_class_probability(self, prediction: Any, batch: Batch) -> Tensor:
        """Mean probability that a prediction gives to the true class, for each sample (B,): over valid pixels in dense
        tasks, over positive anchors in detection. NaN in a sample that has none of these."""
        raise NotImplementedError

    def divergence(self, reference: Any, prediction: Any, batch: Batch, weight: Tensor | None = None) -> Tensor:
        """How far a prediction is from a reference, for each sample: (B,), 0 where they are equal.

        Here the mean absolute difference of tensors (B, C, ...); tasks with a better measure define it.

        Args:
            reference: A prediction of this host.
            prediction: Another one of the same samples.
            batch: These samples; a target says which places count.
            weight: (B, 1, ...) of each place; differences are multiplied by it, and averaged as before.
        """
        apart = (prediction - reference).abs()
        return (apart if weight is None else apart * weight).flatten(1).mean(1)

    def training_only(self) -> Iterable[nn.Parameter]:
        """The parameters that inference does not use: auxiliary heads and decoders."""
        return ()

    def compilable(self) -> Iterable[nn.Module]:
        """What ``compile_encoders`` of a config compiles: modules that are called as a whole."""
        return getattr(self, 'encoders', {}).values()

    def blank(self, modality: str, batch: Batch) -> Tensor:
        """A zero input for a modality that the batch does not carry at all, without memory of its own: of the size of
        the others of its kind, picture or words, and of ``in_chans`` channels, which a host of another kind of input
        overrides."""
        encoders = getattr(self, 'encoders', {})
        words = modality in encoders and getattr(encoders[modality], 'reads_words', False)
        other = next((x for x in batch.inputs.values() if is_words(x) == words), None)
        if other is None:
            size, dtype = ((1,), torch.int64) if words else ((SIDE, SIDE), torch.float32)
            other = torch.empty((0, 0, *size), dtype=dtype, device=batch.device)
        return other.new_zeros(()).expand(len(batch), self.in_chans[modality], *other.shape[2:])

    # ---- the road of a batch

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        present: Tensor | None = None,
        target: Any = None,
        mode: str = 'tensor',
        *,
        modalities: Sequence[str] | None = None,
        info: list[dict] | None = None,
    ) -> Any:
        """Run the host.

        Args:
            inputs: Modality to tensor (B, C, ...).
            present: (B, M) bool; all given modalities when None.
            target: Needed by ``mode='loss'``.
            mode: ``'tensor'`` returns the prediction, ``'predict'`` the `Outputs` with it in its final form
                (`postprocess`), ``'loss'`` a dict of losses.
            modalities: The names of the columns of ``present``; the host's own when None.
            info: One dict for each sample.

        Raises:
            InputError: An unknown mode, inputs that do not fit ``present``, or a sample without any modality.
        """
        batch = self.make_batch(inputs, present, target, modalities, info)
        if mode == 'loss':
            return self.loss(batch)
        if mode not in ('tensor', 'predict'):
            raise unknown_name('mode', mode, ('tensor', 'predict', 'loss'))
        outputs = self.run(batch)
        return outputs.prediction if mode == 'tensor' else self.postprocess(outputs)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a training batch, with the plugins at their points."""
        for plugin in self.acting('on_inputs'):
            batch = plugin.on_inputs(self, batch)
        outputs = self.run(batch)
        losses = self.losses(outputs, batch)
        for plugin in self.acting('on_losses'):
            losses = plugin.on_losses(self, batch, outputs, losses)
        return losses

    def run(self, batch: Batch) -> Outputs:
        """Encode, fuse and decode a batch; plugins may call it again, inside `aside`."""
        batch = self.own(batch)
        return self.run_features(self.features(batch), batch.mask)

    def features(self, batch: Batch) -> Features:
        """Encode a batch whose columns are the host's, and let the plugins act on the features."""
        return self._on_features(batch, self._encoded(batch))

    def run_features(self, features: Mapping[str, Any], present: Tensor) -> Outputs:
        """Fuse and decode features that are already computed, with ``present`` (B, M) instead of their own."""
        features = Features.of(features, ())
        outputs = self.decode(self.fuse(features, to_device(present, self.device)), features)
        return self.noted(outputs, features)

    def noted(self, outputs: Outputs, features: Features | None = None) -> Outputs:
        """The outputs with what taps have noted; a host that defines its own `run` returns these.

        Args:
            outputs: Their features may be others than those that were encoded.
            features: Those.
        """
        if self._tapped:
            before = features.tapped if features is not None else {}
            outputs = outputs._replace(features=Features.of(outputs.features, ()))
            outputs.features.tapped = {**before, **self.taps.collect()}
        return outputs

    def run_subsets(self, batch: Batch, masks: Tensor, features: Features | None = None) -> Iterator[Outputs | None]:
        """One `Outputs` for each mask, over the rows that keep a modality under it; None where no row does.

        A separable host encodes once and re-fuses; any other runs again. In eval mode both equal `run` on the
        restricted batch; in training norm layers that use the batch's statistics make a difference.

        Args:
            batch: The complete batch.
            masks: (S, M) or (S, B, M) bool, columns as in ``host.modalities``.
            features: Those of the same batch (``outputs.features``), which a separable host then does not encode again.
        """
        batch = self.own(batch, check=False)
        if not self.separable:
            features = None
        elif features is None:
            features = self._encoded(batch)
        else:
            features = features if features.encoded is None else features.encoded
        for mask in masks:
            part = batch.restrict(mask)
            rows = part.present.any(1)
            if not rows.any():
                yield None
                continue
            kept = features
            if not rows.all():
                part = part.select(rows)
                kept = features.select(rows) if self.separable else None
            yield self.run_features(self._on_features(part, kept), part.mask) if self.separable else self.run(part)

    def encode_rows(self, module: nn.Module, x: Tensor, rows: Tensor, present: Tensor | None = None) -> Any:
        """Encode the rows that count and put them back among zeros.

        Args:
            module: Turns (b, C, ...) into a tensor (b, ...), or a list, tuple or dict of them, for any b >= 1.
            x: (B, C, ...); what stands in the other rows has no influence.
            rows: (B,) bool on the CPU.
            present: ``rows`` on the device, which ``encode_on='dense'`` needs; made from ``rows`` when None.
        """
        if self.encode_on == 'dense' or torch.compiler.is_compiling():
            present = rows.to(x.device, non_blocking=True) if present is None else present
            keep = _masker(present)
            y = tree_map_only(Tensor, keep, module(keep(x)))
            self.taps.restore(keep, len(x))
            return y
        chosen = Rows(rows, x.device)
        seen = chosen.take(x)
        y = chosen.put(chosen.run(module, seen))
        self.taps.restore(chosen.put, len(seen))
        return y

    def encode_modality(self, module: nn.Module, batch: Batch, modality: str) -> Any:
        """`encode_rows` on the rows that ``encode_on`` names."""
        column = self.modalities.index(modality)
        if self.encode_on == 'all':
            return self.encode_rows(module, batch.inputs[modality], batch.available[:, column])
        rows = batch.present[:, column]
        return self.encode_rows(module, batch.inputs[modality], rows, batch.mask[:, column])

    def tap(self, key: str, module: nn.Module, output: bool = False) -> None:
        """Note what a module of the host is given, or gives, in every pass: in ``features.tapped[key]``, (B, ...), zero
        in rows that an encoder did not see.

        Args:
            key: Two plugins that ask for the same module may use the same.
            module: It is called once in a pass; of several calls the last one counts.
            output: Note its output (of a list the last) instead of its first argument, which is copied, since
                activations work in place.
        """
        if key not in self._tapped:
            self._tapped.add(key)
            self.taps.add(key, module, output)

    # ---- plugins

    def plug(self, *plugins: nn.Module) -> 'MultimodalHost':
        """Attach plugins, in this order; before the host is wrapped and the optimiser made. Returns the host.

        Raises:
            InputError: A plugin needs what the host does not offer, or two plugins own the training step.
        """
        for plugin in plugins:
            if not hasattr(plugin, 'attach'):
                raise InputError(
                    f'plug takes plugins, got {plugin!r}; PLUGINS.build makes one from a name or a config.'
                )
            if plugin.name in self.plugins:
                raise InputError(
                    f'A plugin named {plugin.name!r} is attached already; give the second one another name.'
                )
            owners = [p.name for p in (*self.plugins.values(), plugin) if p.owns_step]
            if len(owners) > 1:
                raise InputError(f'Only one plugin can own the training step, got {" and ".join(owners)}.')
            with preserved_random_state(self.device):
                plugin.attach(self)
            self.plugins[plugin.name] = plugin.to(self.device)
        return self

    def acting(self, point: str) -> list[nn.Module]:
        """The plugins that act at ``point`` now: those that only look come first, else the config's order holds.

        In eval mode and inside `aside` only structural ones act, and only on the features.
        """
        plugins = list(self.plugins.values())
        if not self.training or self._aside:
            plugins = [p for p in plugins if p.structural and point == 'on_features']
        return sorted(plugins, key=lambda p: point not in p.looks)

    def on_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the plugins act on the gradients: after unscaling and clipping, right before the optimiser's step."""
        for plugin in self.acting('on_gradients'):
            plugin.on_gradients(self, optimizer)

    @contextmanager
    def aside(self, *, training: bool = True, update_statistics: bool = False) -> Iterator[None]:
        """An extra pass without a trace: running statistics and random states stay, non-structural plugins are off.

        Args:
            training: False puts all modules into eval mode; each one's own mode comes back.
            update_statistics: Let running statistics follow the extra pass: published training that does so.
        """
        modes = [] if training else [m for m in self.modules() if m.training]
        quiet = untouched_statistics(self) if training and not update_statistics else nullcontext()
        outer, self._aside = self._aside, True
        for module in modes:
            module.training = False
        try:
            with quiet, preserved_random_state(self.device):
                yield
        finally:
            self._aside = outer
            for module in modes:
                module.training = True

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values that a result can not be read without: how an absent modality is represented, for instance."""
        return {}

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """One iteration: mmengine's, unless a plugin owns the step."""
        owner = next((p for p in self.plugins.values() if p.owns_step), None)
        if owner is None:
            return super().train_step(data, optim_wrapper)
        data = self.data_preprocessor(data, True)
        return owner.train_step(self, self.make_batch(**data), optim_wrapper)

    def init_weights(self) -> None:
        """Nothing: ``Runner.train`` calls this, and timm models would lose their pretrained weights."""

    # ---- checks

    def make_batch(
        self,
        inputs: Mapping[str, Tensor],
        present: Tensor | None = None,
        target: Any = None,
        modalities: Sequence[str] | None = None,
        info: list[dict] | None = None,
    ) -> Batch:
        """A `Batch` of what ``forward`` was given, checked."""
        if not isinstance(inputs, Mapping) or not inputs:
            raise InputError(f'inputs must be a mapping of at least one modality to its tensor, got {_what(inputs)}.')
        names = tuple(modalities or self.modalities)
        size = None
        for m, x in inputs.items():
            if m not in names:
                raise unknown_name('modality', m, names)
            if not isinstance(x, Tensor) or x.ndim < 2:
                raise InputError(f'Input {m!r} must be a tensor (B, C, ...), got {_what(x)}.')
            size = len(x) if size is None else size
            if len(x) != size:
                raise InputError(f'Input {m!r} has {len(x)} samples where the first modality has {size}.')
        if present is None:
            present = torch.tensor([m in inputs for m in names]).repeat(size, 1)
        if not isinstance(present, Tensor) or present.dtype != torch.bool or present.shape != (size, len(names)):
            raise InputError(
                f'present must be bool of shape (B, M) = ({size}, {len(names)}) with columns {", ".join(names)}, '
                f'got {_what(present)}.'
            )
        present = present.cpu()
        if not torch.compiler.is_compiling():
            for m, here in zip(names, present.any(0).tolist()):
                if here and m not in inputs:
                    raise InputError(f'present claims {m!r} for some sample, but inputs has only {", ".join(inputs)}.')

        def check(leaf: Any) -> None:
            if not isinstance(leaf, Sized) or (isinstance(leaf, Tensor) and not leaf.ndim) or len(leaf) != size:
                raise InputError(
                    f'target must be a tensor (B, ...) or a list of length B = {size}, or a dict of these, '
                    f'got {_what(leaf)}.'
                )

        map_target(target, check, check)
        if info is not None and len(info) != size:
            raise InputError(f'info must be a list of length B = {size}, got {len(info)}.')
        return Batch(inputs, present, names, target, info=info)

    def own(self, batch: Batch, check: bool = True) -> Batch:
        """The host's own columns of a batch, with a blank input for a modality that it does not carry.

        Raises:
            InputError: A sample has none of the host's modalities.
        """
        batch = batch.view(self.modalities)
        if check and not torch.compiler.is_compiling() and not batch.present.any(1).all():
            row = int((~batch.present.any(1)).nonzero()[0])
            raise InputError(f'Sample {row} of the batch has none of the modalities {", ".join(self.modalities)}.')
        if missing := [m for m in self.modalities if m not in batch.inputs]:
            batch = batch.replace(inputs={**batch.inputs, **{m: self.blank(m, batch) for m in missing}})
        return batch

    def _on_features(self, batch: Batch, features: Features) -> Features:
        encoded = features
        for plugin in self.acting('on_features'):
            # a copy, or `encoded` could be changed in place
            given = Features.of(dict(features), encoded.size, encoded.present)
            features = Features.of(plugin.on_features(self, batch, given), encoded.size, encoded.present)
        if features is not encoded:
            features.encoded, features.tapped = encoded, encoded.tapped
        return features

    def _encoded(self, batch: Batch) -> Features:
        encoded = batch.available if self.encode_on == 'all' else batch.present
        self.taps.collect()  # what a pass that was broken off has left
        features = Features.of(self.encode(batch), self._size(batch), encoded)
        features.tapped = self.taps.collect()
        return features

    def _size(self, batch: Batch) -> tuple[int, ...]:
        return tuple(batch.inputs[self.modalities[0]].shape[2:])


@contextmanager
def preserved_random_state(device: torch.device) -> Iterator[None]:
    """Put torch's random states (CPU, and that of ``device``) back at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == 'cuda' else []):
        yield


def check_key(kind: str, name: Any) -> None:
    """Refuse a name that can not be a key of ``nn.ModuleDict`` and ``nn.ParameterDict``.

    Raises:
        InputError: It is not an identifier, or they have an attribute of that name.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(f'The name of a {kind} must be an identifier, got {name!r}.')
    if any(hasattr(table, name) for table in (nn.ModuleDict(), nn.ParameterDict())):
        raise InputError(f'A {kind} can not be named {name!r}: torch.nn.ModuleDict has an attribute of that name.')


def _what(value: Any) -> str:
    """A value in the words of an error message."""
    if isinstance(value, Tensor):
        return f'{value.dtype} of shape {tuple(value.shape)}'
    return f'{type(value).__name__} of length {len(value)}' if isinstance(value, Sized) else repr(value)


def _masker(rows: Tensor) -> Callable[[Tensor], Tensor]:
    """Zero the other rows; by selection, since a product would keep NaN."""
    return lambda x: torch.where(rows.view(-1, *[1] * (x.ndim - 1)), x, x.new_zeros(()))
