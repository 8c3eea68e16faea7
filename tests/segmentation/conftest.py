"""Segmenters that need no training: one knows the truth by heart, one never finds anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from mrsynth.segmentation import preprocessing
from mrsynth.training import SeededDataset


def truth(classes: torch.Tensor) -> torch.Tensor:
    """Logits `(4, X, Y, Z)` of class indices `(1, X, Y, Z)`."""
    return 20 * nn.functional.one_hot(classes[0].long(), 4).movedim(-1, 0).float()


class Oracle(nn.Module):
    """Knows each subject's label by its image."""

    def __init__(self, items: Sequence[dict], spatial_size: list[int] | None, crop: object) -> None:
        super().__init__()
        known = SeededDataset(items, preprocessing(spatial_size, crop), cache="none")
        self.known = [(item["image"].as_tensor(), truth(item["label"].as_tensor())) for item in known]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.stack([next(logits for seen, logits in self.known if torch.equal(seen, one)) for one in image])


class Blind(nn.Module):
    """Says background everywhere."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1, 1, 1).expand(-1, -1, *image.shape[2:])


@pytest.fixture(scope="session")
def oracle() -> Callable[..., nn.Module]:
    """Makes an :class:`Oracle`."""
    return Oracle


@pytest.fixture(scope="session")
def blind() -> nn.Module:
    """A :class:`Blind` segmenter."""
    return Blind()


@pytest.fixture(scope="session")
def items(brats, subjects_dir) -> list[dict]:
    """Datalist items of three subjects."""
    _, entry = brats
    return [entry(subjects_dir, f"BraTS2021_{index:05d}") for index in range(3)]
