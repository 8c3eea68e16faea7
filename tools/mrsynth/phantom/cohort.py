"""Cohorts of phantom subjects on disk, in BraTS's layout.

``out_dir/Phantom_00000/Phantom_00000_{t1,t1ce,t2,flair,seg}.nii.gz`` and so on, and ``out_dir/cohort.json``
saying what they were made from. A cohort appears whole or not at all: it is built in a hidden folder beside
its place and renamed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from mrsynth.conventions import PHANTOM_PREFIX, SEQUENCES
from mrsynth.errors import UserError
from mrsynth.files import umask, unwritable, write_json
from mrsynth.phantom.folders import CARD, MOST_SUBJECTS, cached, standing, write_volume
from mrsynth.phantom.grid import Grid
from mrsynth.phantom.pool import check_workers, make_all
from mrsynth.phantom.subject import make_subject

GENERATOR = 1
"""Version of what a seed means. Raise it whenever a change moves a voxel: cached cohorts are then made anew."""

NAME = PHANTOM_PREFIX + "{:05d}"


def make_cohort(
    out_dir: str | os.PathLike,
    subjects: int = 20,
    seed: int = 0,
    spacing: float = 1.0,
    workers: int | None = None,
) -> Path:
    """Make a cohort of phantom subjects.

    Args:
        out_dir: folder to make. If it holds the same cohort already, only what is missing is made, so a cohort
            is extended by asking for more subjects; those before stay as they are.
        subjects: how many, 1 to 100,000.
        seed: 0 or more; same seed, same voxels.
        spacing: voxel edge in mm: 1 (240x240x155, as BraTS), 2, 3 or 4.
        workers: processes; default one for each core this process may use, as far as it pays. The voxels do not
            depend on it.

    Returns:
        ``out_dir``, a folder in BraTS's layout.

    Raises:
        UserError: a parameter out of range, a folder that cannot be written or holds something else.
    """
    out = Path(out_dir).expanduser().absolute()
    card = _card(subjects, seed, spacing)
    check_workers(workers)
    present = standing(out, card)
    missing = [index for index in range(subjects) if not _complete(out, index)]
    if present and not missing:
        if present["subjects"] != subjects:
            write_json(out / CARD, card)
        return out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{out.name}-", dir=out.parent))
    except OSError as error:
        raise unwritable(out, error) from error
    try:
        write = partial(write_subject, temporary, seed=seed, spacing=spacing)
        make_all(write, missing, workers, "making phantom subjects")
        if not present:
            write_json(temporary / CARD, card)
            os.chmod(temporary, 0o777 & ~umask())
            if out.exists():  # empty, as was seen above
                out.rmdir()
            os.replace(temporary, out)
        else:
            for index in missing:
                shutil.rmtree(out / NAME.format(index), ignore_errors=True)
                os.replace(temporary / NAME.format(index), out / NAME.format(index))
            write_json(out / CARD, card)
    except OSError as error:
        raise unwritable(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def default_cohort(subjects: int = 20, seed: int = 0, spacing: float = 2.0) -> Path:
    """The cohort that a run without data uses: made once into the cache folder, then reused.

    Several processes may ask at once: one makes it, the others wait for it.

    Args:
        subjects, seed, spacing: as in `make_cohort`; each combination has its own folder.

    Returns:
        A folder in BraTS's layout. Treat it as read-only: other runs use it too.

    Raises:
        UserError: as `make_cohort`; or the cache folder cannot be written.
    """
    card = _card(subjects, seed, spacing)
    name = f"g{GENERATOR}-seed{seed}-n{subjects}-{spacing:g}mm"
    return cached(name, lambda out: _ready(out, card), lambda out: make_cohort(out, subjects, seed, spacing))


def write_subject(folder: Path, index: int, seed: int, spacing: float) -> None:
    """Make subject ``index`` and write its five files into ``folder/<id>/``."""
    image, label, affine = make_subject(seed, index, spacing)
    name = NAME.format(index)
    for sequence, volume in zip(SEQUENCES, image, strict=True):
        write_volume(folder / name / f"{name}_{sequence}.nii.gz", volume, affine)
    write_volume(folder / name / f"{name}_seg.nii.gz", label, affine)


def _card(subjects: int, seed: int, spacing: float) -> dict[str, Any]:
    """What ``cohort.json`` says; also where the parameters are checked."""
    Grid(spacing)
    for name, value, low, high in (("subjects", subjects, 1, MOST_SUBJECTS), ("seed", seed, 0, 2**63)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UserError(f"a whole number from {low} to {high}", repr(value), name, f"give another {name}")
    return {
        "name": "mrsynth phantom",
        "generator": GENERATOR,
        "seed": seed,
        "spacing_mm": float(spacing),
        "subjects": subjects,
        "note": "Subjects who never existed, made from the MNI152 tissue maps. Not patient data.",
    }


def _complete(out: Path, index: int) -> bool:
    name = NAME.format(index)
    return all((out / name / f"{name}_{part}.nii.gz").is_file() for part in (*SEQUENCES, "seg"))


def _ready(out: Path, card: dict[str, Any]) -> bool:
    return (out / CARD).is_file() and all(_complete(out, index) for index in range(card["subjects"]))
