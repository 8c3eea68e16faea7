"""The 3D U-Net: MONAI's DynUNet, which is nnU-Net's architecture.

Why this one: nnU-Net won BraTS 2020 (Isensee 2021) and, enlarged, BraTS 2021 (Luu and Park 2022), and it is the
baseline that every other segmenter is asked to beat. It is the U-Net of Cicek 2016 with instance norm, leaky ReLU,
strided convolutions in place of pooling, and transposed ones to go up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from monai.networks.nets import DynUNet
from torch import nn

from mrsynth.errors import UserError


def build_unet(
    filters: Sequence[int],
    patch_size: Sequence[int],
    deep_supervision: int = 0,
    in_channels: int = 4,
    out_channels: int = 4,
) -> DynUNet:
    """DynUNet with one resolution for each of ``filters``, halved from one to the next.

    Called with `(B, 4, X, Y, Z)`, sides multiples of ``2 ** (len(filters) - 1)``; returns logits `(B, 4, X, Y, Z)`.
    In training, with deep supervision, `(B, 1 + deep_supervision, 4, X, Y, Z)`, the final one first.

    Args:
        filters: channels at each resolution, finest first; nnU-Net's for BraTS: 32, 64, 128, 256, 320, 320.
        patch_size: of the training, checked against the resolutions.
        deep_supervision: how many coarser resolutions are supervised as well.
        in_channels: sequences.
        out_channels: classes.

    Raises:
        UserError: too few resolutions, or a patch that they do not divide.
    """
    levels = len(filters)
    stride = 2 ** (levels - 1)
    if levels < 3 or not 0 <= deep_supervision <= levels - 2:
        raise UserError(
            "at least three resolutions, and fewer supervised ones",
            f"filters {list(filters)}, deep_supervision {deep_supervision}",
            "filters, deep_supervision",
            'pass --filters "[16,32,64,128]" or longer, and a --deep_supervision of at most len(filters) - 2',
        )
    if len(patch_size) != 3 or any(n % stride or n < 2 * stride for n in patch_size):
        raise UserError(
            f"three sides, multiples of {stride} and at least {2 * stride}, for {levels} resolutions",
            str(list(patch_size)),
            "patch_size",
            f'pass --patch_size "{[2 * stride] * 3}" or larger multiples of {stride}, or fewer filters',
        )
    return DynUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=list(filters),
        norm_name=("instance", {"affine": True}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        deep_supervision=deep_supervision > 0,
        deep_supr_num=max(deep_supervision, 1),
    )


class DiceCrossEntropy(nn.Module):
    """Dice + cross-entropy, at each supervised resolution with half the weight of the finer one (Isensee 2021).

    Called with logits `(B, 4, X, Y, Z)`, or `(B, n, 4, X, Y, Z)` with deep supervision, and class indices
    `(B, 1, X, Y, Z)`. Dice is the mean of all four classes', the background's too, each of the whole batch together.
    """

    def __init__(self) -> None:
        super().__init__()
        loss = DiceCELoss(include_background=True, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5)
        self.loss = DeepSupervisionLoss(loss, weight_mode="exp")

    def forward(self, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar."""
        return self.loss(list(torch.unbind(logits, dim=1)) if logits.dim() == 6 else logits, classes)
