"""Splits: their properties, over many sizes, seeds and groupings."""

import json
import random

import pytest

from mrsynth.errors import UserError
from mrsynth.manifest import SECTIONS, read_patients, split_subjects


def ids(n):
    return [f"S{i}" for i in range(n)]


def everyone(split):
    return sorted(subject for part in split.values() for subject in part)


def sizes(split):
    return [len(split[section]) for section in SECTIONS]


@pytest.mark.parametrize("mode", ["random", "ordered"])
@pytest.mark.parametrize("n", [3, 4, 12, 100, 369])
def test_parts_cover_all_and_are_disjoint(n, mode):
    split = split_subjects(ids(n), mode=mode)
    assert everyone(split) == sorted(ids(n))
    assert all(split.values())


def test_published_sizes():
    assert sizes(split_subjects(ids(12))) == [9, 1, 2]
    assert sizes(split_subjects(ids(369), validation=0, test=73)) == [296, 0, 73]
    assert sizes(split_subjects(ids(100), validation=0, test=0.2)) == [80, 0, 20]
    assert sizes(split_subjects(ids(1), validation=0, test=0)) == [1, 0, 0]


def test_same_seed_same_split_in_any_listing_order():
    shuffled = ids(50)
    random.Random(1).shuffle(shuffled)
    assert split_subjects(ids(50), seed=5) == split_subjects(shuffled, seed=5)
    assert split_subjects(ids(50), seed=5) != split_subjects(ids(50), seed=6)


def test_ordered_takes_the_first_in_natural_order():
    split = split_subjects(reversed(ids(264)), mode="ordered", validation=0, test=0.2)
    assert split["training"] == ids(264)[:211] and split["test"] == ids(264)[211:]
    assert split_subjects(ids(264), mode="ordered", seed=9, validation=0, test=0.2) == split


@pytest.mark.parametrize(("n", "k"), [(12, 3), (12, 5), (7, 7), (100, 5)])
def test_each_subject_is_tested_in_exactly_one_fold(n, k):
    splits = [split_subjects(ids(n), folds=k, fold=fold, validation=0 if n == 7 else 0.1) for fold in range(k)]
    assert sorted(subject for split in splits for subject in split["test"]) == sorted(ids(n))
    assert max(sizes(s)[2] for s in splits) - min(sizes(s)[2] for s in splits) <= 1
    for split in splits:
        assert everyone(split) == sorted(ids(n))


@pytest.mark.parametrize("options", [{}, {"mode": "ordered"}, {"folds": 4, "fold": 1}, {"validation": 0}])
def test_a_patient_is_never_on_two_sides(options):
    for seed in range(20):
        draw = random.Random(seed)
        patients = {subject: f"P{draw.randrange(12)}" for subject in ids(40) if draw.random() < 0.8}
        split = split_subjects(ids(40), seed=seed, patients=patients, **options)
        assert everyone(split) == sorted(ids(40))
        for patient in set(patients.values()):
            sides = {s for s in SECTIONS for subject in split[s] if patients.get(subject) == patient}
            assert len(sides) == 1


def test_count_is_met_exactly_or_refused():
    patients = {subject: f"P{i // 4}" for i, subject in enumerate(ids(12))}
    assert sizes(split_subjects(ids(12), validation=0, test=4, patients=patients)) == [8, 0, 4]
    with pytest.raises(UserError, match="4 is the nearest"):
        split_subjects(ids(12), validation=0, test=5, patients=patients)
    assert sizes(split_subjects(ids(12), validation=0, test=0.1, patients=patients)) == [8, 0, 4]


@pytest.mark.parametrize(
    "options",
    [
        {"n": 2},
        {"n": 1},
        {"n": 0, "validation": 0, "test": 0},
        {"test": 13},
        {"test": 12, "validation": 0},
        {"test": 10, "validation": 5},
        {"test": 1.5},
        {"test": -1},
        {"test": "many"},
        {"test": float("nan")},
        {"test": True},
        {"folds": 1},
        {"folds": 13},
        {"folds": 3, "fold": 3},
        {"folds": 3, "fold": -1},
        {"mode": "backwards"},
    ],
)
def test_impossible_splits_are_refused(options):
    n = options.pop("n", 12)
    with pytest.raises(UserError):
        split_subjects(ids(n), **options)


def test_an_id_twice_is_refused():
    with pytest.raises(UserError, match="1 ids twice"):
        split_subjects(["a", "b", "a"])


# tables of same patients -----------------------------------------------------------------------------------


def test_name_mapping(tmp_path):
    table = tmp_path / "name_mapping.csv"
    table.write_text(
        "Grade,BraTS_2019_subject_ID,TCGA_TCIA_subject_ID,BraTS_2020_subject_ID\n"
        "HGG,BraTS19_CBICA_AAB_1,NA,BraTS20_Training_001\n"
        "HGG,BraTS19_TCIA_1_1,TCGA-02-0006,BraTS20_Training_002\n"
        "HGG,NA,TCGA-02-0006,BraTS20_Training_003\n"
    )
    patients = read_patients(table)
    assert patients["BraTS19_CBICA_AAB_1"] == patients["BraTS20_Training_001"]
    assert patients["BraTS20_Training_002"] == patients["BraTS20_Training_003"] == patients["TCGA-02-0006"]
    assert patients["BraTS20_Training_001"] != patients["BraTS20_Training_002"]
    assert not {"HGG", "NA", ""} & set(patients)


def test_table_with_semicolons_and_numbers(tmp_path):
    table = tmp_path / "same.csv"
    table.write_text("\ufeffpatient;subject;age\n1;A;60\n1;B;61\n2;1x;60\n", encoding="utf-8")
    patients = read_patients(table)
    assert patients["A"] == patients["B"] != patients["1x"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "["),
        ("a.json", json.dumps({"p": "S1"})),
        ("a.json", json.dumps({"p": ["S1"], "q": ["S1"]})),
        ("a.csv", "color,age\nred,3\n"),
        ("a.csv", ""),
        ("a.xlsx", "PK"),
        ("missing.json", None),
    ],
)
def test_bad_tables_are_refused(tmp_path, name, text):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError):
        read_patients(tmp_path / name)
