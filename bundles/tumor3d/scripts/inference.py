"""Input of the generator at inference: pairs of subjects for a synthetic set, or a semantic label drawn by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.transforms import Compose, CopyItemsd, Lambdad, LoadImaged, SelectItemsd

from mrsynth.errors import UserError
from mrsynth.synthesis import OWN_TUMOR, InpaintingWeightd, OwnScaled
from mrsynth.transforms import CopyPasted, CropResampled, EncodeSemanticd, RescaleInsideBraind, SemanticLabeld

from .preprocessing import Rename, to_grid

LABELS = {"replace": "the donor's tumor", "keep": "the donor's tumor over the recipient's own"}
"""Content of the label for each value of ``own_tumor``."""

COMPOSE = ("brain", "tumor")
"""A whole new brain, or the tumor alone, inpainted into the recipient's own MRI."""


def composed(
    settings: Mapping[str, Any], compose: str, own_tumor: str, blend: float, variety: float = 0.0
) -> dict[str, Any]:
    """Settings in the sidecar of a subject: ``settings``, and those of variety and inpainting where they are used.

    Raises:
        UserError: an unknown value, or a tumor kept in a brain that is not.
    """
    if compose not in COMPOSE:
        raise UserError(
            f"compose: one of {COMPOSE}", repr(compose), "compose", "pass --compose brain or --compose tumor"
        )
    varied = {**settings, "variety": variety} if variety else dict(settings)
    if compose == "brain":
        if own_tumor != OWN_TUMOR[0]:
            raise UserError("compose: tumor", f"own_tumor: {own_tumor}", "own_tumor", "add --compose tumor")
        return varied
    facts = {"compose": compose, "own_tumor": own_tumor, "blend": blend, "label": LABELS.get(own_tumor)}
    return {**varied, "image": "the generator's tumor in the recipient's MRI", **facts}


def from_pair(
    settings: Mapping[str, Any],
    grid: str = "native",
    compose: str = "brain",
    own_tumor: str = "replace",
    blend: float = 2.0,
) -> Compose:
    """From a native recipient with ``transplanted`` to the generator's input ``image`` and what goes with it.

    Args:
        settings: those of :func:`mrsynth.settings.trained`.
        grid: that is written; what is inpainted into is on it.
        compose: one of :data:`COMPOSE`.
        own_tumor: see :class:`mrsynth.synthesis.InpaintingWeightd`.
        blend: the same.
    """
    names = ("spatial_size", "crop", "intensities", "condition", "interpolation")
    cut, *rest = to_grid(*[settings[name] for name in names], labels=("label", "transplanted"))
    keys = ["condition", "brain", "transplanted", "native", "subject"]
    steps = [cut, *rest]
    if compose == "tumor":
        own = CopyItemsd(
            ["image", "label", "brain", "transplanted"], names=["own_image", "own_label", "own_brain", "donor_label"]
        )
        # natively in the training grid's scale, which is what the generator speaks
        scaled = RescaleInsideBraind(
            "own_image", "own_brain", mode=settings["intensities"], ends_from=("image", "brain")
        )
        steps = [own, cut, scaled, *rest] if grid == "native" else [cut, *rest, own]
        steps.append(InpaintingWeightd(own_tumor, blend))
        keys += ["own_image", "generated", *(["label"] if own_tumor == "keep" else [])]
    return Compose(
        [
            *steps,
            SemanticLabeld(["transplanted"], ["condition"], settings["condition"]),
            EncodeSemanticd(["condition"], settings["condition"], settings["label_encoding"] == "one_hot"),
            SelectItemsd(keys),
            Rename({"condition": "image"}),
        ]
    )


COPIED = ("split", "spatial_size", "crop", "interpolation", "align", "min_kept")
"""Settings that concern subjects made without a network."""


def copied(settings: Mapping[str, Any], edge: float) -> dict[str, Any]:
    """Settings in the sidecar of a copy-pasted subject.

    Args:
        settings: with the keys of :data:`COPIED`.
        edge: see :func:`mrsynth.transforms.copy_paste.copy_paste`.
    """
    facts = {"image": "copy-paste: the donor's tumor in the recipient's MRI", "label": LABELS["keep"], "edge": edge}
    return {**{name: settings[name] for name in COPIED}, **facts}


def copy_pasted(settings: Mapping[str, Any], edge: float, grid: str) -> Compose:
    """From a native recipient with ``transplanted`` and ``donor`` to the ``image`` and ``label`` that are written.

    The training grid decides which pairs keep enough of the tumor, whatever ``grid`` is, so that these are the
    generator's pairs.

    Args:
        settings: with the keys of :data:`COPIED`.
        edge: softness of the tumor's edge, in mm.
        grid: ``native`` or ``training``.
    """
    keys, kinds = ["transplanted"], ["nearest"]
    if grid == "training":
        keys, kinds = ["image", "label", "brain", *keys], [settings["interpolation"], "nearest", "nearest", *kinds]
    return Compose(
        [
            CopyPasted(settings["align"], edge),
            CropResampled(keys, settings["spatial_size"], settings["crop"], interpolation=kinds),
            OwnScaled(),
            SelectItemsd(["image", "label", "brain", "transplanted", "native", "subject"]),
        ]
    )


def from_semantic(settings: Mapping[str, Any]) -> Compose:
    """From a file with a semantic label (see :mod:`mrsynth.transforms.semantic`) to the generator's input ``image``.

    For servers such as MONAI Label: the file is any grid's, and the image comes back on it.

    Args:
        settings: those of :func:`mrsynth.settings.trained`.
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
