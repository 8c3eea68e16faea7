"""Slices of a subject's volumes: chosen, resized and turned as a radiologist views them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Transform
from torch.nn import functional as F

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters
from mrsynth.transforms import BrainMaskd, LoadSubjectd, RescaleInsideBraind
from mrsynth.transforms.geometry import as_array, upright

PLANES = ("sagittal", "coronal", "axial")
"""By the axis that is cut: X, Y, Z of an LPS volume."""

KEEP = ("all", "tumor", "healthy")
"""Which slices: all, those with tumor alone, those without alone."""


class CutSlicesd(ShowsParameters, Transform):
    """Cut ``image`` `(C, X, Y, Z)` in [-1, 1] into ``slices`` `(N, S, H, W)`, float16, background exactly -1.

    Beside them come ``numbers`` (the slices' own) and ``tumor`` (whether each shows any), lists of N; the volumes
    ``image``, ``brain`` and ``label`` go. A subject without a label shows no tumor.

    Args:
        plane: ``sagittal``, ``coronal`` or ``axial``.
        slices: first and last number, from 0, on a grid of 1 mm such as BraTS's; on another grid the slices at the
            same millimeters. Han 2018 takes sagittal 80 to 149. None: all.
        best: of these the block of so many that shows the most brain and tumor: the greatest sum of each slice's
            brain area as a share of the subject's largest and its tumor area likewise (Cepa 2022 takes 48 "due to
            their better representation of the brain and tumor structures"; the rule is ours). None: all.
        size: rows and columns; each slice is stretched to them, linearly and without aliasing.
        sequences: names of those wanted, in this order.
        keep: one of :data:`KEEP`.
        least_brain: brain area that a slice needs, as a share of the subject's largest.

    Raises:
        UserError: an unknown plane, sequence or ``keep``; slices outside the volume; fewer than ``best``.
    """

    def __init__(
        self,
        plane: str,
        slices: Sequence[int] | None,
        size: Sequence[int],
        sequences: Sequence[str] = SEQUENCES,
        best: int | None = None,
        keep: str = "all",
        least_brain: float = 0.0,
    ) -> None:
        for name, value, known in (("plane", plane, PLANES), ("keep", keep, KEEP)):
            if value not in known:
                raise UserError(f"{name}: one of {known}", repr(value), name, f"pass --{name} {known[0]}")
        unknown = [name for name in sequences if name not in SEQUENCES]
        if unknown or not sequences or isinstance(sequences, str):
            raise UserError(
                f"sequences: some of {SEQUENCES}", str(sequences), "sequences", "pass --sequences \"['t1']\""
            )
        if slices is not None and not (len(slices) == 2 and 0 <= slices[0] <= slices[1]):
            raise UserError("slices: the first and the last", str(slices), "slices", "give for instance [80,149]")
        if best is not None and best < 1:
            raise UserError("best: at least 1", str(best), "best", "pass --best 10")
        self.axis, self.slices, self.size = PLANES.index(plane), slices, rows_and_columns(size)
        self.channels, self.best, self.keep = [SEQUENCES.index(name) for name in sequences], best, keep
        self.least_brain = least_brain

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        image, brain = item.pop("image"), as_array(item.pop("brain"))[0] > 0
        tumor = as_array(item.pop("label"))[0] > 0 if "label" in item else np.zeros_like(brain)
        subject = item.get("subject", "subject")
        numbers = self._numbers(brain.shape, as_array(image.affine), subject)
        others = tuple(axis for axis in range(3) if axis != self.axis)
        areas, tumors = brain.sum(axis=others), tumor.sum(axis=others)
        numbers = [n for n in numbers if areas[n] >= self.least_brain * areas.max()]
        if self.keep != "all":
            numbers = [n for n in numbers if (tumors[n] > 0) == (self.keep == "tumor")]
        if self.best is not None:
            numbers = self._block(numbers, areas, tumors, subject)
        pictures = upright(np.moveaxis(as_array(image), 1 + self.axis, 0)[numbers][:, self.channels], self.axis)
        masks = upright(np.moveaxis(brain, self.axis, 0)[numbers], self.axis)
        item["slices"] = MetaTensor(self._resize(pictures, masks))
        item["numbers"] = [int(n) for n in numbers]
        item["tumor"] = [bool(tumors[n]) for n in numbers]
        return item

    def _numbers(self, shape: tuple[int, ...], affine: np.ndarray, subject: object) -> list[int]:
        """The slices at the millimeters asked for."""
        count, spacing = shape[self.axis], float(np.linalg.norm(affine[:3, self.axis]))
        if self.slices is None:
            return list(range(count))
        first, last = self.slices
        if last >= count * spacing:
            raise UserError(
                f"slices {first} to {last} of the plane {PLANES[self.axis]}",
                f"{count} slices of {spacing:g} mm",
                subject,
                f"give slices up to {int(count * spacing) - 1}",
            )
        found = [n for n in range(count) if first - 1e-3 <= n * spacing <= last + 1e-3]
        return found or [min(count - 1, round(first / spacing))]

    def _block(self, numbers: list[int], areas: np.ndarray, tumors: np.ndarray, subject: object) -> list[int]:
        """The ``best`` neighbors of greatest score."""
        wanted = self.best or 0
        if len(numbers) < wanted:
            raise UserError(
                f"at least {wanted} slices to choose from", str(len(numbers)), subject, "lower best, or widen slices"
            )
        score = areas / max(int(areas.max()), 1) + tumors / max(int(tumors.max()), 1)
        sums = np.convolve(score[numbers], np.ones(wanted), mode="valid")
        first = int(sums.argmax())
        return numbers[first : first + wanted]

    def _resize(self, pictures: np.ndarray, masks: np.ndarray) -> torch.Tensor:
        """`(N, S, H, W)` of slices and their masks `(N, H, W)` as they are."""
        if not len(pictures):
            return torch.empty((0, len(self.channels), *self.size), dtype=torch.float16)
        images = torch.from_numpy(np.ascontiguousarray(pictures, dtype=np.float32))
        inside = torch.from_numpy(np.ascontiguousarray(masks, dtype=np.float32))[:, None]
        if images.shape[2:] != self.size:
            images = resized(images, self.size)
            inside = F.interpolate(inside, self.size, mode="nearest-exact")
        return torch.where(inside > 0, images.clamp(-1, 1), -1).to(torch.float16)


def slice_preprocessing(*, intensities: str = "percentiles", label: bool = True, **cut: Any) -> Compose:
    """From the files of a subject to its ``slices``.

    Args:
        intensities: how they come to [-1, 1]; see :class:`~mrsynth.transforms.RescaleInsideBraind`.
        label: whether every subject must have one.
        cut: settings of :class:`CutSlicesd`.
    """
    load = LoadSubjectd(allow_missing_keys=not label)
    return Compose([load, BrainMaskd(), RescaleInsideBraind(mode=intensities), CutSlicesd(**cut)])


def rows_and_columns(size: Sequence[int]) -> tuple[int, int]:
    """Check the ``size`` of 2D images: rows and columns.

    Raises:
        UserError: anything else.
    """
    two = isinstance(size, (list, tuple)) and len(size) == 2
    if not two or any(not isinstance(n, int) or n < 1 for n in size):
        raise UserError("rows and columns", str(size), "size", "give for instance [64,64]")
    return size[0], size[1]


def resized(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize images `(N, C, H, W)` to ``size`` by linear interpolation, with antialiasing where they shrink."""
    if images.shape[2:] == size:
        return images
    shrinks = any(new < old for new, old in zip(size, images.shape[2:], strict=True))
    return F.interpolate(images, size, mode="bilinear", antialias=shrinks)
