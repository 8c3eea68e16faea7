"""What the generator is given, and by whom: pairs of subjects for a synthetic set, or a label drawn by a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.transforms import Compose, CopyItemsd, Lambdad, LoadImaged, SelectItemsd

from mrsynth.transforms import CropResampled, EncodeSemanticd, SemanticLabeld

from .preprocessing import Rename, to_grid

DEFAULTS: dict[str, Any] = {
    "spatial_size": [56, 64, 56],
    "crop": "brain",
    "interpolation": "linear",
    "intensities": "percentiles",
    "condition": "tissue",
    "label_encoding": "one_hot",
    "align": True,
    "min_kept": 0.8,
    "generator": "spade",
    "feature_maps": 16,
}
"""Settings of network and input where there are no weights yet: those of ``train.json`` (a test holds them equal)."""

FREE = ("align", "min_kept")
"""Settings that concern the transplant alone, and may differ from training."""


def from_pair(settings: Mapping[str, Any]) -> Compose:
    """From a native recipient with ``transplanted`` to the generator's input ``image`` and what goes with it.

    Args:
        settings: with the keys of :data:`DEFAULTS`.
    """
    names = ("spatial_size", "crop", "intensities", "condition", "interpolation")
    grid = to_grid(*[settings[name] for name in names], labels=("label", "transplanted"))
    return Compose(
        [
            *grid,
            SemanticLabeld(["transplanted"], ["condition"], settings["condition"]),
            EncodeSemanticd(["condition"], settings["condition"], settings["label_encoding"] == "one_hot"),
            SelectItemsd(["condition", "brain", "transplanted", "native", "subject"]),
            Rename({"condition": "image"}),
        ]
    )


def from_semantic(settings: Mapping[str, Any]) -> Compose:
    """From a file with a semantic label (see :mod:`mrsynth.transforms.semantic`) to the generator's input ``image``.

    For servers such as MONAI Label: the file is any grid's, and the image comes back on it.

    Args:
        settings: with the keys of :data:`DEFAULTS`.
    """
    return Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            CopyItemsd(["image"], names=["brain"]),
            Lambdad("brain", lambda label: (label > 0).to(torch.uint8)),
            CopyItemsd(["brain"], names=["native_brain"]),
            CropResampled(["image", "brain"], settings["spatial_size"], settings["crop"]),
            EncodeSemanticd(["image"], settings["condition"], settings["label_encoding"] == "one_hot"),
        ]
    )
