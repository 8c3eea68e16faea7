"""Pictures of segmentations: the image with the true outline, and with the predicted one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from torch import nn

from mrsynth.conventions import SEQUENCES
from mrsynth.metrics import to_label
from mrsynth.training import Montage, MontageRow, tumor_center
from mrsynth.transforms.geometry import as_array

SHOWN = 2.5
"""Standard deviations from the mean of the brain that are shown as black and as white."""


def outlines(
    image: np.ndarray, affine: np.ndarray, label: np.ndarray, predicted: np.ndarray, name: str
) -> list[MontageRow]:
    """Two rows of a montage: the outlines of the true and of the predicted label, on the same planes.

    Args:
        image: `(4, X, Y, Z)`, mean 0 and standard deviation 1 inside the brain, 0 outside.
        affine: its affine.
        label: `(X, Y, Z)`, values 0, 1, 2, 4.
        predicted: predicted label, likewise.
        name: id of the subject.
    """
    outside = ~(image != 0).any(axis=0)
    shown = np.where(outside, -1, (image / SHOWN).clip(-1, 1))
    spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    center = tumor_center(label if (label > 0).any() else predicted)
    return [
        MontageRow(f"{name}\ntrue", shown, label, spacing, center),  # type: ignore[arg-type]
        MontageRow("predicted", shown, predicted, spacing, center),  # type: ignore[arg-type]
    ]


class SegmentationMontage:
    """The montage of a training: the same few subjects in each epoch.

    Args:
        network: the segmenter.
        subjects: preprocessed items; the first ``count`` are shown.
        device: device of the network.
        inferer: applies the network to a whole volume.
        count: number of subjects.
    """

    look_for = "predicted outlines that follow the true ones, region by region, and none far from the tumor"

    def __init__(
        self,
        network: nn.Module,
        subjects: Sequence[Mapping[str, Any]],
        device: torch.device | str,
        inferer: Inferer,
        count: int = 2,
    ) -> None:
        self.network, self.device, self.inferer = network, device, inferer
        self.items = [subjects[index] for index in range(min(count, len(subjects)))]

    @torch.no_grad()
    def __call__(self) -> Montage:
        """Two rows for each subject."""
        self.network.eval()
        rows = []
        for item in self.items:
            image = torch.as_tensor(item["image"])
            logits = self.inferer(image[None].to(self.device), self.network)[0].cpu()
            true = to_label(torch.as_tensor(item["label"])[0])
            predicted = to_label(torch.as_tensor(logits).argmax(dim=0))
            names = (as_array(image), as_array(item["image"].affine), as_array(true), as_array(predicted))
            rows += outlines(*names, name=str(item["subject"]))
        return Montage(rows, SEQUENCES)
