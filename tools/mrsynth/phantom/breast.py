"""The embedded cohort of breasts: DCE-MRI of women who never existed, in the layout of ``mrsynth.manifest.breasts``.

``out/Breast_00000/Breast_00000_{t2,t1_pre,t1_post1,...,t1_post4,lesions}.nii.gz`` and ``Breast_00000.json`` (what her
lesions are) and so on, ``out/subjects.csv``, ``out/lesions.csv``, and ``out/cohort.json`` saying what they were made
from. A subject is there whole or not at all; a run that was stopped is completed by asking again. Anatomy, lesions and
scan are functions of (seed, index), each drawn from a stream of its own: same seed, same voxels.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mrsynth.errors import UserError
from mrsynth.files import atomic_folder, write_csv, write_json
from mrsynth.manifest.breasts import LESIONS, SEQUENCES, SUBJECTS
from mrsynth.phantom.breast_anatomy import Anatomy, Slab
from mrsynth.phantom.breast_contrast import draw, scan, tissue_signals
from mrsynth.phantom.breast_lesions import Lesion, draw_plans, places
from mrsynth.phantom.fields import Array
from mrsynth.phantom.folders import CARD, MOST_SUBJECTS, cached, standing, write_volume
from mrsynth.phantom.pool import check_workers, make_all

GENERATOR = 1
"""Version of what a seed means. Raise it whenever a change moves a voxel: cached cohorts are then made anew."""

NAME = "Breast_{:05d}"

_STREAM = 16
"""The brains of the other cohort use the streams before it."""


def make_breast_subject(seed: int, index: int, matrix: int = 256) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
    """Make one subject in memory.

    Args:
        seed: of the cohort, at least 0.
        index: of the subject in it, at least 0. The same seed and index give the same anatomy and lesions at every
            matrix, and the same voxels at the same matrix.
        matrix: pixels along each edge of a slice, 64 to 512; the field of view is 333 x 333 x 144 mm.

    Returns:
        The images, int16 ``(6, X, Y, Z)`` in the order t2, t1_pre, t1_post1 to t1_post4; the lesions 1, 2, ... as
        uint8 ``(X, Y, Z)``; the affine, 4x4, voxel to world mm; and of each lesion ``lesion`` (its value), ``class``,
        ``kind``, ``curve`` and ``diameter_mm``.

    Raises:
        UserError: a matrix, seed or index out of range.
    """
    for name, value in (("seed", seed), ("index", index)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise UserError("a whole number, 0 or more", repr(value), name, f"give another {name}")
    streams = [np.random.default_rng([seed, index, _STREAM + part]) for part in range(3)]
    anatomy = Anatomy(streams[0])
    slab = anatomy.slab(matrix)
    plans = draw_plans(streams[1], index, seed)
    lesions = [
        Lesion(plan, centre, anatomy.breasts[0 if centre[0] > 0 else 1].nipple)
        for plan, centre in zip(plans, places(anatomy, plans), strict=True)
    ]
    values, mask = draw(anatomy, lesions, tissue_signals(streams[2]), slab)
    facts = [
        {"lesion": number, "class": plan.type, "kind": plan.kind, "curve": plan.curve, "diameter_mm": plan.diameter}
        for number, plan in enumerate(plans, start=1)
    ]
    return scan(streams[2], values, slab), mask, slab.affine, facts


def make_breast_cohort(
    out: str | os.PathLike,
    subjects: int = 20,
    seed: int = 0,
    matrix: int = 256,
    workers: int | None = None,
) -> Path:
    """Make a cohort of breast MRI.

    Args:
        out: folder to make. If it holds the same cohort already, only what is missing is made, so a cohort is extended
            by asking for more subjects; those before stay as they are.
        subjects: how many, 1 to 100,000.
        seed: 0 or more; same seed, same voxels.
        matrix: pixels along each edge of a slice, 64 to 512, of a field of view of 333 mm; there are 32 slices of
            4.5 mm.
        workers: processes; default one for each core this process may use, as far as it pays. The voxels do not
            depend on it.

    Returns:
        ``out``, a folder that ``python -m mrsynth patches --root`` takes.

    Raises:
        UserError: a parameter out of range, a folder that cannot be written or holds something else.
    """
    folder = Path(out).expanduser().absolute()
    card = _card(subjects, seed, matrix)
    check_workers(workers)
    if _ready(folder, card):
        return folder
    standing(folder, card)
    write_json(folder / CARD, card)
    missing = [index for index in range(subjects) if not _complete(folder, index)]
    make_all(partial(write_subject, folder, seed=seed, matrix=matrix), missing, workers, "making breasts")
    _write_tables(folder, subjects)
    return folder


def default_breast_cohort(subjects: int = 60, seed: int = 0, matrix: int = 256) -> Path:
    """The cohort that a run without data uses: made once into the cache folder, then reused.

    Several processes may ask at once: one makes it, the others wait for it.

    Args:
        subjects, seed, matrix: as in `make_breast_cohort`; each combination has its own folder.

    Returns:
        A folder in the layout of :mod:`mrsynth.manifest.breasts`. Treat it as read-only: other runs use it too.

    Raises:
        UserError: as `make_breast_cohort`; or the cache folder cannot be written.
    """
    card = _card(subjects, seed, matrix)
    name = f"breast-g{GENERATOR}-seed{seed}-n{subjects}-{matrix}"
    return cached(name, lambda out: _ready(out, card), lambda out: make_breast_cohort(out, subjects, seed, matrix))


def write_subject(folder: Path, index: int, seed: int, matrix: int) -> None:
    """Make subject ``index`` and write her files into ``folder/<id>/``, all or none."""
    images, mask, affine, lesions = make_breast_subject(seed, index, matrix)
    name = NAME.format(index)
    with atomic_folder(folder / name) as temporary:
        for file, volume in zip(_files(index).values(), [*images, mask], strict=True):
            write_volume(temporary / Path(file).name, volume, affine)
        write_json(temporary / f"{name}.json", {"subject": name, "lesions": lesions})


def _card(subjects: int, seed: int, matrix: int) -> dict[str, Any]:
    """What ``cohort.json`` says; also where the parameters are checked."""
    for name, value, low, high in (("subjects", subjects, 1, MOST_SUBJECTS), ("seed", seed, 0, 2**63)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UserError(f"a whole number from {low} to {high}", repr(value), name, f"give another {name}")
    return {
        "name": "mrsynth breast phantom",
        "generator": GENERATOR,
        "seed": seed,
        "spacing_mm": round(Slab(matrix).pixel, 4),
        "subjects": subjects,
        "note": "Women who never existed, drawn from formulas. Not patient data.",
    }


def _files(index: int) -> dict[str, str]:
    """Name of each file below the cohort's folder, by column of the table of subjects."""
    name = NAME.format(index)
    parts = {**{sequence: sequence for sequence in SEQUENCES}, "label": "lesions"}
    return {column: f"{name}/{name}_{part}.nii.gz" for column, part in parts.items()}


def _complete(folder: Path, index: int) -> bool:
    name = NAME.format(index)
    return all((folder / file).is_file() for file in (*_files(index).values(), f"{name}/{name}.json"))


def _ready(folder: Path, card: dict[str, Any]) -> bool:
    """Whether exactly this cohort stands there."""
    try:
        found = json.loads((folder / CARD).read_text(encoding="utf-8"))
        listed = (folder / SUBJECTS).read_text(encoding="utf-8").count("\n") - 1
    except (OSError, ValueError):
        return False
    return found == card and listed == card["subjects"] and all(_complete(folder, i) for i in range(listed))


def _write_tables(folder: Path, subjects: int) -> None:
    lesions = []
    for index in range(subjects):
        facts = json.loads((folder / NAME.format(index) / f"{NAME.format(index)}.json").read_text(encoding="utf-8"))
        lesions += [{"subject": NAME.format(index), **lesion} for lesion in facts["lesions"]]
    write_csv(folder / LESIONS, lesions)
    write_csv(folder / SUBJECTS, [{"subject": NAME.format(index), **_files(index)} for index in range(subjects)])
