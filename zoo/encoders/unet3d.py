"""The encoders of RFNet and mmFormer, by name."""

from collections.abc import Sequence

from registry import ENCODERS, InputError, unknown_name

from ..layers3d import Encoder3D, post_norm, pre_norm

BLOCKS = {'post_norm': post_norm, 'pre_norm': pre_norm}


@ENCODERS.register_module()
class UNet3D(Encoder3D):
    """The way down of a 3-D U-Net: (B, in_chans, D, H, W) -> maps (B, C_i, D / 2**i, H / 2**i, W / 2**i), finest first.

    Each level is a convolution, of stride 2 but for the first one, and a residual pair of 3x3x3 with instance
    normalisation and leaky ReLU, as in RFNet (Ding et al., ICCV 2021; 1,466,496 parameters with the defaults) and, with
    ``block='pre_norm'``, in mmFormer (arXiv:2206.02425; 1,473,216 with its five widths). There are no pretrained
    weights.

    Args:
        in_chans: Channels of the input.
        widths: Channels of the levels, finest first.
        block: ``'post_norm'``: convolution, normalisation, activation; or ``'pre_norm'``: normalisation, activation,
            convolution.
        padding: Of the convolutions: ``'reflect'``, which needs two voxels along each side of the coarsest map, or
            ``'zeros'``.

    Attributes:
        out_channels: ``widths``.
        reductions: The size of the input over that of each map.

    Raises:
        InputError: ``widths`` are not numbers above 0.
        NameNotFound: Another ``block`` or ``padding``.
    """

    def __init__(
        self,
        in_chans: int = 1,
        widths: Sequence[int] = (16, 32, 64, 128),
        block: str = 'post_norm',
        padding: str = 'reflect',
    ) -> None:
        if block not in BLOCKS:
            raise unknown_name('block of UNet3D', block, BLOCKS)
        if padding not in ('reflect', 'zeros'):
            raise unknown_name('padding of UNet3D', padding, ('reflect', 'zeros'))
        if not widths or min(widths) < 1:
            raise InputError(f'widths of UNet3D are one or more numbers of channels above 0, got {tuple(widths)}.')
        super().__init__(in_chans, widths, BLOCKS[block], padding)
        self.out_channels = list(widths)
        self.reductions = [2**i for i in range(len(widths))]
