"""Radiomics of 2D images, for the Frechet Radiomics Distance (Konz, Osuala et al. 2026, arXiv 2412.01496, version 1).

What pyradiomics measures of the image and of its wavelet parts: intensities, and textures that have names in the field.
The values have units of their own, from thousandths to billions, so a distance needs them shifted and scaled by mean
and standard deviation of the real set, as that paper does; columns that do not vary there are left out. The paper
publishes the natural logarithm of the distance; so computed, it is that of the package frd-score 1.0.1.

pyradiomics is no dependency of this package, since its releases on PyPI install by hand alone (:data:`INSTALL`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from mrsynth.errors import UserError

INSTALL = "pip install --no-build-isolation pyradiomics==3.0.1  (needs numpy, a C compiler and Python below 3.12)"

GLCM = (
    *("Autocorrelation", "JointAverage", "ClusterProminence", "ClusterShade", "ClusterTendency", "Contrast"),
    *("Correlation", "DifferenceAverage", "DifferenceEntropy", "DifferenceVariance", "JointEnergy", "JointEntropy"),
    *("Imc1", "Imc2", "Idm", "Idmn", "Id", "Idn", "InverseVariance", "MaximumProbability", "SumEntropy", "SumSquares"),
)

SETTINGS: dict[str, Any] = {
    "imageType": {"Original": {}, "Wavelet": {}},
    "featureClass": {"firstorder": None, "glcm": list(GLCM), "glrlm": None, "glszm": None, "ngtdm": None},
    "setting": {
        "normalize": True,
        "normalizeScale": 100,
        "voxelArrayShift": 300,
        "binWidth": 5,
        "interpolator": "sitkBSpline",
        "resampledPixelSpacing": [2, 2, 0],
        "padDistance": 10,
        "preCrop": True,
        "force2D": True,
        "force2Ddimension": 0,
        "label": 1,
    },
}
"""What version 1 of the distance sets for 2D images (frd-score 1.0.1). That names Laplacians of Gaussian besides, of
which pyradiomics makes none where an image is one slice."""


class Radiomics:
    """Called with images `(N, C, H, W)`; returns `(N, D)` float32, for each channel the values :attr:`names`.

    The whole image is measured, but for one pixel in its corner, as frd-score does where no mask is given.

    Args:
        channels: of the images, one after another; None for images of one.

    Raises:
        UserError: pyradiomics is not installed, or no channel is named; when called, channels that the images do not
            have, or an image that cannot be measured, such as one that is flat.
    """

    def __init__(self, channels: Sequence[int] | None = None) -> None:
        try:
            import radiomics
            from radiomics.featureextractor import RadiomicsFeatureExtractor
        except ImportError as error:
            raise UserError("the package pyradiomics", f"{error}", "features radiomics", INSTALL) from error
        logging.getLogger("radiomics").setLevel(logging.ERROR)
        if channels is not None and not channels:
            raise UserError("channels to measure", "none", "channels, features radiomics", "name one, or leave it out")
        self.channels = list(channels) if channels is not None else None
        self.extractor = RadiomicsFeatureExtractor(SETTINGS)
        self.names = list(self.measure(np.random.default_rng(0).random((64, 64))))
        self.dimensions = len(self.names) * len(self.channels or [0])
        seen = "one channel" if self.channels is None else f"channels {', '.join(map(str, self.channels))}"
        self.title = f"radiomics, FRD version 1 for 2D ({self.dimensions}), pyradiomics {radiomics.__version__}, {seen}"

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        wanted = self.channels if self.channels is not None else [0]
        if any(not 0 <= c < images.shape[1] for c in wanted) or (self.channels is None and images.shape[1] != 1):
            raise UserError(
                "images of one channel, or the names of channels that they have",
                f"{images.shape[1]} channels, of which {self.channels} are asked for",
                "channels, features radiomics",
                "give channels=[...], counted from 0",
            )
        rows = [[self.measure(image[c]).values() for c in wanted] for image in images.double().cpu().numpy()]
        return torch.tensor([[value for part in row for value in part] for row in rows]).float()

    def measure(self, image: np.ndarray) -> dict[str, float]:
        """Values by name of one channel `(H, W)`."""
        mask = np.ones((1, *image.shape), np.uint8)
        mask[0, 0, 0] = 0
        try:
            found = self.extractor.execute(sitk.GetImageFromArray(image[None]), sitk.GetImageFromArray(mask))
        except Exception as error:  # of any kind, by what goes wrong inside
            raise _unmeasurable(f"{type(error).__name__}: {error}") from error
        values = {name: number for name, value in found.items() if (number := _number(value)) is not None}
        if not np.isfinite(list(values.values())).all():
            raise _unmeasurable(f"no number for {[name for name, value in values.items() if not np.isfinite(value)]}")
        return values


def _unmeasurable(found: str) -> UserError:
    return UserError("images that pyradiomics can measure", found[:300], "images", "leave out flat or tiny images")


def _number(value: Any) -> float | None:
    """The values that the distance was published with: all numbers, including a few of pyradiomics' diagnostics."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
