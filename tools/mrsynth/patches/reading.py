"""Reads the patches of a store as stacks of images to train on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrsynth.errors import UserError
from mrsynth.images import SubjectImages


class PatchRows:
    """Selected patches of one file of a store, converted to float32 in [-1, 1] when they are read.

    Args:
        file: ``.npy``, integers `(N, C, H, W)`, memory-mapped.
        rows: numbers of the selected patches.
        divide, subtract: scale of each channel; see :mod:`mrsynth.patches.store`.
    """

    def __init__(self, file: Path, rows: Sequence[int], divide: Sequence[float], subtract: Sequence[float]) -> None:
        self.file, self.rows = file, list(rows)
        self.array = np.load(file, mmap_mode="r", allow_pickle=False)
        self.divide, self.subtract = list(divide), list(subtract)
        self.scale = [torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (divide, subtract)]

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, C, H, W)`."""
        return (len(self.rows), *self.array.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return PatchRows(self.file, [self.rows[i] for i in index], self.divide, self.subtract)
        divide, subtract = self.scale
        return torch.from_numpy(self.array[self.rows[index]].astype(np.float32)) / divide - subtract


def read_store(store: str | os.PathLike) -> dict[str, Any]:
    """The index of a store, with ``sha256``, which identifies its patches independently of the folder.

    Args:
        store: the folder of a store, or its ``index.json``; see :mod:`mrsynth.patches.store`.

    Raises:
        UserError: the folder does not exist or is not a store.
    """
    path = index_of(store)
    expected, do = "a store of patches", "make one: python -m mrsynth patches --root DIR --out DIR"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(expected, f"no readable index.json ({error})", store, do) from error
    if missing := {"channels", "classes", "settings", "split", "items"} - set(content):
        raise UserError(expected, f"an index without {', '.join(sorted(missing))}, as of an older version", path, do)
    what = json.dumps([content["settings"], content["channels"], content["items"]], sort_keys=True)
    return {**content, "sha256": hashlib.sha256(what.encode()).hexdigest()}


def index_of(store: str | os.PathLike) -> Path:
    """The ``index.json`` of a store, given its folder or this file."""
    return Path(store) / "index.json" if Path(store).is_dir() else Path(store)


def patch_stacks(index: str | os.PathLike, section: str) -> list[SubjectImages]:
    """The patches of one section of a store, a stack for each subject.

    Args:
        index: ``index.json`` of the store; see :mod:`mrsynth.patches.store`.
        section: ``training``, ``validation`` or ``test``.

    Raises:
        UserError: no such store.
    """
    path, content = Path(index), read_store(index)
    scale = content["scale"]
    by_subject: dict[str, list[Mapping[str, Any]]] = {}
    for item in content["items"]:
        if item["section"] == section:
            by_subject.setdefault(item["subject"], []).append(item)
    return [
        SubjectImages(
            subject,
            PatchRows(path.parent / items[0]["file"], [i["row"] for i in items], scale["divide"], scale["subtract"]),
            [int(item["class"]) for item in items],
            [f"slice {item['slice']}" for item in items],
        )
        for subject, items in by_subject.items()
    ]
