"""Layers that several parts share."""

import torch.nn.functional as F
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of (B, C, ...); with one value for each channel it uses running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any number of dimensions from two."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)

    def _check_input_dim(self, x: Tensor) -> None:
        pass


def conv_norm_leaky(in_channels: int, out_channels: int, kernel_size: int = 3, dims: int = 2) -> nn.Sequential:
    """A convolution of the same size with bias, batch normalisation and leaky ReLU of slope 0.01.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Its side, odd.
        dims: 1 of sequences, 2 of maps, 3 of volumes.
    """
    return nn.Sequential(
        CONVOLUTIONS[dims - 1](in_channels, out_channels, kernel_size, padding=kernel_size // 2),
        BatchNorm(out_channels),
        nn.LeakyReLU(inplace=True),
    )


def conv_norm_act(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    """A convolution of the same size without bias, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def he_init_(module: nn.Module, skip: tuple[nn.Module, ...] = ()) -> None:
    """He's initialisation (arXiv:1502.01852; normal, fan out) of all linear layers and 2-D convolutions but depthwise
    ones and those in ``skip``, with biases of zero.

    Args:
        module: Changed in place.
        skip: Layers that ESANet leaves as torch makes them: those to classes, and those before a sigmoid.
    """
    for m in module.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)) and getattr(m, 'groups', 1) == 1 and m not in skip:
            nn.init.kaiming_normal_(m.weight, mode='fan_out', nonlinearity='relu')
            if m.bias is not None:
                nn.init.zeros_(m.bias)
