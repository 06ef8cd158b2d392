"""Multi-scale convolution with channel attention."""

import torch
from torch import Tensor, nn

from registry import unknown_name

from .channel_attention import ChannelAttention
from .msgdc import MSGDC

FORMS = ('official', 'paper')
PROJECTIONS = ('always', 'auto')


class EMILA(nn.Module):
    """Efficient multi-scale information learning attention (MAIL, Dhar et al., KDD 2026, Eq. 1 to 3):
    (B, C_in, H, W) -> (B, C_out, H / s, W / s).

    The authors' code and paper differ. The code: convolutions of several sizes, mixed and normalised, then channel
    attention; a normalised projection of the input is added, then ReLU. The paper's Eq. 3: attention over the
    concatenated scales before they are mixed, no norm and no ReLU, and the input itself is added. The first has the
    published size.

    Args:
        in_channels: C_in.
        out_channels: C_out; C_in by default.
        stride: s.
        form: ``'official'`` or ``'paper'``.
        proj: Whether the input is projected, in the official form: ``'always'``, or ``'auto'``, where shapes change, as
            in the other form.
        groups: See `MSGDC`.
        fuse_groups: See `MSGDC`.
        reduction: See `ChannelAttention`.
        descriptor: See `ChannelAttention`.
        bias: Of the convolutions of several sizes.

    Raises:
        NameNotFound: An unknown form or descriptor, or an unknown value of ``proj``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        form: str = 'official',
        proj: str = 'always',
        groups: int = 16,
        fuse_groups: int = 2,
        reduction: int = 4,
        descriptor: str = 'paper',
        bias: bool = False,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise unknown_name('form of EMILA', form, FORMS)
        if proj not in PROJECTIONS:
            raise unknown_name('kind of projection (proj)', proj, PROJECTIONS)
        out_channels = in_channels if out_channels is None else out_channels
        self.official = form == 'official'
        self.msgdc = MSGDC(in_channels, out_channels, stride, groups, fuse_groups, bias=bias)
        width = out_channels if self.official else self.msgdc.fuse.in_channels
        self.attention = ChannelAttention(width, reduction, descriptor)
        self.norm = nn.BatchNorm2d(out_channels) if self.official else None
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels or (self.official and proj == 'always'):
            self.skip = nn.Conv2d(in_channels, out_channels, 1, stride, bias=bias and self.official)
            if self.official:
                self.skip = nn.Sequential(self.skip, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / s, W / s)."""
        skip = self.skip(x)
        if not self.official:
            return skip + self.msgdc.fuse(self.attention(self.msgdc.scales(x)))
        y = self.norm(self.msgdc(x))
        return torch.addcmul(skip, y, self.attention.gate(y)).relu_()  # weighted and added in one pass
