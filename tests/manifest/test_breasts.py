"""The tables of breast MRI: read into a datalist, and everything that is wrong with them named at once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mrsynth.files import write_csv
from mrsynth.manifest import load_datalist, write_datalist
from mrsynth.manifest.breasts import SEQUENCES, breast_datalist, read_cohort


def tables(folder: Path, subjects: dict[str, dict], lesions: list[tuple[str, str, str]]) -> Path:
    """Write tables and the (empty) files that they name; ``subjects`` says what differs from a usual row."""
    rows = []
    for name, other in subjects.items():
        row = {"subject": name, **{column: f"{name}/{column}.nii.gz" for column in (*SEQUENCES, "label")}, **other}
        rows.append(row)
        for column in (*SEQUENCES, "label"):
            if row[column] and row[column] != "none.nii.gz":
                (folder / row[column]).parent.mkdir(parents=True, exist_ok=True)
                (folder / row[column]).touch()
    write_csv(folder / "subjects.csv", rows)
    write_csv(folder / "lesions.csv", [dict(zip(("subject", "lesion", "class"), row, strict=True)) for row in lesions])
    return folder


USUAL = [("A", "1", "benign"), ("A", "2", "Malignant"), ("B", "1", "malignant")]


def test_datalist_has_files_in_order_classes_and_patients(tmp_path):
    people = {"A": {"patient": "P"}, "B": {"patient": ""}, "C": {"label": "", "patient": "P"}}
    tables(tmp_path, people, USUAL)
    content = breast_datalist(tmp_path, validation=0, test=1)
    assert list(content["modality"].values()) == list(SEQUENCES)
    items = {item["subject"]: item for part in load_datalist(content).values() for item in part}
    assert items["A"]["image"] == [str(tmp_path / "A" / f"{sequence}.nii.gz") for sequence in SEQUENCES]
    assert items["A"]["label"] == str(tmp_path / "A/label.nii.gz")
    assert items["A"]["lesions"] == {"1": "benign", "2": "malignant"}
    assert items["C"]["lesions"] == {} and "label" not in items["C"]
    # A and C are one woman in two scans, so they are on one side
    assert [item["subject"] for item in content["test"]] == ["B"]


def test_a_spreadsheet_in_another_dialect_is_read_too(tmp_path):
    tables(tmp_path, {"A": {}, "B": {}}, USUAL)
    with open(tmp_path / "subjects.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    (tmp_path / "subjects.csv").write_text("\n".join(";".join(row) for row in rows), encoding="utf-8-sig")
    assert len(breast_datalist(tmp_path, validation=0, test=0)["training"]) == 2


def test_a_datalist_keeps_its_own_split_and_sequences(tmp_path):
    tables(tmp_path, {name: {} for name in "ABC"}, USUAL[:2])
    wanted = ("t1_pre", "t1_post1")
    content = breast_datalist(tmp_path, wanted, validation=1, test=1, seed=3)
    write_datalist(tmp_path / "datalist.json", content)
    cohort = read_cohort(tmp_path / "datalist.json", seed=0, validation=0, test=0)
    assert cohort.sequences == wanted
    for section in ("training", "validation", "test"):
        assert [item["subject"] for item in cohort.sections[section]] == [item["subject"] for item in content[section]]
    assert read_cohort(tmp_path, wanted, validation=0, test=0).sections["test"] == []


def test_all_faults_are_named_at_once(tmp_path, refused):
    people = {
        "A": {"t2": ""},
        "B": {"t1_post3": "none.nii.gz", "label": ""},
        "C": {},
        "../D": {},
    }
    lesions = [("B", "1", "benign"), ("C", "1", ""), ("C", "2", "cyst"), ("C", "3", "benign"), ("C", "3", "malignant")]
    lesions += [("C", "x", "benign"), ("Z", "1", "benign")]
    tables(tmp_path / "data", people, lesions)
    with pytest.raises(ValueError) as error:
        breast_datalist(tmp_path / "data")
    for fault in (
        "9 faults",
        "A: no t2",
        "B: no such file",
        "B: lesions in lesions.csv and no label file",
        "C: lesion 1 has no class",
        "C: lesion 2 is 'cyst'",
        "lesion 3 of C twice",
        "C: lesion 'x' is no whole number",
        "'../D' is no name",
        "Z is not in subjects.csv",
    ):
        assert fault in str(error.value), fault


def test_missing_tables_rows_and_columns(tmp_path, refused):
    with refused(found="no such folder", expected="subjects.csv"):
        read_cohort(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with refused(found="an empty folder"):
        read_cohort(tmp_path / "empty")
    (tmp_path / "empty/notes.txt").touch()
    with refused(found="no subjects.csv"):
        read_cohort(tmp_path / "empty")
    tables(tmp_path / "data", {"A": {}}, USUAL[:1])
    (tmp_path / "data/lesions.csv").unlink()
    with refused(found="no lesions.csv"):
        read_cohort(tmp_path / "data")
    with refused(found="no t1_post5", do="--sequences"):
        breast_datalist(tmp_path / "data", (*SEQUENCES, "t1_post5"))
    (tmp_path / "data/subjects.csv").write_text("subject,t2\n")
    with refused(found="an empty table"):
        breast_datalist(tmp_path / "data")


def test_a_subject_twice(tmp_path, refused):
    tables(tmp_path, {"A": {}}, USUAL[:1])
    lines = (tmp_path / "subjects.csv").read_text()
    (tmp_path / "subjects.csv").write_text(lines + lines.splitlines()[1] + "\n")
    with refused(found="subject 'A' twice"):
        breast_datalist(tmp_path)


def test_faults_of_a_datalist(tmp_path, refused):
    tables(tmp_path, {"A": {}, "B": {}, "C": {}}, USUAL)
    content = breast_datalist(tmp_path, validation=0, test=1)

    def load(changed):
        (tmp_path / "datalist.json").write_text(json.dumps(changed))
        return read_cohort(tmp_path / "datalist.json")

    assert load(content).name == tmp_path.name
    with refused(expected="modality"):
        load({**content, "modality": None})
    with refused(found="lesions ['benign']"):
        load({**content, "test": [{**content["test"][0], "lesions": ["benign"]}]})
    same = {**content["test"][0], "subject": "other"}  # the files of one in two parts
    with refused(found="same file"):
        load({**content, "validation": [same]})
