"""Subjects on disk: whole or not there, with their lineage, never mixed with another recipe's."""

from __future__ import annotations

import json
import resource

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.manifest import load_datalist
from mrsynth.synthesis import SubjectWriter, parents_in
from mrsynth.transforms import write_nifti

RECORD = {"sha256": "ab" * 32, "version": "0.1.0", "epoch": 3, "subjects": ["A", "B", "C"]}
PARENTS = [{"subject": "A"}, {"subject": "B", "derived_from": ["older"]}]
AFFINE = np.diag([-2.0, -2.0, 2.0, 1.0])


@pytest.fixture
def make(tmp_path):
    """A maker of writers into one folder, and of what they are given."""
    recipient = tmp_path / "A_t1.nii.gz"
    write_nifti(recipient, np.ones((8, 8, 8), np.int16), AFFINE)

    class Make:
        folder = tmp_path / "out" / "synthetic"

        @staticmethod
        def writer(**changes) -> SubjectWriter:
            options = {"record": RECORD, "parents": PARENTS, "settings": {"align": True, "min_kept": 0.5}, "count": 2}
            return SubjectWriter(tmp_path / "out", **{**options, **changes})

        @staticmethod
        def item(number: int = 0) -> tuple[dict, MetaTensor]:
            random = np.random.default_rng(number)
            image = random.integers(1, 1001, (4, 8, 8, 8)).astype(np.int16)
            image[:, :2] = 0
            label = random.choice(np.array([0, 1, 2, 4], np.uint8), (1, 8, 8, 8))
            item = {"number": number, "recipient_file": str(recipient)}
            item["native_label"] = item["transplanted"] = MetaTensor(torch.from_numpy(label))
            item["transplant"] = {"recipient": "A", "donor": "B", "kept": 0.9, "place": 4 + number, "tries": 1}
            return item, MetaTensor(torch.from_numpy(image), affine=torch.from_numpy(AFFINE))

    return Make


def test_a_subject_is_laid_out_as_the_dataset_publishes_its_own(make):
    item, image = make.item()
    folder = make.writer().write(item, image)
    kinds = ("t1", "t1ce", "t2", "flair", "seg")
    expected = [f"{folder.name}.json", *(f"{folder.name}_{kind}.nii.gz" for kind in kinds)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(expected)
    for channel, kind in enumerate(kinds[:4]):
        assert np.array_equal(nib.load(folder / f"{folder.name}_{kind}.nii.gz").dataobj, image.numpy()[channel])
    label = np.asarray(nib.load(folder / f"{folder.name}_seg.nii.gz").dataobj)
    assert label.dtype == np.uint8 and not label[:2].any()  # zero where no image was synthesized
    assert np.array_equal(label[2:], item["native_label"].numpy()[0, 2:])


def test_the_sidecar_says_where_it_comes_from(make):
    folder = make.writer(seed=7).write(*make.item())
    sidecar = json.loads((folder / f"{folder.name}.json").read_text())
    assert (sidecar["recipient"], sidecar["donor"], sidecar["seed"]) == ("A", "B", 7)
    assert sidecar["training_subjects"] == RECORD["subjects"]
    assert sidecar["weights"]["sha256"] == RECORD["sha256"]
    assert set(sidecar["versions"]) == {"mrsynth", "python", "monai", "torch"}
    assert sidecar["transplant"] == {"kept": 0.9, "place": 4, "tries": 1, "align": True, "min_kept": 0.5}


def test_the_datalist_names_all_ancestors_and_can_be_loaded(make):
    parents = [PARENTS[0], {**PARENTS[1], "fingerprint": "2f"}]
    known = {"record": {**RECORD, "fingerprints": {"A": "1f"}}, "parents": parents}
    writer = make.writer(**known)
    for number in range(2):
        writer.write(*make.item(number))
    writer.finish()
    items = load_datalist(make.folder / "datalist.json")
    assert not items["validation"] and not items["test"] and len(items["training"]) == 2
    for item in items["training"]:
        assert set(item["derived_from"]) == {"A", "B", "older", "C"}
        assert item["parent_fingerprints"] == {"A": "1f", "B": "2f"}


def test_complete_subjects_are_known_and_leftovers_removed(make):
    writer = make.writer()
    first, second = (writer.write(*make.item(number)) for number in range(2))
    (make.folder / ".tmp-killed").mkdir()
    assert make.writer().complete() == {0: 4, 1: 5}
    assert not (make.folder / ".tmp-killed").exists()
    (second / f"{second.name}_t2.nii.gz").unlink()  # a subject that lost a file is made again
    assert make.writer().complete() == {0: 4}
    assert first.is_dir()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"record": {**RECORD, "sha256": "cd" * 32}}, "weights"),
        ({"settings": {"align": False, "min_kept": 0.5}}, "align"),
        ({"grid": "training"}, "grid"),
        ({"parents": PARENTS[:1]}, "pool"),
    ],
)
def test_a_folder_of_another_recipe_is_refused(make, refused, change, named):
    make.writer().write(*make.item())
    other = make.writer(**change)
    with refused(found=named):
        other.complete()
    assert other.name(0) != make.writer().name(0)


def test_a_folder_of_something_else_is_refused(make, refused):
    (make.folder / "holiday").mkdir(parents=True)
    with refused(found="holiday"):
        make.writer().complete()


def test_a_full_disk_leaves_no_half_subject(make, refused):
    writer = make.writer()
    kept = writer.write(*make.item(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with refused(found="no space left"):
            writer.write(*make.item(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(make.folder.iterdir()) == [kept]


def test_an_unwritable_folder_is_refused(make, refused):
    make.folder.parent.mkdir()
    make.folder.write_text("a file where the folder should be")
    with refused(do="output_dir"):
        make.writer().complete()


def test_only_subjects_that_the_weights_have_seen_become_parents(refused):
    subjects = {"training": [{"subject": "A"}, {"subject": "C"}], "test": [{"subject": "D"}]}
    assert [item["subject"] for item in parents_in(subjects, "training", RECORD)] == ["A", "C"]
    with refused(found="D"):
        parents_in(subjects, "test", RECORD)
    with refused(found="'tests'"):
        parents_in(subjects, "tests", RECORD)
