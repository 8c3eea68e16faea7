"""Synthetic images on disk: stacks, each with a sidecar that states its origin.

``<output_dir>/synthetic/<id>.nii.gz`` holds up to ``stack`` images of one class, `(W, H, N)` or, of several channels,
`(W, H, N, C)`, float32 in [-1, 1]; ``<id>.json`` how it was made and of whom it descends; ``<id>.png`` shows it; and
``datalist.json`` lists all.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from tqdm import tqdm

from mrsynth.errors import UserError
from mrsynth.files import write_json
from mrsynth.images.per_class import record_of_class
from mrsynth.images.pictures import ContactSheet
from mrsynth.synthesis.provenance import Recipe, cleared
from mrsynth.training import ResultWriter
from mrsynth.transforms import write_nifti
from mrsynth.versions import NETWORKS, versions

logger = logging.getLogger(__name__)

COLUMNS = 10
"""Images in a row of a stack's picture."""


class ImageWriter(ResultWriter):
    """Ignite handler that writes the images a generator makes of a :class:`~mrsynth.images.LatentDataset`, in order.

    The same weights, seed and settings give the same bytes, in one run or in several.

    Args:
        output_dir: ``synthetic/`` is written below it, nothing elsewhere.
        record: of the weights, as ``load_weights`` returns it.
        settings: of data and network.
        seed: of the noise.
        count: images of each class.
        classes: their names.
        channels: names of the channels.
        stack: images a file (Cepa 2022 writes 100).
        only: the classes to make now, by name; None for all. Names and images of a stack do not depend on it, so a
            folder can be filled class by class.

    Raises:
        UserError: a class that there is not.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        record: Mapping[str, Any],
        settings: Mapping[str, Any],
        seed: int,
        count: int,
        classes: Sequence[str],
        channels: Sequence[str],
        stack: int = 100,
        only: Sequence[str] | None = None,
    ) -> None:
        if strangers := [name for name in only or [] if name not in classes]:
            raise UserError(
                f"classes among {list(classes)}", str(strangers), "only", f"pass --only \"['{next(iter(classes))}']\""
            )
        self.folder = Path(output_dir).expanduser().absolute() / "synthetic"
        self.record, self.classes, self.channels = record, list(classes), list(channels)
        self.count, self.stack = count, stack
        self.only = [number for number, name in enumerate(classes) if only is None or name in only]
        hashes = list(dict.fromkeys(record_of_class(record, name)["sha256"] for name in classes))
        weights = hashes[0] if len(hashes) == 1 else hashes
        recipe = {"weights": weights, "seed": seed, "count": count, "stack": stack, "settings": dict(settings)}
        self.recipe = Recipe(recipe)
        self.images: list[np.ndarray] = []
        self.wanted: list[tuple[str, int, range]] = []

    def stacks(self) -> list[tuple[str, int, range]]:
        """Name, class and image numbers of every file."""
        per_class = [
            range(self.count * c + first, self.count * c + min(first + self.stack, self.count))
            for c in range(len(self.classes))
            for first in range(0, self.count, self.stack)
        ]
        return [(f"Synthetic_{self.recipe.tag}_{i:04d}", r[0] // self.count, r) for i, r in enumerate(per_class)]

    def complete(self) -> set[int]:
        """Numbers of the images that are there, or not to be made now.

        Raises:
            UserError: the folder holds stacks made otherwise; or it cannot be written.
        """
        for entry in cleared(self.folder):
            if entry.suffix == ".json" and entry.name != "datalist.json":
                self.recipe.read(entry, self.folder)
        due = self._due()
        return {n for entry in self.stacks() if entry not in due for n in entry[2]}

    def __call__(self, engine: Engine) -> None:
        """Take the images of the iteration that has just ended, and write each stack that is full."""
        for output in engine.state.output:  # type: ignore[union-attr]
            name, of_class, numbers = self.wanted[0]
            self.images.append(torch.as_tensor(output["pred"]).float().cpu().numpy())
            self.bar.update()
            if len(self.images) == len(numbers):
                self.write(name, of_class, numbers, np.stack(self.images))
                self.images, self.wanted = [], self.wanted[1:]

    def write(self, name: str, of_class: int, numbers: Sequence[int], images: np.ndarray) -> None:
        """Write one stack, its sidecar last.

        Args:
            name: id.
            of_class: its images' class.
            numbers: of the images.
            images: `(N, C, H, W)` in [-1, 1].
        """
        array = images.transpose(3, 2, 0, 1)  # columns, rows, images, channels, as viewers of NIfTI expect
        write_nifti(self.folder / f"{name}.nii.gz", array[..., 0] if array.shape[3] == 1 else array, np.eye(4))
        rows = [images[i : i + COLUMNS, 0] for i in range(0, len(images), COLUMNS)]
        full = [np.concatenate([row, np.full((COLUMNS - len(row), *row.shape[1:]), -1.0)]) for row in rows]
        ContactSheet([(f"{i * COLUMNS + 1}", row) for i, row in enumerate(full)]).save(self.folder / f"{name}.png")
        write_json(self.folder / f"{name}.json", self.sidecar(name, of_class, numbers))

    def sidecar(self, name: str, of_class: int, numbers: Sequence[int]) -> dict[str, Any]:
        """Where the images of a stack come from: weights, training subjects, settings."""
        record = record_of_class(self.record, self.classes[of_class])
        return {
            "subject": name,
            "synthetic": True,
            "class": self.classes[of_class],
            "numbers": [int(n) for n in numbers],
            "channels": self.channels,
            "value_range": [-1, 1],
            "training_subjects": list(self.record["subjects"]),
            "weights": {k: v for k, v in record.items() if k in ("sha256", "version", "epoch", "metrics")},
            "versions": versions(NETWORKS),
            "made_by": self.recipe.content,
        }

    def finish(self) -> dict[str, Any]:
        """Write ``datalist.json``, say what was made, and return the datalist."""
        there = [entry for entry in self.stacks() if self._there(entry[0])]
        items = [
            {
                "subject": name,
                "image": str(self.folder / f"{name}.nii.gz"),
                "class": self.classes[of_class],
                "images": len(numbers),
                "derived_from": list(self.record["subjects"]),
            }
            for name, of_class, numbers in there
        ]
        name = f"{self.count} synthetic images of each of {len({item['class'] for item in items})} classes"
        path, datalist = self.recipe.write_datalist(self.folder, name, items)
        made = sum(len(numbers) for _, _, numbers in there)
        logger.info(f"\nMade:\n  images    {made} in {len(items)} stacks in {self.folder}\n  datalist  {path}")
        return datalist

    def _due(self) -> list[tuple[str, int, range]]:
        """The stacks that are wanted and not written yet."""
        return [entry for entry in self.stacks() if entry[1] in self.only and not self._there(entry[0])]

    def _there(self, name: str) -> bool:
        return all((self.folder / f"{name}{suffix}").is_file() for suffix in (".nii.gz", ".json"))

    def make_bar(self, engine: Engine) -> tqdm:
        """Of the images that are not there yet."""
        self.wanted = self._due()
        total = sum(len(numbers) for _, _, numbers in self.wanted)
        return tqdm(total=total, unit=" images", desc="synthesizing", file=sys.stdout)


class ImageCollector(ImageWriter):
    """An :class:`ImageWriter` that keeps the images in memory and writes no files.

    Attributes:
        made: of each stack its sidecar and its images `(N, C, H, W)` in [-1, 1].
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.made: list[tuple[dict[str, Any], np.ndarray]] = []

    def complete(self) -> set[int]:
        """Numbers of the images of other classes than those to make."""
        return {n for entry in self.stacks() if entry[1] not in self.only for n in entry[2]}

    def write(self, name: str, of_class: int, numbers: Sequence[int], images: np.ndarray) -> None:
        """Keep one stack."""
        self.made.append((self.sidecar(name, of_class, numbers), images))

    def _there(self, name: str) -> bool:
        return False
