"""Breast MRI on disk: which file is which sequence, and which class each lesion has.

The layout is two tables in one folder, as a spreadsheet saves them::

    subjects.csv   subject, t2, t1_pre, t1_post1, t1_post2, t1_post3, t1_post4, label [, patient]
    lesions.csv    subject, lesion, class

A cell of the first names a NIfTI file, relative to the table. ``label`` is 0 outside lesions and the lesion's number
inside; the cell is empty for a woman without findings. ``patient`` tells who is the same woman in two subjects. A row
of the second gives the class, benign or malignant, of the lesion of that number. All files of a subject share a grid.

The same as JSON is a datalist: items ``{"subject", "image": [files], "label", "lesions": {"1": "benign"}}``, the
sequences of ``image`` under ``modality``; :func:`breast_datalist` makes one from the tables, split by patient.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mrsynth.checks import shorten
from mrsynth.errors import UserError
from mrsynth.manifest.datalist import load_datalist
from mrsynth.manifest.patients import read_table
from mrsynth.manifest.splits import SECTIONS, split_subjects

SEQUENCES = ("t2", "t1_pre", "t1_post1", "t1_post2", "t1_post3", "t1_post4")
"""Sequences of a breast MRI in the order of the channels: Haarburger 2019, section 2."""

CLASSES = ("healthy", "benign", "malignant")
"""Classes of a patch; a lesion is of one of the last two."""

SUBJECTS, LESIONS = "subjects.csv", "lesions.csv"
MOST_LINES = 20
"""Faults named in one message; the rest are counted."""


class Cohort(NamedTuple):
    """Breast MRI of some women, files and classes as the tables or the datalist say."""

    name: str
    sequences: tuple[str, ...]
    sections: dict[str, list[dict[str, Any]]]


def read_cohort(root: str | os.PathLike, sequences: Sequence[str] = SEQUENCES, **split: Any) -> Cohort:
    """The subjects of a folder in the layout, or of a datalist.

    Args:
        root: the folder with the tables, or a datalist file (.json), whose own split is kept.
        sequences: those wanted of the tables; a datalist's are those under its ``modality``.
        split: of :func:`~mrsynth.manifest.split_subjects`, for the tables.

    Raises:
        UserError: as :func:`breast_datalist` and :func:`~mrsynth.manifest.load_datalist`; a datalist without
            ``modality`` or with lesions of unknown class.
    """
    path = Path(os.path.abspath(Path(root).expanduser()))
    if not path.is_file():
        content = breast_datalist(path, sequences, **split)
        return Cohort(content["name"], tuple(sequences), load_datalist(content))
    sections = load_datalist(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    modality = content.get("modality")
    if not isinstance(modality, Mapping) or not all(isinstance(name, str) for name in modality.values()):
        raise UserError(
            'a datalist that names its sequences: "modality": {"0": "t2", "1": "t1_pre", ...}',
            f"modality {modality!r}",
            path,
            "add it, in the order of the items' files",
        )
    items = [item for part in sections.values() for item in part]
    faults = [fault for item in items for fault in _lesion_faults(item["subject"], item.get("lesions", {}))]
    _refuse(faults, "lesions as {number: benign or malignant}", path)
    order = sorted(modality, key=int)
    return Cohort(str(content.get("name", path.stem)), tuple(modality[number] for number in order), sections)


def breast_datalist(root: str | os.PathLike, sequences: Sequence[str] = SEQUENCES, **split: Any) -> dict[str, Any]:
    """Datalist of a folder in the layout.

    Args:
        root: the folder with the tables.
        sequences: columns of ``subjects.csv`` that become ``image``.
        split: of :func:`~mrsynth.manifest.split_subjects`: ``mode``, ``seed``, ``validation``, ``test``, ``folds``,
            ``fold``.

    Returns:
        ``name``, ``modality``, ``split`` and the three lists, with absolute paths;
        :func:`~mrsynth.manifest.load_datalist` reads it, :func:`~mrsynth.manifest.write_datalist` writes it.

    Raises:
        UserError: no tables, no subjects, a sequence that has no column, no cell or no file, an unknown class, a
            subject twice or in one table alone (all faults in one message), or a split that cannot be made.
    """
    root = Path(os.path.abspath(Path(root).expanduser()))
    rows = _read(root / SUBJECTS, ("subject", *sequences, "label"), root)
    if not rows:
        raise UserError("at least one subject", "an empty table", root / SUBJECTS, "add a row for each subject")
    labeled = (root / LESIONS).is_file() or any(row["label"] for row in rows)
    table = _read(root / LESIONS, ("subject", "lesion", "class"), root) if labeled else []
    items, faults = {}, []
    for row in rows:
        name = row["subject"]
        if not name or Path(name).name != name:
            faults.append(f"{SUBJECTS}: {name!r} is no name of a subject (it becomes a file's name)")
        if name in items:
            faults.append(f"{SUBJECTS}: subject {name!r} twice")
        lesions = {lesion["lesion"]: lesion["class"].lower() for lesion in table if lesion["subject"] == name}
        items[name] = _item(row, root, sequences, lesions, faults)
    for row in table:
        if row["subject"] not in items:
            faults.append(f"{LESIONS}: {row['subject']} is not in {SUBJECTS}")
    keys = [(row["subject"], row["lesion"]) for row in table]
    faults += [
        f"{LESIONS}: lesion {key[1]} of {key[0]} twice" for key in sorted({k for k in keys if keys.count(k) > 1})
    ]
    _refuse(faults, "tables of files that are there and of lesions that are benign or malignant", root)
    patients = {name: item["patient"] for name, item in items.items() if "patient" in item}
    parts = split_subjects(items, patients=patients, **split)
    return {
        "name": root.name,
        "modality": {str(number): sequence for number, sequence in enumerate(sequences)},
        "split": dict(split),
        **{section: [items[name] for name in parts[section]] for section in SECTIONS},
    }


def _item(
    row: Mapping[str, str], root: Path, sequences: Sequence[str], lesions: dict[str, str], faults: list[str]
) -> dict[str, Any]:
    """A row as an item of a datalist; what is wrong with it is added to ``faults``."""
    name = row["subject"]
    item: dict[str, Any] = {"subject": name, "image": [str(root / row[sequence]) for sequence in sequences]}
    if row["label"]:
        item["label"] = str(root / row["label"])
    elif lesions:
        faults.append(f"{name}: lesions in {LESIONS} and no label file")
    for column in (*sequences, "label"):
        if not row[column] and column != "label":
            faults.append(f"{name}: no {column}")
        elif row[column] and not (root / row[column]).is_file():
            faults.append(f"{name}: no such file: {root / row[column]}")
    faults += _lesion_faults(name, lesions)
    patient = {"patient": row["patient"]} if row.get("patient") else {}
    return {**item, "lesions": lesions, **patient}


def _read(path: Path, columns: Sequence[str], root: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(
            f"a folder with {SUBJECTS} and {LESIONS}, or a datalist (.json)",
            "no such folder" if not root.exists() else "an empty folder" if not _anything(root) else f"no {path.name}",
            root,
            "write the tables as mrsynth.manifest.breasts describes them; the cards in data_manifest/ say how for some "
            "public sets",
        )
    rows = read_table(path)
    if rows and (missing := [column for column in columns if column not in rows[0]]):
        raise UserError(
            f"the columns {', '.join(columns)}",
            f"no {', '.join(missing)} among {', '.join(rows[0])}",
            path,
            "add them, or cut fewer sequences (--sequences)",
        )
    return rows


def _anything(root: Path) -> bool:
    return any(root.iterdir()) if root.is_dir() else root.exists()


def _lesion_faults(subject: str, lesions: Any) -> list[str]:
    if not isinstance(lesions, Mapping):
        return [f"{subject}: lesions {lesions!r}"]
    faults = [
        f"{subject}: lesion {number!r} is no whole number, 1 or more"
        for number in lesions
        if not (str(number).isdecimal() and int(number) > 0)
    ]
    return faults + [
        f"{subject}: lesion {number} is {name!r}" if name else f"{subject}: lesion {number} has no class"
        for number, name in lesions.items()
        if name not in CLASSES[1:]
    ]


def _refuse(faults: Sequence[str], expected: str, where: Path) -> None:
    if faults:
        raise UserError(
            expected,
            f"{len(faults)} faults:\n    " + "\n    ".join(shorten(faults, MOST_LINES)),
            where,
            "edit these lines of the tables or of the datalist",
        )
