"""Splits by subject: shares or counts at random by seed, the first ones in order, or k folds.

Every split is a function of the set of ids and the seed, never of the order in which a disk lists them, and
keeps all subjects of one patient on one side.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from numbers import Integral

from mrsynth.errors import UserError

SECTIONS = ("training", "validation", "test")
"""The sections of a datalist."""


def split_subjects(
    subjects: Iterable[str],
    mode: str = "random",
    seed: int = 0,
    validation: float | int = 0.1,
    test: float | int = 0.2,
    folds: int | None = None,
    fold: int = 0,
    patients: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Training, validation and test subjects.

    Args:
        subjects: ids, each once.
        mode: ``random`` ranks the patients by seed; ``ordered`` takes them in the natural order of their
            names, training first, test last (Shin 2018: "the first 80%").
        seed: of the random ranking.
        validation: share of all subjects (below 1) or count (whole number); a share above 0 gives at least one.
        test: the same for the test part. Not used with ``folds``.
        folds: number of parts for cross-validation. Each subject is in the test part of exactly one ``fold``;
            the validation part is taken from the others.
        fold: which of the parts is the test part, from 0.
        patients: patient by subject id; subjects of one patient stay together. Those not in it stand alone.

    Returns:
        ``{"training": [...], "validation": [...], "test": [...]}``, each in natural order.

    Raises:
        UserError: an unknown mode, a share or fold out of range, or too few subjects.

    Examples:
        >>> from mrsynth.manifest import split_subjects
        >>> split_subjects([f"S{n}" for n in range(10)], validation=1, test=2)
        {'training': ['S0', 'S1', 'S2', 'S3', 'S7', 'S8', 'S9'], 'validation': ['S4'], 'test': ['S5', 'S6']}
    """
    ids = sorted(subjects, key=natural)
    if len(set(ids)) != len(ids):
        raise UserError("each subject once", f"{len(ids) - len(set(ids))} ids twice", "split", "rename one of each")
    groups = _ranked(ids, mode, seed, patients or {})
    if folds is None:
        groups, chosen = _take(groups, _count("test", test, len(ids)), isinstance(test, Integral), "test")
    else:
        groups, chosen = _fold(groups, folds, fold)
    groups, validating = _take(
        groups, _count("validation", validation, len(ids)), isinstance(validation, Integral), "validation"
    )
    parts = {"training": groups, "validation": validating, "test": chosen}
    if not groups:
        raise UserError(
            "at least one subject left for training",
            f"{len(ids)} subjects, validation={validation}, " + (f"folds={folds}" if folds else f"test={test}"),
            "split",
            "add subjects, or pass smaller parts (--validation 0 makes no validation part)",
        )
    return {part: sorted((i for group in members for i in group), key=natural) for part, members in parts.items()}


def _ranked(ids: list[str], mode: str, seed: int, patients: Mapping[str, str]) -> list[list[str]]:
    """Subjects grouped by patient, the groups in the order of the split."""
    if mode not in ("random", "ordered"):
        raise UserError(
            "split 'random' or 'ordered'",
            f"{mode!r}",
            "split",
            "pass --split random or --split ordered; --folds is an option of its own",
        )
    groups: dict[str, list[str]] = {}
    for subject in ids:
        # "patient" and "subject" keep a patient's name from meeting another subject's id
        key = f"patient {patients[subject]}" if subject in patients else f"subject {subject}"
        groups.setdefault(key, []).append(subject)
    ranked = list(groups.values())
    if mode == "random":
        ranked.sort(key=lambda group: hashlib.sha256(f"{seed} {group[0]}".encode()).digest())
    return ranked


def _count(part: str, wanted: float | int, n: int) -> int:
    """Subjects that ``wanted`` (a share or a count) means among ``n``."""
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)) or wanted < 0 or not math.isfinite(wanted):
        raise UserError(
            "a share from 0 to below 1, or a count",
            f"{wanted!r}",
            part,
            f"pass for instance --{part} 0.1 or --{part} 20",
        )
    if isinstance(wanted, Integral):
        if wanted > n:
            raise UserError(f"at most {n}, the number of subjects", f"{wanted}", part, "take fewer, or add subjects")
        return int(wanted)
    if wanted >= 1:
        raise UserError("a share from 0 to below 1, or a count", f"{wanted!r}", part, "write a count as a whole number")
    return max(1, math.floor(wanted * n + 0.5)) if wanted else 0


def _take(groups: list[list[str]], count: int, exact: bool, part: str) -> tuple[list[list[str]], list[list[str]]]:
    """The last groups that together have ``count`` subjects; a group that would exceed it is skipped."""
    left, taken, size = [], [], 0
    for group in reversed(groups):
        if size + len(group) <= count:
            taken.append(group)
            size += len(group)
        else:
            left.append(group)
    left.reverse()
    if not exact and count and not taken and left:
        taken = [left.pop()]  # a share of a few: one whole patient, even if it is more
    if exact and size != count:
        raise UserError(
            f"{count} subjects for {part}",
            f"{size} is the nearest below it with whole patients (or all that is left)",
            part,
            "take another count, a share, or fewer subjects in the other parts",
        )
    return left, taken


def _fold(groups: list[list[str]], folds: int, fold: int) -> tuple[list[list[str]], list[list[str]]]:
    """(the other groups, the groups of part ``fold``) of ``folds`` parts of nearly equal size."""
    if not isinstance(folds, Integral) or not 2 <= folds <= len(groups):
        raise UserError(
            f"2 to {len(groups)} folds, one patient in each at least",
            f"{folds}",
            "folds",
            f"pass --folds {max(2, min(5, len(groups)))}, or add subjects",
        )
    if not isinstance(fold, Integral) or not 0 <= fold < folds:
        raise UserError(
            f"a fold from 0 to {folds - 1}", f"{fold}", "fold", f"pass --fold with a number from 0 to {folds - 1}"
        )
    sizes = [0] * folds
    rest, chosen = [], []
    for group in groups:
        part = sizes.index(min(sizes))
        sizes[part] += len(group)
        (chosen if part == fold else rest).append(group)
    return rest, chosen


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts pat2 before pat10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]
