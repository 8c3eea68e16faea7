"""Similarity of an image to its reference inside a region: MAE, PSNR and SSIM for each sequence."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric
from monai.metrics.regression import compute_ssim_and_cs
from torch.nn import functional as F

from mrsynth.representation import ShowsParameters

WINDOW = 7
"""Side of SSIM's window in voxels; Gaussian of 1.5 voxels."""


def ssim_map(fake: torch.Tensor, real: torch.Tensor, data_range: float = 2.0) -> torch.Tensor:
    """Structural similarity at every voxel, `(B, C, X, Y, Z)` each; the border is replicated."""
    channels, pad = fake.shape[1], [WINDOW // 2] * 6
    value, _ = compute_ssim_and_cs(
        F.pad(fake.float(), pad, mode="replicate").flatten(0, 1)[:, None],
        F.pad(real.float(), pad, mode="replicate").flatten(0, 1)[:, None],
        spatial_dims=3,
        kernel_size=(WINDOW,) * 3,
        kernel_sigma=(1.5,) * 3,
        data_range=data_range,
    )
    return value.reshape(-1, channels, *fake.shape[2:])


def fidelity(
    fake: torch.Tensor, real: torch.Tensor, regions: dict[str, torch.Tensor], data_range: float = 2.0
) -> dict[str, dict[str, torch.Tensor]]:
    """Compare ``fake`` with ``real`` inside regions.

    Args:
        fake: `(C, X, Y, Z)`, values in [-1, 1].
        real: likewise.
        regions: bool masks `(X, Y, Z)` by name; an empty one gives NaN.
        data_range: greatest minus least possible value.

    Returns:
        For each region ``mae``, ``psnr`` (dB) and ``ssim``, each `(C,)`.
    """
    similarity = ssim_map(fake[None], real[None], data_range)[0]
    difference = fake.float() - real.float()
    result = {}
    for name, mask in regions.items():
        inside = difference[:, mask]
        result[name] = {
            "mae": inside.abs().mean(dim=1),
            "psnr": 10 * torch.log10(data_range**2 / inside.square().mean(dim=1)),
            "ssim": similarity[:, mask].mean(dim=1),
        }
    return result


class BrainSSIM(ShowsParameters, CumulativeIterationMetric):
    """SSIM inside the brain, mean over sequences, for MONAI's evaluators: `(C, X, Y, Z)` images in [-1, 1].

    The brain is where the truth is not background, which is exactly -1 in every sequence.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import BrainSSIM
        >>> image = torch.rand(1, 4, 16, 16, 16) - 0.5
        >>> metric = BrainSSIM()
        >>> metric(image, image)
        tensor([[1.]])
    """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        if y is None:
            raise ValueError("BrainSSIM compares with a truth: y is None")
        values = []
        for fake, real in zip(_plain(y_pred), _plain(y), strict=True):
            brain = (real > -1).any(dim=0)
            values.append(ssim_map(fake[None], real[None])[0][:, brain].mean())
        return torch.stack(values)[:, None]

    def aggregate(self) -> torch.Tensor:  # type: ignore[override]
        """Mean over all images seen since the last reset."""
        return self.get_buffer().mean()  # type: ignore[union-attr]


def _plain(value: torch.Tensor) -> torch.Tensor:
    return value.as_tensor() if isinstance(value, MetaTensor) else value
