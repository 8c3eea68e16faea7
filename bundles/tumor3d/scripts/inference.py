"""What the generator is given, and by whom: pairs of subjects for a synthetic set, or a label drawn by a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose, CopyItemsd, Lambdad, LoadImaged, SelectItemsd

from mrsynth.transforms import CropResampled, EncodeSemanticd, SemanticLabeld

from .preprocessing import Rename, to_grid

NAMES = (
    "split",
    "spatial_size",
    "crop",
    "interpolation",
    "intensities",
    "condition",
    "label_encoding",
    "align",
    "min_kept",
    "generator",
    "feature_maps",
)
"""Settings of data, network, input and transplant: keys of ``train.json`` that trained weights record."""

FREE = ("split", "align", "min_kept")
"""Settings that do not concern the network, and may differ from training."""


def defaults() -> dict[str, Any]:
    """Values of :data:`NAMES` where there are no weights yet: those of ``train.json``."""
    training = json.loads((Path(__file__).parents[1] / "configs" / "train.json").read_text(encoding="utf-8"))
    return {name: training[name] for name in NAMES}


def from_pair(settings: Mapping[str, Any]) -> Compose:
    """From a native recipient with ``transplanted`` to the generator's input ``image`` and what goes with it.

    Args:
        settings: with the keys of :data:`NAMES`.
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
        settings: with the keys of :data:`NAMES`.
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
