"""File names and folders that are usual in hospitals, several releases together, and subjects without a label."""

from __future__ import annotations

import pytest

from mrsynth.manifest import SECTIONS, in_section, index, load_datalist, summary
from mrsynth.manifest.folders import find_subjects

SEQUENCES = ("t1", "t1ce", "t2", "flair")


def subjects(datalist):
    return sorted(item["subject"] for section in SECTIONS for item in datalist[section])


@pytest.mark.parametrize("word", ["t1gd", "t1Gd", "t1c", "t1post", "T1CE", "t1_ce", "T1-Gd"])
@pytest.mark.parametrize("prefix", ["BraTS2021_0000", "Patient"])
def test_usual_names_of_t1ce_in_any_case(tmp_path, make, word, prefix):
    make.brats(tmp_path, [f"{prefix}{i}" for i in range(3)], names={"t1ce": word, "t2": "T2w", "flair": "FLAIR"})
    item = index(tmp_path)["training"][0]
    assert [path.rsplit(item["subject"], 1)[1] for path in item["image"]] == [
        "_t1.nii.gz",
        f"_{word}.nii.gz",
        "_T2w.nii.gz",
        "_FLAIR.nii.gz",
    ]


def bids(root, make, ids, values=(1, 2, 4), label="{0}/anat/{1}_dseg.nii.gz"):
    names = {"t1": "T1w", "t1ce": "ce-gadolinium_T1w", "t2": "acq-tse_T2w", "flair": "FLAIR"}
    for seed, path in enumerate(ids):
        name = path.replace("/", "_")
        for sequence, word in names.items():
            make.save(root / path / "anat" / f"{name}_{word}.nii.gz", make.brain(10 * seed + len(sequence)))
        make.save(root / label.format(path, name), make.tumor(values))


def test_bids(tmp_path, make):
    bids(tmp_path, make, ["sub-01", "sub-02", "sub-03"])
    datalist = index(tmp_path)
    assert datalist["dataset"] == "bids" and subjects(datalist) == ["sub-01", "sub-02", "sub-03"]
    ends = [path.split("sub-", 2)[2][3:] for path in datalist["training"][0]["image"]]
    assert ends == ["T1w.nii.gz", "ce-gadolinium_T1w.nii.gz", "acq-tse_T2w.nii.gz", "FLAIR.nii.gz"]


def test_bids_with_sessions_and_labels_among_derivatives(tmp_path, make):
    ids = [f"sub-{i}/ses-{j}" for i in "ABC" for j in "12"]
    bids(tmp_path, make, ids, label="derivatives/labels/{0}/anat/{1}_space-T1w_dseg.nii.gz")
    datalist = index(tmp_path)
    assert subjects(datalist) == [name.replace("/", "_") for name in ids]
    sides = {(item["patient"], section) for section in SECTIONS for item in datalist[section]}
    assert len(sides) == 3  # a patient's sessions are on one side


def test_labels_of_bids_that_could_mean_several_things_are_refused_until_their_convention_is_named(
    tmp_path, make, refused
):
    bids(tmp_path, make, ["sub-01", "sub-02", "sub-03"], values=(1, 2, 3))
    with refused(do="--dataset"):
        index(tmp_path)
    assert index(tmp_path, dataset="brats2023")["label_map"]["3"] == 4


def mixed(root, make):
    make.brats2021(root / "a", 6)
    make.brats(root / "b", [f"Brats18_CBICA_AA{i}_1" for i in "BCD"], names={"t1": "T1"})


def test_subjects_of_another_release_that_are_left_out_are_counted_and_named(tmp_path, make):
    mixed(tmp_path, make)
    said = summary(index(tmp_path, dataset="brats2021"))
    assert "3 subjects of brats2018 left out: Brats18_CBICA_AAB_1, Brats18_CBICA_AAC_1, Brats18_CBICA_AAD_1" in said
    assert "--dataset brats2021,brats2018" in said


@pytest.mark.parametrize("dataset", ["brats2018,brats2021", ["brats2018", "brats2021"], ("brats2018", " brats2021")])
def test_releases_with_one_label_convention_are_used_together_when_asked_for(tmp_path, make, dataset):
    mixed(tmp_path, make)
    found = find_subjects(tmp_path, dataset)
    assert len(found.subjects) == 9 and found.labels.id == "brats2018,brats2021"
    assert not any("left out" in text for text in found.warnings)


def test_releases_with_other_label_values_are_not_mixed(tmp_path, make, refused):
    make.brats2021(tmp_path / "a")
    make.brats2023(tmp_path / "b", [f"BraTS-GLI-0000{i}-000" for i in range(3)])
    with refused(expected="one meaning", found="brats2023: labels", do="--dataset brats2021"):
        find_subjects(tmp_path, "brats2021,brats2023")
    with refused(expected="brats2018,brats2021", found="brats2021, brats2023", do="without brats2018"):
        find_subjects(tmp_path, "brats2018,brats2021")


def test_subjects_without_labels_are_kept_where_none_are_needed(tmp_path, make, refused):
    for folder in make.brats2021(tmp_path, 4)[:3]:
        (folder / f"{folder.name}_seg.nii.gz").unlink()
    with refused(found="no file for label", do="--skip_bad"):
        index(tmp_path)
    datalist = load_datalist(index(tmp_path, label=False))
    assert sorted(item["subject"] for item in in_section(datalist, "all") if "label" in item) == ["BraTS2021_00003"]
    assert len(subjects(datalist)) == 4
