"""Diversity of a set of images: the mean MS-SSIM of random pairs.

Odena et al. 2017, "Conditional image synthesis with auxiliary classifier GANs".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim

from mrsynth.errors import UserError
from mrsynth.metrics.samples import image_batches

WINDOW = 11
"""Side of SSIM's Gaussian window in pixels, at each scale; its standard deviation is 1.5."""

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales, from the finest to the coarsest (Wang, Simoncelli, Bovik 2003).

Where not all scales fit, the weights of those that do are brought to a sum of 1.
"""


def scales_for(size: Sequence[int]) -> int:
    """The number of the five scales that fit an image of ``size`` pixels, since the window must fit at each (MONAI's
    count).

    Five from 176 pixels along the shortest axis, four from 99, three from 44, two from 22, one from 11, none below.
    """
    fits = (min(size) // max(2 ** (n - 1), (n - 1) ** 2) >= WINDOW for n in range(1, len(WEIGHTS) + 1))
    return sum(fits)


def ms_ssim_variety(
    images: torch.Tensor | Sequence[torch.Tensor], *, pairs: int = 100, seed: int = 0, data_range: float = 2.0
) -> dict[str, float]:
    """Mean multi-scale structural similarity of random pairs of one set's images.

    From 0 (nothing in common) to 1 (all the same). Lower is more diverse, but fake images should be as diverse as real
    ones and not more, so compute both and compare: a fake value well above the real one is mode collapse. Images of
    another size have other scales and cannot be compared.

    Args:
        images: `(N, C, H, W)` or volumes `(N, C, X, Y, Z)`, or anything with a length and `(C, H, W)` by index, such as
            a data set; only the drawn ones are read.
        pairs: how many different pairs of two different images, at most; fewer where there are no more.
        seed: of the pairs.
        data_range: greatest less least possible intensity.

    Returns:
        ``mean`` and ``sd`` over the pairs; ``pairs``; ``images`` (N); ``scales`` and ``window``, as they suit the size;
        ``seed``.

    Raises:
        UserError: fewer than two images, no pairs asked for, mixed sizes, fewer than 11 pixels along an axis, or
            intensities that are not finite.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import ms_ssim_variety
        >>> image = torch.rand(1, 1, 176, 176) * 2 - 1
        >>> round(ms_ssim_variety(image.repeat(4, 1, 1, 1), pairs=2)["mean"], 2)  # mode collapse: all images are one
        1.0
    """
    count = len(images)
    if count < 2 or pairs < 1:
        raise UserError(
            "two images and one pair or more",
            f"{count} images, {pairs} pairs",
            "the images whose variety is measured",
            "give two images or more and pairs=1 or more, or omit this measure",
        )
    drawn = _pairs(count, pairs, np.random.default_rng(seed))
    stream = image_batches(
        (torch.as_tensor(images[int(i)])[None].contiguous() for i in drawn.ravel()), least_size=WINDOW
    )
    values = []
    for one, other in zip(stream, stream, strict=True):  # two at a time
        scales = scales_for(one.shape[2:])
        weights = np.divide(WEIGHTS[:scales], sum(WEIGHTS[:scales]))
        values.append(
            float(
                compute_ms_ssim(
                    one, other, one.ndim - 2, data_range=data_range, kernel_size=WINDOW, weights=weights.tolist()
                )
            )
        )
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "pairs": len(values),
        "images": count,
        "scales": scales,
        "window": WINDOW,
        "seed": seed,
    }


def _pairs(count: int, most: int, random: np.random.Generator) -> np.ndarray:
    """Indices `(pairs, 2)` of ``most`` different pairs of ``count`` images, or of all pairs."""
    total = count * (count - 1) // 2
    drawn = np.arange(total) if total <= most else random.choice(total, most, replace=False)
    step, first = np.divmod(
        drawn, count
    )  # each pair is one image and one that stands 1 to count / 2 after it, in a ring
    return np.stack([first, (first + step + 1) % count], axis=1)
