"""From subjects to slices (Cepa 2022, "Data")."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import Compose

from mrsynth.images import CutSlicesd
from mrsynth.transforms import BrainMaskd, LoadSubjectd, RescaleInsideBraind

from .networks import SIZE

NAMES = ("split", "sequence", "plane", "slices", "best", "intensities", "latent_size", "dropout", "width", "upsampling")
"""Settings of data and network: keys of ``train.json`` that trained weights record."""


def preprocessing(
    sequence: str, plane: str, slices: Sequence[int] | None, best: int | None, intensities: str
) -> Compose:
    """From the files of a subject to its ``slices``; see :class:`mrsynth.images.CutSlicesd`."""
    return Compose(
        [
            LoadSubjectd(),
            BrainMaskd(),
            RescaleInsideBraind(mode=intensities),
            CutSlicesd(plane, slices, SIZE, [sequence], best=best),
        ]
    )
