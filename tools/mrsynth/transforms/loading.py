"""A subject from disk: four sequences and a label, in the project's order and values, geometry kept."""

from __future__ import annotations

import io
import os
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
import torch
from isal import igzip, igzip_lib
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError
from mrsynth.transforms.geometry import affine_of

DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    igzip_lib.IsalError,
    nibabel.filebasedimages.ImageFileError,
    nibabel.spatialimages.HeaderDataError,
    nibabel.wrapstruct.WrapStructError,
)
"""What the readers raise on a file that is missing, cut short or not an image."""


MOST_HEADER = 1 << 20
"""Bytes from the start of a file that surely hold its header and extensions."""


def read_volume(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Read a ``.nii``, ``.nii.gz`` or any format of SimpleITK (``.mha``).

    Returns:
        The voxels in the file's own type, ``(X, Y, Z)`` or ``(X, Y, Z, C)``, and the RAS affine (4x4).

    Raises:
        UserError: no such file, truncated, or not an image.
    """
    name = str(path)
    try:
        if name.endswith((".nii.gz", ".nii")):
            data = Path(path).read_bytes()
            # igzip inflates several times faster than zlib, and lets other threads run
            data = igzip.decompress(data) if name.endswith(".gz") else data
            image = nibabel.Nifti1Image.from_stream(io.BytesIO(memoryview(data)[:MOST_HEADER]))
            return _voxels(image.dataobj, data), np.asarray(image.affine, dtype=float)
        mha = sitk.ReadImage(name)
        return sitk.GetArrayFromImage(mha).T, affine_of(mha)
    except DAMAGED as error:  # type: ignore[misc]  # isal has no stubs
        raise UserError("a readable image", f"{type(error).__name__}: {error}", path, "fetch the file again") from error


def _voxels(proxy: Any, data: bytes) -> np.ndarray:
    """The voxels of an inflated NIfTI file, without a copy where they need no scaling.

    Args:
        proxy: the ``ArrayProxy`` that nibabel made of the file's beginning.
        data: the whole file.
    """
    count = int(np.prod(proxy.shape))
    if len(data) < proxy.offset + count * proxy.dtype.itemsize:
        raise EOFError(f"the file ends before its {count} voxels")
    voxels = np.frombuffer(data, proxy.dtype, count, proxy.offset).reshape(proxy.shape, order="F")
    if proxy.slope == 1 and proxy.inter == 0:
        return voxels
    return voxels * np.float32(proxy.slope) + np.float32(proxy.inter)


class LoadSubjectd(MapTransform):
    """Load ``image`` (a list of files, one per sequence, or one 4D file) and ``label``.

    The item's own ``channels`` (which channel of a 4D file is which of :data:`~mrsynth.conventions.SEQUENCES`)
    and ``label_map`` (file value to the project's value), as the datalist states them, are applied.
    Images become `(C, X, Y, Z)` and labels `(1, X, Y, Z)` MetaTensors in the files' own integer type.

    Args:
        keys: keys that hold file names; ``label`` among them is mapped.
        label_key: which of them is a label.

    Raises:
        UserError: a file is missing or damaged, the grids of a subject differ, or a label has an unknown value.
    """

    def __init__(
        self, keys: KeysCollection = ("image", "label"), label_key: str = "label", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        files: dict[Hashable, list] = {}
        for key in self.key_iterator(item):
            value = item[key]
            files[key] = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        flat = [file for group in files.values() for file in group]
        with ThreadPoolExecutor(max(1, min(len(flat), os.cpu_count() or 1))) as pool:
            volumes = iter(list(pool.map(read_volume, flat)))
        grid: tuple | None = None
        for key, group in files.items():
            arrays = []
            for file in group:
                array, affine = next(volumes)
                shape = array.shape[:3]
                if grid is None:
                    grid = (shape, affine, file)
                elif shape != grid[0] or not np.allclose(affine, grid[1], atol=1e-3):
                    raise UserError(
                        f"every file of a subject on the grid of {grid[2]} {grid[0]}",
                        f"grid {shape}, affine {affine.round(3).tolist()}",
                        file,
                        "resample the file onto the subject's grid, or leave the subject out",
                    )
                arrays.append(array)
            voxels = _stack(arrays)
            if key == self.label_key:
                voxels = map_labels(voxels, item.get("label_map"), group[0])
            elif item.get("channels") is not None and len(group) == 1:
                voxels = voxels[list(item["channels"])]  # type: ignore[call-overload]
            if key != self.label_key and voxels.shape[0] not in (1, len(SEQUENCES)):
                raise UserError(
                    f"{len(SEQUENCES)} sequences ({', '.join(SEQUENCES)})",
                    f"{voxels.shape[0]} channels",
                    group[0],
                    "state the order of the channels in the datalist's `channels`",
                )
            meta = {"filename_or_obj": str(group[0]), "spatial_shape": np.asarray(voxels.shape[1:])}
            item[key] = MetaTensor(torch.from_numpy(voxels), affine=torch.from_numpy(affine), meta=meta)
        return item


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    """Channel-first array of our own; the files' memory order (X fastest) is kept, since turning costs time."""
    if len(arrays) == 1 and arrays[0].ndim == 4:
        arrays = list(np.moveaxis(arrays[0], -1, 0))
    dtype = np.result_type(*arrays).newbyteorder("=")  # a file may have the other byte order, torch may not
    buffer = np.empty((len(arrays), *arrays[0].T.shape), dtype)
    for channel, array in enumerate(arrays):
        buffer[channel] = array.T
    return buffer.transpose(0, 3, 2, 1)


def map_labels(label: np.ndarray, label_map: Mapping[int, int] | None, where: object = "label") -> np.ndarray:
    """Label values of a file as the project's (uint8).

    Args:
        label: integer values, any shape.
        label_map: file value to project value; None keeps 0, 1, 2, 4. Background 0 is always 0.
        where: named in the error.

    Raises:
        UserError: a value that the map does not hold.
    """
    table = {0: 0, **({1: 1, 2: 2, 4: 4} if label_map is None else {int(k): int(v) for k, v in label_map.items()})}
    lookup = np.full(256, 255, dtype=np.uint8)
    for source, target in table.items():
        lookup[source] = target
    fractions = label.dtype.kind == "f" and bool((label != np.rint(label)).any())  # NaN among them
    bad = fractions or label.min() < 0 or label.max() > 255
    mapped = lookup[np.zeros_like(label, np.uint8) if bad else label.astype(np.uint8)]
    if bad or (mapped == 255).any():
        raise UserError(
            f"label values {sorted(table)}",
            f"values {np.unique(label)[:20].tolist()}",
            where,
            "state the dataset (its card holds the label map), or correct the label",
        )
    return mapped
