"""From examinations to patches (Haarburger 2019, section 3)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from mrsynth.errors import UserError
from mrsynth.images import ImageDataset
from mrsynth.manifest import SECTIONS, check_lineage
from mrsynth.metrics.realism import LEAST
from mrsynth.patches import cut_patches, patch_stacks

NAMES = ("split", "grid", "healthy", "classes", "condition_critic", "latent_size", "width")
"""Settings of data and network: keys of ``train.json`` that trained weights record."""


def store(
    dataset_dir: str | os.PathLike,
    patches: str | os.PathLike | None,
    output_dir: str | os.PathLike,
    grid: Sequence[int],
    healthy: int,
    split: Mapping[str, Any],
) -> Path:
    """The index of the patches: of those that are there, or cut now from ``dataset_dir`` below ``output_dir``.

    Raises:
        UserError: no such store, or what :func:`mrsynth.patches.cut_patches` raises.
    """
    if patches:
        index = Path(patches) / "index.json" if Path(patches).is_dir() else Path(patches)
        if not index.is_file():
            raise UserError(
                "a store of patches",
                "no index.json",
                patches,
                "make one: python -m mrsynth patches --root DIR --out DIR",
            )
        return index
    folder = Path(output_dir) / "patches"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(".patches.lock")):  # of several processes one cuts
        return cut_patches(dataset_dir, folder, size=grid, healthy=healthy, **split)


def watched(index: str | os.PathLike, classes: Sequence[str]) -> ImageDataset:
    """What synthetic patches are measured against while training: the validation part, where each class has patches
    enough there, and else the training part (the paper measured against all it had)."""
    validation = ImageDataset(patch_stacks(index, "validation"))
    counts = [validation.classes.count(number) for number in range(len(classes))]
    return validation if min(counts) >= LEAST else ImageDataset(patch_stacks(index, "training"))


def subjects_of(index: str | os.PathLike) -> dict[str, list[dict[str, Any]]]:
    """The subjects of a store by section, as a datalist has them.

    Raises:
        UserError: one of them, or her relative, on two sides of the split.
    """
    items = json.loads(Path(index).read_text(encoding="utf-8"))["items"]
    sections: dict[str, dict[str, dict[str, Any]]] = {section: {} for section in SECTIONS}
    for item in items:
        known = {key: item[key] for key in ("subject", "patient", "derived_from") if item.get(key)}
        sections[item["section"]].setdefault(item["subject"], known)
    found = {section: list(subjects.values()) for section, subjects in sections.items()}
    check_lineage(found, where=str(index))
    return found
