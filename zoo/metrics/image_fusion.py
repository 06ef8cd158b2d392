"""Image fusion, which has no true picture to compare with."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from registry import METRICS, InputError, unknown_name
from zoo.batch import Batch, Outputs
from zoo.colour import luma
from zoo.rows import to_device

from .distributed import all_reduce_max, all_reduce_sum
from .fusion_scores import PEAK, fusion_scores
from .metric import Metric

NAMES = ('EN', 'SD', 'AG', 'SF', 'MI', 'CC', 'SCD', 'PSNR', 'PSNR_fusion', 'SSIM', 'VIF', 'Qabf')
UNITS = {
    **dict.fromkeys(('EN', 'MI'), 'bit'),
    **dict.fromkeys(('PSNR', 'PSNR_fusion'), 'dB'),
    **dict.fromkeys(('SD', 'AG', 'SF', 'SCD', 'VIF'), ''),
}  # the others are shares of a perfect 1, in percent


@METRICS.register_module()
class ImageFusion(Metric):
    """Scores of fused pictures against their sources: the mean over pictures of everything in `fusion_scores`.

    **Which sources.** All that the data set delivered for a sample, also those that a sweep or a plugin took away from
    the host: then a lost modality shows. Against the visible source alone, a host without infrared would win by copying
    it. Of an attacked host the clean inputs are the sources. Samples with different numbers of sources do not compare:
    MI, SCD and VIF are sums over them.

    **Which score decides.** Qabf by default: what it counts are edges of the sources, and noise spoils them. EN, SD, AG
    and SF grow with any noise that is added, so a checkpoint chosen by them is a noisy one; PSNR is best for the plain
    mean of the sources. No score is safe alone: a copy of the source with the stronger edges has a high Qabf, MI, VIF
    and SSIM, and a low CC and SCD.

    **Which scale.** Qabf, SSIM and CC in percent, as all scores here: papers print a hundredth. The rest is as papers
    have it, PSNR on its own scale and as ``PSNR_fusion`` on theirs. See ``docs/image_fusion_metrics.md``.

    Args:
        score: The one that tables, model selection and the performance collapse rate use.
        also: Those that tables show beside it; result files have all.
        data_range: What is white in the sources as the data set delivers them: 255 for 8-bit pictures, 1 for pictures
            in 0..1; or modality to this.
        round_to_8bit: Score the fused picture and the sources as they are saved. Otherwise only histograms round.

    Attributes:
        restore: Takes a modality and its normalised input back to the data's own units; the engine says it. None where
            the inputs are not normalised.

    Raises:
        NameNotFound: An unknown score.
        InputError: A ``data_range`` that is not above 0.
    """

    task = 'fusion'
    units = UNITS

    def __init__(
        self,
        score: str = 'Qabf',
        also: Sequence[str] = ('CC', 'SCD', 'SSIM', 'VIF', 'AG', 'PSNR_fusion'),
        data_range: float | Mapping[str, float] = PEAK,
        round_to_8bit: bool = True,
    ) -> None:
        super().__init__()
        for name in (score, *also):
            if name not in NAMES:
                raise unknown_name('score of ImageFusion', name, NAMES)
        for value in data_range.values() if isinstance(data_range, Mapping) else [data_range]:
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
                raise InputError(f'data_range is what is white in the sources, above 0, got {data_range!r}.')
        self.name, self.also = score, tuple(name for name in also if name != score)
        self.data_range, self.round_to_8bit = data_range, round_to_8bit
        self.restore: Callable[[str, Tensor], Tensor] | None = None
        self.register_buffer('sums', torch.zeros(len(NAMES), dtype=torch.float64), persistent=False)
        self.register_buffer('count', torch.zeros((), dtype=torch.int64), persistent=False)
        # largest values on 0..255: how far the prediction and the sources leave it, and how far the sources reach
        self.register_buffer('reach', torch.full((3,), -torch.inf, dtype=torch.float64), persistent=False)

    @property
    def settings(self) -> dict[str, Any]:
        """What the scores depend on."""
        return {} if self.round_to_8bit else {'round_to_8bit': False}

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Fused pictures (B, 1, H, W) in 0..1; the sources are the inputs (B, 1, H, W), or (B, 3, H, W) in the order
        RGB, of which the luma counts.

        Raises:
            InputError: A prediction or an input of another shape, or modalities of different sizes.
            NameNotFound: A modality that ``data_range`` leaves out.
        """
        fused = outputs.prediction
        if not isinstance(fused, Tensor) or fused.ndim != 4 or fused.shape[1] != 1:
            got = tuple(fused.shape) if isinstance(fused, Tensor) else type(fused).__name__
            raise InputError(f'ImageFusion scores pictures (B, 1, H, W) in 0..1, got {got}.')
        columns = [i for i, m in enumerate(batch.modalities) if m in batch.inputs]
        here = to_device(batch.available[:, columns], fused.device)
        fused = PEAK * fused.double()
        sources = {batch.modalities[i]: self._source(batch, batch.modalities[i], fused) for i in columns}
        every = torch.cat(list(sources.values()), 1).where(here[:, :, None, None], 0.0)
        beyond = [(x - PEAK / 2).abs().amax() - PEAK / 2 for x in (fused, every)]  # NaN where there is one
        self.reach = torch.maximum(self.reach, torch.stack([*beyond, every.amax()]))
        if self.round_to_8bit:
            fused, sources = fused.round(), {m: x.round() for m, x in sources.items()}
        scores = fusion_scores(fused, sources, here)
        self.sums += torch.stack([scores[name].sum() for name in NAMES])
        self.count += len(fused)

    def _source(self, batch: Batch, modality: str, fused: Tensor) -> Tensor:
        """(B, 1, H, W) float64, 0..255."""
        x = batch.inputs[modality]
        if x.ndim != 4 or x.shape[1] not in (1, 3) or x.shape[2:] != fused.shape[2:]:
            raise InputError(
                f'ImageFusion compares pictures of one size, of one channel or RGB: the fused one is '
                f'{tuple(fused.shape)}, the input {modality!r} {tuple(x.shape)}.'
            )
        x = luma((self.restore(modality, x) if self.restore else x).double())
        white = self.data_range
        if isinstance(white, Mapping):
            if modality not in white:
                raise unknown_name('modality (in data_range of ImageFusion)', modality, white)
            white = white[modality]
        return x * (PEAK / white)

    def compute(self) -> dict[str, Tensor]:
        """All of `fusion_scores` by name; NaN without a picture.

        SSIM and VIF are NaN where pictures are too small for them, below 11 and 41 pixels. PSNR is infinite where a
        picture equals all its sources.

        Raises:
            InputError: Values that are not in 0..1 (prediction) or 0..``data_range`` (sources), or sources that are all
                black, as pictures in 0..1 would be with a ``data_range`` of 255.
        """
        # a NaN would get lost in a maximum over processes
        fused, sources, brightest = all_reduce_max(self.reach.nan_to_num(nan=torch.inf)).tolist()
        if fused > 0.5:
            raise InputError('Fused pictures hold values that are not in 0..1, or NaN.')
        if sources > 0.5:
            raise InputError(
                f'Sources hold values that are not in 0..data_range={self.data_range!r}, or NaN. It is what is white '
                'in the data as the data set delivers them, before normalisation.'
            )
        sums, count = all_reduce_sum(self.sums.clone()), all_reduce_sum(self.count.clone())
        if count and brightest <= 1:
            raise InputError(
                f'The sources reach {brightest:.3g} of 255 with data_range={self.data_range!r}: are they in 0..1? '
                'Then say data_range=1.'
            )
        return {name: v if name in UNITS else 100 * v for name, v in zip(NAMES, sums / count)}
