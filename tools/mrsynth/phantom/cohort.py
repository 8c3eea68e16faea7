"""Cohorts of phantom subjects on disk, in BraTS's layout.

``out_dir/Phantom_00000/Phantom_00000_{t1,t1ce,t2,flair,seg}.nii.gz`` and so on, and ``out_dir/cohort.json``
saying what they were made from. A cohort appears whole or not at all: it is built in a hidden folder beside
its place and renamed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError
from mrsynth.files import umask, unwritable, write_json
from mrsynth.phantom.folders import CARD, MOST_SUBJECTS, cached, standing, write_volume
from mrsynth.phantom.grid import Grid
from mrsynth.phantom.subject import make_subject

GENERATOR = 1
"""Version of what a seed means. Raise it whenever a change moves a voxel: cached cohorts are then made anew."""

NAME = "Phantom_{:05d}"


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
    _check_workers(workers)
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
        _make_all(temporary, missing, seed, spacing, workers or _sensible_workers(len(missing)))
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


def _check_workers(workers: int | None) -> None:
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise UserError("a whole number, 1 or more", repr(workers), "workers", "leave it out to use every core")


def _sensible_workers(subjects: int) -> int:
    """One for each core, but to start one takes longer than to make a subject, and each needs 1 GB of memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 16, subjects // 2))


def _complete(out: Path, index: int) -> bool:
    name = NAME.format(index)
    return all((out / name / f"{name}_{part}.nii.gz").is_file() for part in (*SEQUENCES, "seg"))


def _ready(out: Path, card: dict[str, Any]) -> bool:
    return (out / CARD).is_file() and all(_complete(out, index) for index in range(card["subjects"]))


def _make_all(folder: Path, indices: list[int], seed: int, spacing: float, workers: int) -> None:
    """Write the subjects ``indices`` into ``folder``, in this process or in ``workers`` of their own."""
    workers = min(workers, len(indices))
    with tqdm(total=len(indices), desc="making phantom subjects", unit="subject", leave=False) as bar:
        if workers == 1:
            for index in indices:
                write_subject(folder, index, seed, spacing)
                bar.update()
            return
        # Plain child processes rather than multiprocessing's: those would import the caller's main module again
        # (seconds, and endless where it lacks a guard) and cannot be started from a data loader's worker.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        command = [
            sys.executable,
            "-m",
            "mrsynth.phantom.worker",
            str(folder),
            str(seed),
            repr(float(spacing)),
        ]
        children = [
            subprocess.Popen(
                [*command, ",".join(map(str, indices[first::workers]))],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for first in range(workers)
        ]
        try:
            with ThreadPoolExecutor(workers) as pool:
                # each answer is awaited in order; one that failed stops the others in `finally`
                for answer in [pool.submit(_follow, child, bar) for child in children]:
                    answer.result()
        finally:
            for child in children:
                child.kill()
                child.wait()


def _follow(child: subprocess.Popen, bar: tqdm) -> None:
    """Read what a worker reports until it ends; raise what it raised."""
    lines = child.stdout or ()
    problem: dict[str, str] | None = None
    for line in lines:
        report = json.loads(line)
        if "error" in report:
            problem = report["error"]
        else:
            bar.update()
    if problem is not None:
        raise UserError(**problem)
    if child.wait() != 0:
        raise RuntimeError(f"a worker that makes phantom subjects ended with status {child.returncode}; see above")
