"""The residual block of MAIL."""

from typing import Any

from torch import Tensor, nn

from .emila import EMILA


class ERLA(nn.Module):
    """Efficient residual learning attention (MAIL, Dhar et al., KDD 2026, Eq. 4): two `EMILA` with a norm between them
    and a pointwise convolution behind, around which the input goes by: (B, C_in, H, W) -> (B, C_out, H / s, W / s).

    Args:
        in_channels: C_in.
        out_channels: C_out; C_in by default.
        stride: s, of the first `EMILA`.
        pw_groups: Groups of the pointwise convolution.
        kwargs: Passed on to both `EMILA`.
    """

    def __init__(
        self, in_channels: int, out_channels: int | None = None, stride: int = 1, pw_groups: int = 1, **kwargs: Any
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        self.emila1 = EMILA(in_channels, out_channels, stride, **kwargs)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.emila2 = EMILA(out_channels, out_channels, **kwargs)
        self.pointwise = nn.Conv2d(out_channels, out_channels, 1, groups=pw_groups, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.skip = None
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / s, W / s)."""
        y = self.emila2(self.norm1(self.emila1(x)).relu_())
        # autograd keeps what goes into a norm and not what comes out of it, so the sum can take its place
        return self.norm2(self.pointwise(y)).add_(x if self.skip is None else self.skip(x)).relu_()
