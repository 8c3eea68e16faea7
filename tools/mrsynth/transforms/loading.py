"""A subject from disk: four sequences and a label, in the project's order and values, geometry kept."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError
from mrsynth.manifest.background import NoBackground, zero_background
from mrsynth.manifest.check import read_volume
from mrsynth.representation import ShowsParameters


class LoadSubjectd(ShowsParameters, MapTransform):
    """Load ``image`` (a list of files, one per sequence, or one 4D file) and ``label``.

    The item's own ``channels`` (which channel of a 4D file is which of :data:`~mrsynth.conventions.SEQUENCES`)
    and ``label_map`` (file value to the project's value), as the datalist states them, are applied.
    Images become `(C, X, Y, Z)` and labels `(1, X, Y, Z)` MetaTensors in the files' own integer type. A background
    that is not 0 becomes 0: see :func:`mrsynth.manifest.background.zero_background`.

    Args:
        keys: keys that hold file names; ``label`` among them is mapped.
        label_key: which of them is a label.

    Raises:
        UserError: a key or a file is missing, a file is damaged, the grids of a subject differ, an image has no
            constant background, or a label has an unknown value.
    """

    def __init__(
        self, keys: KeysCollection = ("image", "label"), label_key: str = "label", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        if not self.allow_missing_keys and not all(key in item for key in self.keys):
            there = " and ".join(str(key) for key in self.keys if key in item) or "none"
            raise UserError(
                f"files of {' and '.join(str(key) for key in self.keys)}",
                there,
                item.get("subject", "datalist"),
                "add them to the datalist, or leave the subject out",
            )
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
                arrays.append(array if key == self.label_key else _zero_background(array, file))
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


def _zero_background(array: np.ndarray, file: object) -> np.ndarray:
    """The volume, or each one of a 4D array, with background 0."""
    try:
        if array.ndim == 3:
            return zero_background(array)
        volumes = [zero_background(volume) for volume in np.moveaxis(array, -1, 0)]
    except NoBackground as error:
        do = "strip the skull or repair the file, or leave the subject out"
        raise UserError("a skull-stripped image with a constant background", str(error), file, do) from error
    same = all(volume.base is not None and np.shares_memory(volume, array) for volume in volumes)
    return array if same else np.stack(volumes, axis=-1)


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

    Examples:
        >>> import numpy as np
        >>> from mrsynth.transforms import map_labels
        >>> map_labels(np.array([0, 1, 3]), {0: 0, 1: 1, 2: 2, 3: 4})  # BraTS 2023 writes 3 for enhancing
        array([0, 1, 4], dtype=uint8)
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
            "pass --dataset with the release whose label values these are, or replace the label file",
        )
    return mapped
