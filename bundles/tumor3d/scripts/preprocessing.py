"""Preprocessing of a subject, shared by training, inference and evaluation.

Doncenco 2022, sections 2.2 (grid, intensities) and 2.3 (condition).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.transforms import Compose, CopyItemsd, RandFlipd, SelectItemsd, Transform

from mrsynth.errors import UserError
from mrsynth.transforms import (
    BrainMaskd,
    CropResampled,
    EncodeSemanticd,
    LoadSubjectd,
    RescaleInsideBraind,
    SemanticLabeld,
    TissueClassesd,
    TumorTransplantd,
    condition_values,
)
from mrsynth.transforms.semantic import TUMOR

ENCODINGS = ("one_hot", "values")


def label_channels(condition: str, label_encoding: str) -> int:
    """Channels of the semantic label as the networks take it.

    Raises:
        UserError: an unknown condition or encoding.
    """
    if label_encoding not in ENCODINGS:
        raise UserError(
            f"label_encoding: one of {ENCODINGS}",
            repr(label_encoding),
            "label_encoding",
            "pass --label_encoding one_hot or --label_encoding values",
        )
    return len(condition_values(condition)) if label_encoding == "one_hot" else 1


def tumor_finder(condition: str, label_encoding: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that finds the tumor in the networks' condition: `(B, K, X, Y, Z)` to bool `(B, X, Y, Z)`.

    Raises:
        UserError: an unknown condition or encoding.
    """
    one_hot = label_channels(condition, label_encoding) > 1
    channels = [index for index, value in enumerate(condition_values(condition)) if value in TUMOR]

    def find(semantic: torch.Tensor) -> torch.Tensor:
        if one_hot:
            return semantic[:, channels].amax(dim=1) > 0.5
        return torch.isin(semantic[:, 0].round(), torch.tensor(TUMOR, device=semantic.device, dtype=semantic.dtype))

    return find


def preprocessing(
    spatial_size: Sequence[int], crop: str | Sequence[int], intensities: str, condition: str, interpolation: str
) -> Compose:
    """Deterministic part: from the files of a subject to ``image``, ``label``, ``brain`` (and ``tissue``).

    Args:
        spatial_size: grid, X, Y, Z.
        crop: see :class:`mrsynth.transforms.CropResampled`; the thesis's is ``[30, 125]``.
        intensities: ``percentiles`` or, as the thesis, ``minmax``.
        condition: ``tissue`` or, as the thesis, ``mask``.
        interpolation: of the images; the thesis's is ``nearest``.
    """
    return Compose([*load(), *to_grid(spatial_size, crop, intensities, condition, interpolation)])


def load() -> list[Transform]:
    """From the files of a subject to ``image``, ``label`` and ``brain`` on the native grid."""
    return [LoadSubjectd(), BrainMaskd()]


def to_grid(
    spatial_size: Sequence[int],
    crop: str | Sequence[int],
    intensities: str,
    condition: str,
    interpolation: str,
    labels: Sequence[str] = ("label",),
) -> list[Transform]:
    """From the native grid to the network's; ``labels`` are all label maps to take along. See `preprocessing`."""
    volumes = ["image", "brain", *labels]
    steps: list[Transform] = [
        CropResampled(volumes, spatial_size, crop, interpolation=[interpolation, *["nearest"] * (1 + len(labels))]),
        RescaleInsideBraind(mode=intensities),
    ]
    return steps + ([TissueClassesd()] if condition == "tissue" else [])


def transplanting(condition: str, label_encoding: str, align: bool, min_kept: float, flip: float = 0.0) -> Compose:
    """Random part: recipient and donor to ``own_condition`` and ``fused_condition``, and the labels behind them.

    Args:
        condition: ``tissue`` or ``mask``.
        label_encoding: ``one_hot`` or ``values`` (the thesis's single channel).
        align: map the donor's brain box onto the recipient's.
        min_kept: a transplant that keeps less of the tumor is redrawn; 0 redraws none.
        flip: probability that the recipient is mirrored left to right.
    """
    tissue = ["tissue"] if condition == "tissue" else []
    return Compose(
        [
            RandFlipd(["image", "label", "brain", *tissue], prob=flip, spatial_axis=0),
            TumorTransplantd(align=align, min_kept=min_kept),
            SemanticLabeld(["label", "transplanted"], ["own_condition", "fused_condition"], condition),
            EncodeSemanticd(["own_condition", "fused_condition"], condition, label_encoding == "one_hot"),
            SelectItemsd(
                ["image", "label", "transplanted", "own_condition", "fused_condition", "subject", "transplant"]
            ),
        ]
    )


def own_label(condition: str, label_encoding: str) -> Compose:
    """A subject as a test of the generator: ``image`` is its own label, encoded, and ``label`` the true MRI."""
    return Compose(
        [
            SemanticLabeld(["label"], ["own_condition"], condition),
            EncodeSemanticd(["own_condition"], condition, label_encoding == "one_hot"),
            CopyItemsd(["image", "label", "own_condition"], names=["truth", "tumor", "condition"]),
            SelectItemsd(["truth", "tumor", "condition", "brain", "subject"]),
            Rename({"condition": "image", "truth": "label"}),
        ]
    )


class Rename:
    """Give values of an item other keys."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def __call__(self, data: dict) -> dict:
        return {self.names.get(key, key): value for key, value in data.items()}
