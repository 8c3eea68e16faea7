"""Cohorts of phantom subjects on disk: brains in the layout of BraTS, breasts in that of ``mrsynth.manifest.breasts``.

A cohort is a folder with one subfolder per subject and ``cohort.json``, which records how the cohort was made. A
subject is written completely or not at all. To complete an interrupted cohort, ask for it again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from mrsynth.checks import whole_number
from mrsynth.conventions import PHANTOM_PREFIX, SEQUENCES
from mrsynth.errors import UserError
from mrsynth.files import atomic_folder, unwritable, write_csv, write_json
from mrsynth.home import cache_home
from mrsynth.manifest import breasts
from mrsynth.phantom.breast import make_breast_subject
from mrsynth.phantom.breast_anatomy import Slab
from mrsynth.phantom.grid import PhantomGrid
from mrsynth.phantom.pool import make_all
from mrsynth.phantom.subject import make_subject
from mrsynth.transforms.nifti import write_nifti

logger = logging.getLogger(__name__)

CARD = "cohort.json"
"""The file that records how a cohort was made."""

MOST_SUBJECTS = 100_000
"""Ids have five digits."""


@dataclass(frozen=True)
class Layout:
    """A kind of cohort and the layout of its files.

    Attributes:
        name, note: recorded in ``cohort.json``.
        generator: version of the generator. Raise it whenever a change alters a voxel: cached cohorts are then made
            again.
        prefix: prefix of the subjects' ids.
        parts: names of the image files of a subject and, last, of the label.
        lesions: whether a subject has a JSON of lesions, and the cohort two tables.
        make: makes one subject from a seed, an index and a size.
        spacing: checks the size and gives the spacing in mm.
    """

    name: str
    note: str
    generator: int
    prefix: str
    parts: tuple[str, ...]
    lesions: bool
    make: Callable[..., tuple]
    spacing: Callable[[Any], float]

    def card(self, subjects: int, seed: int, size: float) -> dict[str, Any]:
        """The content of ``cohort.json``; the parameters are checked here."""
        return {
            "name": self.name,
            "generator": self.generator,
            "seed": whole_number("seed", seed, 0, 2**63),
            "spacing_mm": self.spacing(size),
            "subjects": whole_number("subjects", subjects, 1, MOST_SUBJECTS),
            "note": self.note,
        }

    def subject(self, index: int) -> str:
        """The id of a subject."""
        return f"{self.prefix}{index:05d}"

    def files(self, index: int) -> list[str]:
        """The image files and the label of a subject, relative to the cohort's folder."""
        name = self.subject(index)
        return [f"{name}/{name}_{part}.nii.gz" for part in self.parts]

    def sidecar(self, index: int) -> str:
        """The JSON of a subject's lesions, relative to the cohort's folder."""
        return f"{self.subject(index)}/{self.subject(index)}.json"

    def complete(self, folder: Path, index: int) -> bool:
        """Whether all files of a subject exist."""
        names = [*self.files(index), *([self.sidecar(index)] if self.lesions else [])]
        return all((folder / name).is_file() for name in names)

    def ready(self, folder: Path, card: dict[str, Any]) -> bool:
        """Whether the folder holds exactly this cohort, complete."""
        if _read_card(folder) != card or not all(self.complete(folder, index) for index in range(card["subjects"])):
            return False
        try:
            return not self.lesions or len(_lines(folder / breasts.SUBJECTS)) - 1 == card["subjects"]
        except OSError:
            return False

    def write_subject(self, folder: Path, index: int, seed: int, size: float) -> None:
        """Make a subject and write either all of its files to ``folder/<id>/``, or none."""
        images, label, affine, *lesions = self.make(seed, index, size)
        with atomic_folder(folder / self.subject(index)) as temporary:
            for name, volume in zip(self.files(index), [*images, label], strict=True):
                write_nifti(temporary / Path(name).name, volume, affine)
            for facts in lesions:
                write_json(
                    temporary / Path(self.sidecar(index)).name, {"subject": self.subject(index), "lesions": facts}
                )

    def write_tables(self, folder: Path, subjects: int) -> None:
        """Write the table of lesions, then the table of subjects."""
        lesions, rows = [], []
        for index in range(subjects):
            facts = json.loads((folder / self.sidecar(index)).read_text(encoding="utf-8"))
            lesions += [{"subject": self.subject(index), **lesion} for lesion in facts["lesions"]]
            columns = dict(zip((*self.parts[:-1], "label"), self.files(index), strict=True))
            rows.append({"subject": self.subject(index), **columns})
        write_csv(folder / breasts.LESIONS, lesions)
        write_csv(folder / breasts.SUBJECTS, rows)


def _brain_spacing(spacing: float) -> float:
    return float(PhantomGrid(spacing).spacing)


def _breast_spacing(matrix: int) -> float:
    return round(Slab(matrix).pixel, 4)


BRAINS = Layout(
    "mrsynth phantom",
    "Subjects who never existed, made from the MNI152 tissue maps. Not patient data.",
    generator=1,
    prefix=PHANTOM_PREFIX,
    parts=(*SEQUENCES, "seg"),
    lesions=False,
    make=make_subject,
    spacing=_brain_spacing,
)
BREASTS = Layout(
    "mrsynth breast phantom",
    "Women who never existed, drawn from formulas. Not patient data.",
    generator=1,
    prefix="Breast_",
    parts=(*breasts.SEQUENCES, "lesions"),
    lesions=True,
    make=make_breast_subject,
    spacing=_breast_spacing,
)


def make_cohort(
    out_dir: str | os.PathLike,
    subjects: int = 20,
    seed: int = 0,
    spacing: float = 1.0,
    workers: int | None = None,
) -> Path:
    """Make a cohort of brains with tumors, in the layout of BraTS.

    Args:
        out_dir: folder of the cohort. If it holds the same cohort already, only missing subjects are made, so a cohort
            can be extended. Existing subjects are not changed.
        subjects: number of subjects, 1 to 100,000.
        seed: 0 or more; the same seed gives the same voxels.
        spacing: voxel edge in mm: 1 (240x240x155, as BraTS), 2, 3 or 4.
        workers: number of processes; by default up to one per available core. The voxels do not depend on it.

    Returns:
        ``out_dir``, as an absolute path.

    Raises:
        UserError: a parameter is out of range, or the folder cannot be written or holds something else.
    """
    return _make(BRAINS, out_dir, subjects, seed, spacing, workers)


def make_breast_cohort(
    out: str | os.PathLike,
    subjects: int = 20,
    seed: int = 0,
    matrix: int = 256,
    workers: int | None = None,
) -> Path:
    """Make a cohort of breast MRI, in the layout of :mod:`mrsynth.manifest.breasts`.

    Args:
        out, subjects, seed, workers: as in `make_cohort`.
        matrix: pixels along each edge of a slice, 64 to 512, of a field of view of 333 mm; there are 32 slices of
            4.5 mm.

    Returns:
        ``out``, as an absolute path; pass it to ``python -m mrsynth patches --root``.

    Raises:
        UserError: as `make_cohort`.
    """
    return _make(BREASTS, out, subjects, seed, matrix, workers)


def default_cohort(subjects: int = 20, seed: int = 0, spacing: float = 2.0) -> Path:
    """The cohort of brains that a run without a dataset uses. It is made once, in the cache folder.

    If several processes ask at once, one makes the cohort and the others wait.

    Args:
        subjects, seed, spacing: as in `make_cohort`; each combination has its own folder.

    Returns:
        A folder in BraTS's layout. Treat it as read-only: other runs use it too.

    Raises:
        UserError: as `make_cohort`; or the cache folder cannot be written.
    """
    name = f"g{BRAINS.generator}-seed{seed}-n{subjects}-{spacing:g}mm"
    return _cached(BRAINS, name, subjects, seed, spacing)


def default_breast_cohort(subjects: int = 60, seed: int = 0, matrix: int = 256) -> Path:
    """The cohort of breasts that a run without a dataset uses; see `default_cohort`.

    Args:
        subjects, seed, matrix: as in `make_breast_cohort`; each combination has its own folder.

    Returns:
        A folder in the layout of :mod:`mrsynth.manifest.breasts`. Treat it as read-only: other runs use it too.

    Raises:
        UserError: as `make_breast_cohort`; or the cache folder cannot be written.
    """
    name = f"breast-g{BREASTS.generator}-seed{seed}-n{subjects}-{matrix}"
    return _cached(BREASTS, name, subjects, seed, matrix)


def _make(
    layout: Layout, out: str | os.PathLike, subjects: int, seed: int, size: float, workers: int | None = None
) -> Path:
    folder, card = Path(out).expanduser().absolute(), layout.card(subjects, seed, size)
    if workers is not None:
        whole_number("workers", workers, 1)
    if layout.ready(folder, card):
        return folder
    _refuse_other_content(folder, card)
    write_json(folder / CARD, card)
    missing = [index for index in range(subjects) if not layout.complete(folder, index)]
    logger.info("Making %d phantom subjects in %s", len(missing), folder)
    try:
        make_all(partial(layout.write_subject, folder, seed=seed, size=size), missing, workers, "making phantoms")
    except BaseException:
        _remove_leftovers(folder)  # of processes that were killed in the middle of a subject
        raise
    if layout.lesions:
        layout.write_tables(folder, subjects)
    return folder


def _cached(layout: Layout, name: str, subjects: int, seed: int, size: float) -> Path:
    card, home = layout.card(subjects, seed, size), cache_home() / "phantom"
    out = home / name
    if layout.ready(out, card):
        return out
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home / f"{name}.lock")
        lock.acquire()
    except OSError as error:
        raise UserError(
            "a cache folder that can be written", str(error), home, "set MRSYNTH_HOME to a folder of your own"
        ) from error
    try:
        _remove_leftovers(out)  # of a killed process: nobody else writes while the lock is held
        return _make(layout, out, subjects, seed, size)
    finally:
        lock.release()


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _read_card(folder: Path) -> Any:
    try:
        return json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _refuse_other_content(out: Path, card: dict[str, Any]) -> None:
    """Refuse a folder that holds anything but the same cohort or a part of it."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError("a folder, or nothing yet", "a file", out, "pass another folder with --out")
    try:
        if not any(out.iterdir()):
            return
    except OSError as error:
        raise unwritable(out, error) from error
    wanted, do = "an empty folder, or the same cohort to complete", "choose another folder, or delete this one"
    found = _read_card(out)
    if not isinstance(found, dict) or found.get("name") != card["name"]:
        raise UserError(wanted, f"a folder with other files and no {CARD} of a phantom cohort", out, do)
    other = [
        f"{key} {found.get(key)} instead of {card[key]}"
        for key in ("generator", "seed", "spacing_mm")
        if found.get(key) != card[key]
    ]
    if not other and (not isinstance(found.get("subjects"), int) or found["subjects"] > card["subjects"]):
        other = [f"{found.get('subjects')} subjects, more than the {card['subjects']} asked for"]
    if other:
        raise UserError(wanted, f"a phantom cohort with {', '.join(other)}", out, do)
