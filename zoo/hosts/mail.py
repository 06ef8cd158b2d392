"""MAIL (Dhar et al., KDD 2026): modalities that exchange what they know after every stage, for one task or several."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from registry import HOSTS, InputError
from zoo.batch import Batch, Features, Outputs
from zoo.heads import LinearHead

from .exchange_encoding import ExchangeEncoding
from .label_host import for_each, over
from .multi_task_host import Logits, MultiTaskHost, check_weights
from .sizes import check_images


@HOSTS.register_module()
class MAIL(ExchangeEncoding, MultiTaskHost):
    """Multi-attention integration learning (Dhar et al., KDD 2026): one encoder of `ERLA` blocks for each modality,
    an `EMCAM` behind every stage, and linear heads on the mean over all places of what the last one gives.

    With two modalities, three channels and tasks of 5 and 7 classes the defaults, MAIL-RN18, have 11,739,444 parameters
    (published: 11.7 M). The paper counts 1.84 GFLOPs for it at 128 x 128; we count 1.17, and no reading of the paper
    that we tried and that keeps the parameters closes the gap, see docs/mail.md.

    It is ours that modalities go by name, that there can be any number, and that some may be absent.

    Args:
        modalities: Names of the inputs; their order makes partners in `EMSCA`, and is that of the heads' weights.
        num_classes: K; or, for several tasks, task to K. Predictions and targets are then dicts; a label below 0 says
            that there is none.
        encoder: ``'mail_rn18'``, ``'mail_rn50'``, ``'mail_m2'`` or ``'mail_m3'``; a registered pyramid (`ERLAEncoder`,
            `ERLAPyramid`, ...), the name of a timm model, a config, or one of these for each modality.
        in_chans: Channels of each modality's input; one number for all, or a mapping. 3 by default.
        fusion: A block that gives each modality's features back: name or config of `EMCAM`, `EMSCA` or `MFIFA`; None
            leaves the encoders alone.
        loss: A loss of (logits, class indices): name or config.
        task_weights: Task to the weight of its loss; 1 over their number by default. With heads of each modality a task
            may have a mapping of modality to weight; one number is shared out evenly.
        per_modality_heads: Have a head for each task and modality, as the paper's Eq. 14, rather than one for each task
            on all modalities. The prediction is the mean over the modalities that are present; each is trained on the
            samples that have its modality. Default: as ``preset`` says, else False.
        feedback: Encoders go on from refined maps; None: where all of them can be taken stage by stage. Otherwise heads
            read every refined map.
        preset: ``'paper'``, what the paper prints, or ``'official'``, what its authors' code does, as far as options of
            the parts reach; None for what comes to the published size.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`. With ``'all'``, rows that a plugin dropped take part in no exchange and go on.

    Raises:
        InputError: Arguments that do not cover the modalities, encoders that do not fit each other, or a fusion block
            of another kind.
        NameNotFound: An unknown part or preset.
    """

    separable = False
    offers = frozenset({'unimodal', 'sample_losses'})

    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int | Mapping[str, int],
        encoder: str | Mapping = 'mail_rn18',
        in_chans: int | Mapping[str, int] = 3,
        fusion: str | Mapping | None = 'EMCAM',
        loss: str | Mapping = 'CrossEntropyLoss',
        task_weights: Mapping[str, float | Mapping[str, float]] | None = None,
        per_modality_heads: bool | None = None,
        feedback: bool | None = None,
        preset: str | None = None,
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        if task_weights is not None:
            check_weights(task_weights, 'task_weights')
        by_modality = {t: w for t, w in (task_weights or {}).items() if isinstance(w, Mapping)}
        totals = task_weights and {t: sum(w.values()) if t in by_modality else w for t, w in task_weights.items()}
        super().__init__(modalities, num_classes, in_chans, loss, totals, data_preprocessor, encode_on)
        self.build_exchanges(encoder, fusion, feedback, preset)
        self.per_modality = preset == 'paper' if per_modality_heads is None else per_modality_heads
        if by_modality and not self.per_modality:
            raise InputError(f'task_weights={dict(task_weights)} go by modality, which needs per_modality_heads=True.')
        self.head_weights = {  # task to modality to the weight of its head's loss
            t: for_each(by_modality.get(t, w / len(self.modalities)), self.modalities, f'task_weights of {t}')
            for t, w in self.task_weights.items()
        }
        width = self.widths[-1] if self.feedback else sum(self.widths)
        self.columns = {m: slice(i * width, (i + 1) * width) for i, m in enumerate(self.modalities)}

        def heads(classes: int) -> nn.Module:
            if self.per_modality:
                return nn.ModuleDict({m: LinearHead(width, classes) for m in self.modalities})
            return LinearHead(width * len(self.modalities), classes)

        self.heads = nn.ModuleDict({task: heads(classes) for task, classes in self.tasks.items()})
        self.to(memory_format=torch.channels_last)

    def run(self, batch: Batch) -> Outputs:
        """Encode and exchange stage by stage, then classify; logits (B, K), or a dict of these.

        Raises:
            InputError: Inputs that are no images of one size, or smaller than one cell of the coarsest map.
        """
        batch = self.own(batch)
        check_images(batch, self.in_chans)
        size, least = self._size(batch), self.reductions[-1]
        if min(size) < least:
            raise InputError(f'MAIL takes images of at least {least}x{least}, got {size[0]}x{size[1]} (H x W).')
        taps: list[dict[str, Tensor]] = []
        for maps in self.refined(batch):
            taps = [maps] if self.feedback else [*taps, maps]
        vectors = {m: torch.cat([maps[m].mean((2, 3)) for maps in taps], dim=1) for m in self.modalities}
        alone = {}
        if self.per_modality:
            alone = {t: {m: head(vectors[m]) for m, head in heads.items()} for t, heads in self.heads.items()}
            predictions = {t: _mean(z, batch.mask) for t, z in alone.items()}
        else:
            joint = torch.cat(list(vectors.values()), dim=1)
            predictions = {t: head(joint) for t, head in self.heads.items()}
        extras = {'pooled': vectors, 'alone': alone}
        return self.noted(Outputs(self.joined(predictions), Features.of({}, size), extras))

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """``loss_<task>``, weighted; see `MultiTaskHost`."""
        if not self.per_modality:
            return super().losses(outputs, batch)
        targets, own, losses = self.targets(batch), batch.view(self.modalities), {}
        for task, predictions in outputs.extras['alone'].items():
            part = batch.replace(target=targets[task])
            losses[f'loss_{task}'] = sum(
                self.head_weights[task][m] * super(MultiTaskHost, self).unimodal_loss(z, part, rows)
                for (m, z), rows in zip(predictions.items(), own.present.unbind(1))
            )
        return losses

    def unimodal(self, outputs: Outputs) -> dict[str, Logits]:
        """Logits (B, K), or a dict of these, of each modality: of its own heads, or its share of the common ones. Both
        read what the last exchange gives a modality, which carries the others through the common attention map."""
        alone, vectors = outputs.extras['alone'], outputs.extras['pooled']
        if not self.per_modality:
            parts = len(self.modalities)
            alone = {
                t: {m: head.share(vectors[m], self.columns[m], parts) for m in self.modalities}
                for t, head in self.heads.items()
            }
        return {m: self.joined({t: z[m] for t, z in alone.items()}) for m in self.modalities}


def _mean(predictions: Mapping[str, Tensor], mask: Tensor) -> Tensor:
    """The mean over the modalities that are present: {m: (B, K)}, (B, M) -> (B, K)."""
    stacked = torch.stack(list(predictions.values()), dim=1)
    return stacked.where(mask[..., None], 0).sum(1) / over(mask.sum(1, keepdim=True))
