"""Synthetic subjects on disk, in the layout of their dataset, each with a sidecar that states its origin.

``<output_dir>/synthetic/<id>/<id>_{t1,t1ce,t2,flair,seg}.nii.gz`` and ``<id>.json``, and
``<output_dir>/synthetic/datalist.json`` to train a segmenter with. A subject's folder is complete or absent.
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
from monai.data import MetaTensor
from tqdm import tqdm

from mrsynth.checks import shorten
from mrsynth.conventions import LABELS, SEQUENCES
from mrsynth.errors import UserError
from mrsynth.files import atomic_folder, write_json
from mrsynth.manifest import in_section
from mrsynth.synthesis.intensities import mapping, own_scale
from mrsynth.synthesis.provenance import Recipe, cleared, digest
from mrsynth.training import ResultWriter
from mrsynth.transforms import check_grid_name, header_of, write_nifti
from mrsynth.transforms.geometry import as_array
from mrsynth.versions import NETWORKS, versions

logger = logging.getLogger(__name__)


def parents_in(
    subjects: Mapping[str, Sequence[Mapping[str, Any]]], section: str, record: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Recipients and donors: the items of ``section``; the weights, if any, must have been trained on all of them.

    Args:
        subjects: datalist items by section.
        section: usually ``training``.
        record: record of the weights, with ``subjects``; None without weights.

    Raises:
        UserError: as :func:`mrsynth.manifest.in_section`, for instance phantoms with weights that were trained on a
            dataset; or subjects that the weights have not seen: a held-out subject must not enter a training set.
    """
    items = in_section(subjects, section, record, "weights")
    if record is None:
        return items
    strangers = sorted({item["subject"] for item in items} - set(record["subjects"]))
    if strangers:
        named = ", ".join(shorten(strangers, 5))
        raise UserError(
            f"recipients and donors among the {len(record['subjects'])} subjects that the weights were trained on",
            f"{len(strangers)} of {len(items)} in section {section!r} are not: {named}",
            "dataset_dir or datalist",
            "pass the datalist of the training: --datalist <output_dir>/datalist.json",
        )
    return items


class SubjectWriter(ResultWriter):
    """Ignite handler that writes each synthetic subject and skips those that exist already.

    Attach it to an evaluator over :class:`~mrsynth.synthesis.TransplantPairs` whose postprocessing is
    :class:`~mrsynth.synthesis.RestoreImaged` for the same ``grid``. The files do not depend on time or folder: the same
    weights, pairs and seed give the same bytes, in one run or in several.

    The written label is the item's ``label`` if it has one, and the donor's tumor otherwise.

    Args:
        output_dir: ``synthetic/`` is written below it, and nothing elsewhere.
        record: record of the weights, as ``load_weights`` returns it. None without weights: voxels then are in the
            recipient's own scale, and a subject descends from its two parents only.
        parents: datalist items of the recipients and donors.
        settings: settings of network, grid and transplant.
        seed: seed of the pairs.
        grid: ``native`` or ``training``.
        count: number of subjects in the datalist.

    Raises:
        UserError: an unknown grid, or a folder that cannot be written.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        record: Mapping[str, Any] | None,
        parents: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
        seed: int = 0,
        grid: str = "native",
        count: int = 8,
    ) -> None:
        self.folder = Path(output_dir).expanduser().absolute() / "synthetic"
        self.record, self.grid, self.count = record or {"subjects": []}, check_grid_name(grid), count
        self.intensities = mapping() if record else own_scale()
        known = dict((record or {}).get("fingerprints", {}))
        self.fingerprints = {item["subject"]: item.get("fingerprint") or known.get(item["subject"]) for item in parents}
        self.lineage = {item["subject"]: [item["subject"], *item.get("derived_from", [])] for item in parents}
        recipe = {
            "weights": self.record.get("sha256"),
            "seed": seed,
            "grid": grid,
            "pool": {"subjects": len(parents), "sha256": digest([item["subject"] for item in parents])},
            "settings": dict(settings),
        }
        self.recipe = Recipe(recipe)

    def name(self, number: int) -> str:
        """Id of a subject: its number, and six digits that depend on weights, seed and settings."""
        return f"Synthetic_{self.recipe.tag}_{number:05d}"

    def complete(self) -> dict[int, int]:
        """Place in the order of pairs of each existing subject, by number. Remains of a killed run are removed.

        Raises:
            UserError: the folder holds other files, or subjects with another recipe; or it cannot be written.
        """
        places = {}
        for entry in cleared(self.folder):
            if not entry.is_dir() or entry.name.startswith("."):
                continue
            sidecar = self._read(entry)
            if all((entry / file).is_file() for file in self._files(entry.name)):
                places[int(sidecar["number"])] = int(sidecar["transplant"]["place"])
        return places

    def __call__(self, engine: Engine) -> None:
        """Write the subjects of the last iteration."""
        batch: Any = engine.state.batch
        outputs: Any = engine.state.output
        for item, output in zip(batch, outputs, strict=True):
            self.write(item, output["pred"])
            self.bar.update()

    def write(self, item: Mapping[str, Any], pred: torch.Tensor) -> Path:
        """Write one subject.

        Args:
            item: from :class:`~mrsynth.synthesis.TransplantPairs`.
            pred: int16 MetaTensor `(4, X, Y, Z)`, from :class:`~mrsynth.synthesis.RestoreImaged`.

        Returns:
            Its folder.
        """
        name = self.name(item["number"])
        voxels, affine = as_array(pred), as_array(pred.affine)  # type: ignore[attr-defined]
        label = self._label(item, voxels)
        header = header_of(item["recipient_file"]) if self.grid == "native" else None
        with atomic_folder(self.folder / name) as folder:
            for kind, volume in zip((*SEQUENCES, "seg"), [*voxels, label], strict=True):
                write_nifti(folder / f"{name}_{kind}.nii.gz", volume, affine, header)
            write_json(folder / f"{name}.json", self._sidecar(name, item))
        return self.folder / name

    def finish(self) -> dict[str, Any]:
        """Write ``datalist.json`` of the first ``count`` subjects, log a summary, and return the datalist."""
        items = []
        for number in range(self.count):
            name = self.name(number)
            sidecar = self._read(self.folder / name)
            items.append(
                {
                    "subject": name,
                    "image": [str(self.folder / name / f"{name}_{sequence}.nii.gz") for sequence in SEQUENCES],
                    "label": str(self.folder / name / f"{name}_seg.nii.gz"),
                    "derived_from": self._derived_from(sidecar),
                    "parent_fingerprints": {
                        parent: found
                        for parent in (sidecar["recipient"], sidecar["donor"])
                        if (found := self.fingerprints.get(parent))
                    },
                }
            )
        path, datalist = self.recipe.write_datalist(
            self.folder,
            f"{self.count} synthetic subjects",
            items,
            modality={str(i): sequence for i, sequence in enumerate(SEQUENCES)},
            label_map={str(value): value for value in LABELS},
            channels=None,
        )
        logger.info(f"\nMade:\n  subjects  {self.count} in {self.folder}\n  datalist  {path}")
        return datalist

    def _label(self, item: Mapping[str, Any], voxels: np.ndarray) -> np.ndarray:
        """`(X, Y, Z)` uint8, 0 where the image `(4, X, Y, Z)` is."""
        key = "native_label" if self.grid == "native" else "transplanted"
        label = as_array(item["label" if "label" in item else key])[0]
        return np.where((voxels != 0).any(axis=0), label, 0).astype(np.uint8)

    def _derived_from(self, sidecar: Mapping[str, Any]) -> list[str]:
        """The two parents, their own ancestors, and the subjects that the weights were trained on."""
        parents = [p for side in ("recipient", "donor") for p in self.lineage[sidecar[side]]]
        return list(dict.fromkeys([*parents, *self.record["subjects"]]))

    def _sidecar(self, name: str, item: Mapping[str, Any]) -> dict[str, Any]:
        facts = dict(item["transplant"])
        settings = self.recipe.content["settings"]
        return {
            "subject": name,
            "synthetic": True,
            "number": item["number"],
            "recipient": facts.pop("recipient"),
            "donor": facts.pop("donor"),
            "seed": self.recipe.content["seed"],
            "training_subjects": list(self.record["subjects"]),
            "transplant": {**facts, "align": settings.get("align"), "min_kept": settings.get("min_kept")},
            "intensities": self.intensities,
            "sequences": list(SEQUENCES),
            "weights": {k: v for k, v in self.record.items() if k in ("sha256", "version", "epoch", "metrics")},
            "versions": versions(NETWORKS),
            "made_by": self.recipe.content,
        }

    def _read(self, folder: Path) -> dict[str, Any]:
        """The sidecar in ``folder``, made by the same recipe."""
        return self.recipe.read(folder / f"{folder.name}.json", self.folder)

    def _files(self, name: str) -> list[str]:
        return [f"{name}_{kind}.nii.gz" for kind in (*SEQUENCES, "seg")]

    def make_bar(self, engine: Engine) -> tqdm:
        """Number of subjects, including those that exist already."""
        there = self.count - (engine.state.epoch_length or 0)
        return tqdm(total=self.count, initial=there, unit=" subjects", desc="synthesizing", file=sys.stdout)


class SubjectCollector(SubjectWriter):
    """A :class:`SubjectWriter` that keeps the subjects in memory and writes nothing.

    Attributes:
        made: for each subject ``subject`` (id), ``image`` int16 `(4, X, Y, Z)`, ``label`` uint8 `(1, X, Y, Z)`,
            ``derived_from`` (ids) and ``provenance``, the sidecar.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.made: list[dict[str, Any]] = []

    def complete(self) -> dict[int, int]:
        """No subject exists already."""
        return {}

    def write(self, item: Mapping[str, Any], pred: torch.Tensor) -> Path:
        """Keep one subject; returns the path that it would have on disk."""
        name, voxels = self.name(item["number"]), as_array(pred)
        sidecar, affine = self._sidecar(name, item), pred.affine  # type: ignore[attr-defined]
        label = torch.from_numpy(self._label(item, voxels)[None])
        self.made.append(
            {
                "subject": name,
                "image": MetaTensor(torch.from_numpy(voxels), affine=affine),
                "label": MetaTensor(label, affine=affine),
                "derived_from": self._derived_from(sidecar),
                "provenance": sidecar,
            }
        )
        return self.folder / name
