"""Two ways to double the size of an image."""

from __future__ import annotations

from torch import nn

from mrsynth.errors import UserError

UPSAMPLING = ("transposed", "resize")
"""A transposed convolution, or nearest resize and a convolution, which leaves no grid (Odena 2016)."""


def doubling(before: int, after: int, upsampling: str, bias: bool = True) -> list[nn.Module]:
    """Layers from `(B, before, H, W)` to `(B, after, 2H, 2W)`.

    Args:
        before, after: channels.
        upsampling: one of :data:`UPSAMPLING`; the kernel is 4 x 4 with stride 2, or 3 x 3 after the resize.
        bias: whether the convolution has a bias.

    Raises:
        UserError: another upsampling.

    Examples:
        >>> import torch
        >>> from mrsynth.networks import doubling
        >>> upsample = torch.nn.Sequential(*doubling(8, 4, "resize"))
        >>> upsample(torch.zeros(1, 8, 5, 5)).shape
        torch.Size([1, 4, 10, 10])
    """
    if upsampling not in UPSAMPLING:
        raise UserError(
            f"upsampling: one of {UPSAMPLING}",
            repr(upsampling),
            "upsampling",
            f"pass --upsampling {UPSAMPLING[0]} or --upsampling {UPSAMPLING[1]}",
        )
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=bias)]
    return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(before, after, 3, padding=1, bias=bias)]
