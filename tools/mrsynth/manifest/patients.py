"""Tables of patients who appear under several names: in several releases, or at several time points."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

from mrsynth.errors import UserError

_NAME_COLUMN = re.compile(r"brats|subject|patient|tcga|(?:^|[ _])ids?(?:$|[ _])", re.IGNORECASE)
_NOTHING = {"", "na", "n/a", "nan", "none", "-"}


def read_patients(path: str | os.PathLike) -> dict[str, str]:
    """Patient of each name in a table of same patients.

    Args:
        path: JSON ``{"patient": ["BraTS20_Training_001", "BraTS19_CBICA_AAB_1"], ...}``, or a CSV with one
            row per patient and one column per release, such as BraTS' ``name_mapping.csv``. Rows that share
            a name are one patient, so a ``patient,subject`` table with several rows a patient works as well.

    Returns:
        patient by subject id, every name mapped.

    Raises:
        UserError: the file is missing, is neither of the two, or puts one name under two patients.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError("a JSON or CSV file of same patients", "no such file", path, "check --same_patient")
    if path.suffix.lower() == ".json":
        return _from_json(path)
    if path.suffix.lower() == ".csv":
        return _from_csv(path)
    raise UserError("a .json or .csv file", path.name, path, "save the table as .csv (from .xlsx, too)")


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV with a header, separated by commas or semicolons; cells stripped, NA made empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")
    header = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if header.count(";") > header.count(",") else ",")
    return [{(key or "").strip(): _cell(value) for key, value in row.items()} for row in reader]


def is_name_column(header: str) -> bool:
    """Whether a column holds names of subjects or patients (and not a grade, a site, an age)."""
    return bool(_NAME_COLUMN.search(header))


def _cell(value: str | list[str] | None) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return "" if text.lower() in _NOTHING else text


def _from_json(path: Path) -> dict[str, str]:
    expected = 'JSON of the form {"patient": ["name in one release", "name in another"], ...}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(expected, str(error), path, "write it as in the expected form, or pass a .csv") from error
    if not isinstance(content, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in content.values()
    ):
        raise UserError(expected, "another structure", path, "write it as in the expected form, or pass a .csv")
    patients: dict[str, str] = {}
    for patient, names in content.items():
        for name in names:
            if patients.setdefault(name, patient) != patient:
                raise UserError(
                    "each name under one patient",
                    f"{name} under {patients[name]} and {patient}",
                    path,
                    f"list all names of this person under {patients[name]} alone",
                )
    return patients


def _from_csv(path: Path) -> dict[str, str]:
    rows = read_table(path)
    columns = [column for column in (rows[0] if rows else {}) if is_name_column(column)]
    if not columns:
        raise UserError(
            "a table with columns of names (a header with BraTS, subject, patient or ID in it)",
            f"columns {list(rows[0]) if rows else []}",
            path,
            "name the columns in the first line, for instance BraTS_2020_subject_ID",
        )
    groups: list[set[str]] = []
    for row in rows:
        # a bare number names someone only within its own column
        names = {f"{c} {row[c]}" if row[c].isdigit() else row[c] for c in columns if row[c]}
        touching = [group for group in groups if group & names]
        groups = [group for group in groups if not group & names] + [names.union(*touching)]
    return {name: min(group) for group in groups if group for name in group}
