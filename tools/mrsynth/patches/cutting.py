"""From one woman's files to 64x64 patches: Haarburger 2019, section 3.

Intensities: as in the paper, there is no bias correction. Each series is mapped linearly to [0, 1023]: 0 (or the lowest
value, if there are negative ones) becomes 0, the 99.99th percentile inside the breasts becomes 1023, and brighter
values are clipped. All T1 images share one mapping, which keeps the enhancement; T2 has its own. The subtraction is the
difference of the mapped images, in [-1023, 1023].

A patch has rows and columns as a radiologist sees them: front at the top, the right side of the body on the left.
Pixels outside the image are 0.

Axes that shrink are smoothed accordingly. A lesion that falls between the voxels of the common grid is assigned to the
voxels that it touches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from mrsynth.errors import UserError
from mrsynth.manifest.check import AFFINE_TOLERANCE, read_volume
from mrsynth.patches.mask import find_breasts

HIGHEST = 1023
BRIGHTEST = 99.99
"""Percentile of the breasts' voxels that becomes 1023."""

SUBTRACTION = "sub"
"""Name of the channel t1_post1 - t1_pre."""


@dataclass(frozen=True)
class Examination:
    """One woman's images on the common grid.

    Attributes:
        channels: int16 `(C, X, Y, Z)`: the sequences in [0, 1023], then the subtraction in [-1023, 1023]; x points to
            the left of the body, y to the back, z to the head.
        lesions: `(X, Y, Z)`, 0 or a lesion's number.
        breasts: bool `(X, Y, Z)`.
        windows: the file values that became 0 and 1023, by series.
    """

    channels: np.ndarray
    lesions: np.ndarray
    breasts: np.ndarray
    windows: dict[str, tuple[float, float]]


def read_examination(item: Mapping[str, Any], sequences: Sequence[str], size: tuple[int, int, int]) -> Examination:
    """Read a subject and bring it to the common grid and intensities.

    Args:
        item: item of a datalist: ``subject``, ``image`` (a file for each sequence) and, if there are lesions, ``label``
            and ``lesions``.
        sequences: the sequence of each file; must include ``t1_pre`` and ``t1_post1``.
        size: voxels of the common grid, which covers the field of view of the files.

    Raises:
        UserError: a file cannot be read or used, grids differ, a lesion has no class, a class has no lesion, a lesion
            gets no voxel of its own on the common grid, or no breasts are found.
    """
    files = [*item["image"], *([item["label"]] if item.get("label") else [])]
    volumes, spacing = _read(files)
    label = volumes.pop() if item.get("label") else np.zeros(volumes[0].shape, dtype=np.uint8)
    label = _check_lesions(item, label)
    pre = sequences.index("t1_pre")
    extent = [count * step for count, step in zip(volumes[0].shape, spacing, strict=True)]
    images = [_resized(volume, size) for volume in volumes]
    lesions = _resized_lesions(label, size)
    if lost := sorted(set(np.unique(label)) - set(np.unique(lesions))):
        raise UserError(
            f"lesions that have a voxel of their own on a grid of {size[0]}x{size[1]}x{size[2]}",
            f"lesion {', '.join(map(str, lost))} of {item['subject']} shares all of its voxels with others",
            item["label"],
            f"pass a finer grid, for instance --size [{2 * size[0]},{2 * size[1]},{2 * size[2]}]",
        )
    steps = tuple(length / count for length, count in zip(extent, size, strict=True))
    breasts = find_breasts(images[pre], steps, item["image"][pre])
    channels = np.empty((len(images) + 1, *size), dtype=np.int16)
    windows = {}
    for series in sorted({name.split("_")[0] for name in sequences}):
        members = [number for number, name in enumerate(sequences) if name.split("_")[0] == series]
        windows[series] = low, high = _window([images[number] for number in members], breasts)
        for number in members:
            mapped = (images[number] - low) * np.float32(HIGHEST / (high - low))
            channels[number] = np.rint(np.clip(mapped, 0, HIGHEST, out=mapped), out=mapped)
    np.subtract(channels[sequences.index("t1_post1")], channels[pre], out=channels[-1])
    return Examination(channels, lesions, breasts, windows)


def lesion_centers(lesions: np.ndarray) -> list[tuple[int, int, int, int]]:
    """``(lesion, column, row, slice)`` of each lesion's center of mass in each slice that it crosses."""
    centers = []
    for number, box in enumerate(ndimage.find_objects(lesions), start=1):
        for level in range(box[2].start, box[2].stop) if box else ():
            part = lesions[box[0], box[1], level] == number
            if part.any():
                x, y = ndimage.center_of_mass(part)
                centers.append((number, round(box[0].start + x), round(box[1].start + y), level))
    return centers


def healthy_centers(
    examination: Examination, count: int, clear: int, rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """``(column, row, slice)`` of up to ``count`` random points in the breasts, with no lesion within ``clear`` x
    ``clear`` pixels around them."""
    found = examination.lesions > 0
    near = ndimage.maximum_filter(found, size=(clear, clear, 1), mode="constant") if found.any() else found
    places = np.flatnonzero(examination.breasts & ~near)
    chosen = np.sort(rng.choice(places, min(count, len(places)), replace=False))
    return [(int(x), int(y), int(z)) for x, y, z in zip(*np.unravel_index(chosen, found.shape), strict=True)]


def cut(channels: np.ndarray, column: int, row: int, level: int, size: int) -> np.ndarray:
    """The patch `(C, size, size)`, rows by columns, whose pixel ``(size // 2, size // 2)`` is the given one."""
    patch = np.zeros((len(channels), size, size), dtype=channels.dtype)
    low = np.array([column, row]) - size // 2
    start, stop = np.maximum(low, 0), np.minimum(low + size, channels.shape[1:3])
    into = [slice(a - c, b - c) for a, b, c in zip(start, stop, low, strict=True)]
    inside = channels[:, start[0] : stop[0], start[1] : stop[1], level]
    patch[:, into[1], into[0]] = inside.transpose(0, 2, 1)
    return patch


def _read(files: Sequence[str]) -> tuple[list[np.ndarray], list[float]]:
    """Volumes with their axes in LPS, and the voxel size in mm."""
    volumes, first = [], None
    for name in files:
        voxels, affine = read_volume(name)
        if voxels.ndim != 3 or voxels.dtype.kind not in "iufb":
            raise UserError(
                "a volume (X, Y, Z) of numbers",
                f"{voxels.dtype} {voxels.shape}",
                name,
                "convert the series again, or remove the subject from both tables",
            )
        if not np.isfinite(voxels).all():
            raise UserError(
                "finite voxels",
                "NaN or infinite voxels",
                name,
                "convert the series again, or remove the subject from both tables",
            )
        first = first or (name, voxels.shape, affine)
        if voxels.shape != first[1] or not np.allclose(affine, first[2], rtol=0, atol=AFFINE_TOLERANCE):
            raise UserError(
                f"all files of a subject on the grid of {Path(first[0]).name}: {first[1]}, "
                f"affine {np.round(first[2], 2).tolist()}",
                f"{voxels.shape}, affine {np.round(affine, 2).tolist()}",
                name,
                "resample the file to that grid (labels by nearest neighbor)",
            )
        turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("LPS"))
        volumes.append(nib.orientations.apply_orientation(voxels, turn))
    turned = nib.orientations.io_orientation(affine)[:, 0].astype(int)
    spacing = nib.affines.voxel_sizes(affine)
    return volumes, [float(spacing[list(turned).index(axis)]) for axis in range(3)]


def _check_lesions(item: Mapping[str, Any], label: np.ndarray) -> np.ndarray:
    """The label as whole numbers, after checking that its lesions are those with a class."""
    whole = np.rint(label).astype(np.int32)
    classes = item.get("lesions", {})
    there, known = set(map(int, np.unique(whole))) - {0}, set(map(int, classes))
    name = item["subject"]
    found = [f"lesion {number} of {name} has no class" for number in sorted(there - known)]
    found += [f"lesion {number} of {name} has a class and no voxel" for number in sorted(known - there)]
    if label.dtype.kind == "f" and not np.array_equal(whole, label):
        found = [f"label values of {name} are not whole numbers"]
    if found:
        raise UserError(
            "a class for each lesion in the label, and a lesion for each class",
            "; ".join(found),
            item.get("label", name),
            "edit lesions.csv so that it has one row for each lesion of the label, or replace the label file",
        )
    return whole


def _resized(volume: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """The same field of view in ``size`` voxels: trilinear, with antialiasing along axes that shrink."""
    if volume.shape == size:
        return volume.astype(np.float32)
    x, y, z = size
    slices = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None]  # one axis after the other
    planes = functional.interpolate(slices, size=(y, z), mode="bilinear", antialias=True).permute(0, 3, 1, 2)
    return functional.interpolate(planes, size=(x, y), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


def _resized_lesions(label: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """The same field of view in ``size`` voxels, by nearest neighbor. A lesion that gets no voxel in this way gets all
    voxels that it touches and that belong to no other lesion."""
    if label.shape == size:
        return label
    tensor = torch.from_numpy(np.ascontiguousarray(label, dtype=np.float32))[None, None]
    lesions = functional.interpolate(tensor, size=size, mode="nearest-exact")
    for number in np.setdiff1d(label, lesions):
        touched = functional.adaptive_max_pool3d((tensor == float(number)).float(), size) > 0
        lesions[touched & (lesions == 0)] = float(number)
    return lesions[0, 0].numpy().astype(label.dtype)


def _window(images: Sequence[np.ndarray], breasts: np.ndarray) -> tuple[float, float]:
    """The values that become 0 and 1023."""
    low = min(0.0, *(float(image.min()) for image in images))
    bright = np.percentile(np.concatenate([image[breasts] for image in images]), BRIGHTEST)
    return low, max(float(bright), low + 1e-6)
