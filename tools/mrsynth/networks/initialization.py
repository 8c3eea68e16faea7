"""Initial weights."""

from __future__ import annotations

from torch import nn


def initialize_dcgan(network: nn.Module) -> None:
    """Draw weights from a normal distribution (mean 0, batch norm 1; sd 0.02), as Radford 2016, section 4."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
