"""Layers that several parts share."""

from torch import nn


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
