"""MMANet's student: SF-MD with an auxiliary trunk that only training uses (CVPR 2023)."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from registry import HOSTS
from zoo.batch import Batch, Features, Outputs

from .presets import presets
from .sfmd import SFMD, Trunk


@HOSTS.register_module()
class MMANet(SFMD):
    """The deployment network of SF-MD, and beside its trunk a second one on the same masked, fused map.

    The auxiliary trunk's logits are ``outputs.extras['aux']`` in training mode; the plugin `MAR` trains it on the weak
    combinations of modalities, `MAD` distils a teacher, an `SFMD` trained on complete samples. Without `MAR` the
    auxiliary trunk gets a gradient of zero. At inference this is SF-MD, to the parameter: 13,182,554, and 24,332,380 in
    training.

    The official code computes this one logit tensor three times and calls the copies predictions of the three
    modalities. It is no prediction of a modality: here it is computed once, and the host offers no `unimodal`. For the
    same reason it has no light heads either: MWAM's gradient mode needs none.

    Args:
        modalities: See `SFMD`, as for all others.
        num_classes: K.
        encoder: The branch.
        in_chans: Channels of each modality's input.
        trunk_channels: Widths of both trunks' stages.
        loss: A loss of (logits, class indices).
        preset: ``'official'`` sets ``encode_on='all'``, where it is not given.
        data_preprocessor: See `MultimodalHost`.
        encode_on: See `MultimodalHost`.
    """

    offers = frozenset({'features', 'sample_losses'})
    offers_with: Mapping[str, str] = {}

    @presets(official={'encode_on': 'all'})
    def __init__(
        self,
        modalities: Sequence[str],
        num_classes: int = 2,
        encoder: str | Mapping = 'ResNetSEStem',
        in_chans: int | Mapping[str, int] = 3,
        trunk_channels: Sequence[int] = (256, 512),
        loss: str | Mapping = 'CrossEntropyLoss',
        preset: str | None = None,
        data_preprocessor: nn.Module | Mapping | None = None,
        encode_on: str = 'present',
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            encoder,
            in_chans,
            trunk_channels,
            loss,
            data_preprocessor=data_preprocessor,
            encode_on=encode_on,
        )
        channels = {m: e.out_channels for m, e in self.encoders.items()}
        self.aux['trunk'] = Trunk(channels, trunk_channels, num_classes)

    def decode(self, fused: Tensor, features: Features) -> Outputs:
        """-> logits (B, K); in training mode ``extras['aux']`` holds those of the auxiliary trunk."""
        outputs = super().decode(fused, features)
        if not self.training:
            return outputs
        return outputs._replace(extras={**outputs.extras, 'aux': self._through(self.aux['trunk'], fused)[0]})

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """``loss_task``, with a term of weight zero that gives the auxiliary trunk a gradient."""
        losses = {'loss_task': self.criterion(outputs.prediction, batch.target)}
        if (aux := outputs.extras.get('aux')) is not None:
            losses['loss_task'] = losses['loss_task'] + 0 * aux.sum()
        return losses
