"""``python -m mrsynth compare REAL FAKE``: how real and how diverse images are, between two anchors."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mrsynth.conventions import SEQUENCES
from mrsynth.files import write_json
from mrsynth.images.pictures import sheet
from mrsynth.images.reading import read_images, read_volumes
from mrsynth.metrics import build_features, realism, realism_table
from mrsynth.training import check_writable, choose_device
from mrsynth.transforms.geometry import upright

logger = logging.getLogger(__name__)

SHOWN = 10
"""Images of each set on the contact sheet; of volumes their middle axial slice."""


def compare(
    real: str | os.PathLike,
    fake: str | os.PathLike,
    out: str | os.PathLike | None = None,
    features: str = "efficientnet_lite0",
    weights: str | os.PathLike | None = None,
    bundle: str | os.PathLike | None = None,
    channels: Sequence[int] | None = None,
    size: Sequence[int] | None = None,
    sequences: Sequence[str] = SEQUENCES,
    plane: str = "axial",
    crop: str | Sequence[int] = "none",
    value_range: Sequence[float] | None = None,
    count: int = 1000,
    draws: int = 10,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Compare synthetic images with real ones: two folders or two datalists.

    Args:
        real: folder of pictures (PNG, ...), arrays (.npy) or stacks (.nii.gz), or a datalist of subjects or stacks.
            With features of volumes (segmenter): a datalist of subjects, or the folder of a dataset.
        fake: the same for the synthetic images.
        out: folder for comparison.json, comparison.txt and comparison.png; without it nothing is written.
        features: efficientnet_lite0, inception_v3 or radiomics for images; segmenter for volumes.
        weights: file of inception_v3; for segmenter a bundle's models/model.pt, or the folder that contains models/.
        bundle: folder of the segmenter's bundle, such as bundles/unet3d, if its weights are elsewhere.
        channels: the three channels that the features see, if images have more.
        size: rows and columns to which images are resized; required for subjects. For volumes X, Y, Z.
        sequences: sequences of the subjects' slices; each becomes a channel.
        plane: plane of the subjects' slices.
        crop: part of a volume that is resampled to size: none (all of it), brain, or [first,end] axial slices.
        value_range: values that are black and white in pictures with more than 8 bits, such as [0,4095].
        count: number of images of each set in a draw.
        draws: number of draws.
        seed: seed of all draws.
        device: device for the features.
    """
    if out is not None:
        check_writable(out)
    if weights is not None and Path(weights).is_dir():
        weights = Path(weights) / "models" / "model.pt"
    built = build_features(features, weights, choose_device(device), channels=channels, bundle=bundle)
    first, second = (
        read_volumes(source, size, crop)
        if built.spatial_dims == 3
        else read_images(source, size, sequences, plane, value_range=value_range)
        for source in (real, fake)
    )
    result = {
        "real_source": str(real),
        "fake_source": str(fake),
        **realism(first, second, built, draws=draws, count=count, seed=seed, progress=lambda x: tqdm(x, desc="draws")),
    }
    text = realism_table(result)
    logger.info(text)
    if out is not None:
        folder = Path(out)
        write_json(folder / "comparison.json", result)
        (folder / "comparison.txt").write_text(text + "\n", encoding="utf-8")
        random = np.random.default_rng(seed)
        shown = [
            torch.stack([_picture_of(s[int(i)]) for i in random.permutation(len(s))[:SHOWN]]) for s in (first, second)
        ]
        names = [str(n) for n in range(shown[0].shape[1])]
        sheet([("real", shown[0]), ("synthetic", shown[1])], names).save(folder / "comparison.png")
        logger.info(f"\nMade in {folder}:\n  comparison.json, comparison.txt, comparison.png")
    return result


def _picture_of(image: torch.Tensor) -> torch.Tensor:
    """`(C, H, W)` of an image, or of the middle of a volume `(C, X, Y, Z)`."""
    if image.dim() == 3:
        return image
    return torch.from_numpy(upright(image[..., image.shape[-1] // 2].numpy(), axis=2).copy())
