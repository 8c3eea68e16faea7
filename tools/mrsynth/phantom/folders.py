"""Cohorts as folders: what stands there, the one in the cache, and the files of their volumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from filelock import FileLock
from isal import igzip

from mrsynth.errors import UserError
from mrsynth.files import atomic_path, unwritable
from mrsynth.home import cache_home

CARD = "cohort.json"
"""What a cohort was made from; written last, so a folder that has it is whole."""

MOST_SUBJECTS = 100_000
"""Ids have five digits."""


def cached(name: str, ready: Callable[[Path], bool], make: Callable[[Path], Path]) -> Path:
    """A cohort in the cache folder: made there once, then reused.

    Several processes may ask at once: one makes it, the others wait for it.

    Args:
        name: of its folder.
        ready: whether a folder holds it whole.
        make: makes it in a folder, and returns that.

    Raises:
        UserError: the cache folder cannot be written, or what ``make`` raises.
    """
    home = cache_home() / "phantom"
    out = home / name
    if ready(out):
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
        if not ready(out):
            # whatever a killed process left behind: nobody else builds while the lock is held
            for leftover in (*home.glob(f".tmp-{name}-*"), *out.glob(".tmp-*")):
                shutil.rmtree(leftover, ignore_errors=True)
            make(out)
    finally:
        lock.release()
    return out


def standing(out: Path, card: dict[str, Any]) -> dict[str, Any] | None:
    """The card of the same cohort standing at ``out``; None where nothing stands; anything else is refused."""
    do = "choose another folder, or delete this one"
    if not out.exists():
        return None
    if not out.is_dir():
        raise UserError("a folder, or nothing yet", "a file", out, "choose another folder")
    try:
        if not any(out.iterdir()):
            return None
    except OSError as error:
        raise unwritable(out, error) from error
    try:
        found = json.loads((out / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    wanted = "an empty folder, or the same cohort to complete"
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
    return found


def write_volume(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    """A NIfTI whose header says what BraTS's say."""
    nifti = nib.Nifti1Image(volume, affine)
    nifti.set_data_dtype(volume.dtype)
    nifti.set_qform(affine, code=1)
    nifti.set_sform(affine, code=1)
    nifti.header.set_xyzt_units("mm")
    # no time in the gzip header: same voxels, same bytes
    packed = igzip.compress(nifti.to_bytes(), compresslevel=1, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed)
