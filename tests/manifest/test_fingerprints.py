"""A training subject is recognized by its images under any id, in any form that leaves the intensities alone."""

from __future__ import annotations

import gzip
import logging

import nibabel as nib
import numpy as np
import pytest

from mrsynth.manifest import fingerprint, fingerprints, held_out, in_section, index


def rewritten(item, folder, change):
    files = []
    for file in item["image"]:
        image = nib.load(file)
        files.append(str(folder / f"{len(files)}.nii.gz"))
        nib.save(change(image), files[-1])
    return {"subject": "other", "image": files}


FORMS = {
    "floats": lambda image: nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine),
    "another orientation": nib.as_closest_canonical,
    "cropped": lambda image: image.slicer[1:, 1:, 1:],
    "NaN background": lambda image: nib.Nifti1Image(
        np.where(np.asarray(image.dataobj) == 0, np.nan, image.get_fdata(dtype=np.float32)), image.affine
    ),
}


@pytest.fixture
def subject(tmp_path, make):
    make.brats2021(tmp_path / "data")
    return index(tmp_path / "data", validation=0, test=1)["training"][0]


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS)
def test_the_form_of_the_files_does_not_matter(subject, tmp_path, change):
    assert fingerprint(rewritten(subject, tmp_path, change)) == subject["fingerprint"]


def test_compression_does_not_matter_and_one_voxel_does(subject, tmp_path):
    computed = {key: value for key, value in subject.items() if key != "fingerprint"}
    path = subject["image"][3]
    with open(path, "rb") as stream:
        data = gzip.decompress(stream.read())
    with open(path, "wb") as stream:
        stream.write(gzip.compress(data, 1))
    assert fingerprint(computed) == subject["fingerprint"]
    image = nib.load(path)
    voxels = np.array(image.dataobj)
    voxels[4, 4, 4] += 1
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    assert fingerprint(computed) != subject["fingerprint"]


def test_one_4d_file_has_the_fingerprint_of_four(subject, tmp_path):
    order = [3, 0, 1, 2]
    stack = np.stack([np.asarray(nib.load(subject["image"][i]).dataobj) for i in order], axis=-1)
    nib.save(nib.Nifti1Image(stack, np.eye(4)), tmp_path / "all.nii.gz")
    item = {"subject": "other", "image": str(tmp_path / "all.nii.gz"), "channels": [1, 2, 3, 0]}
    assert fingerprint(item) == subject["fingerprint"]


@pytest.mark.parametrize("use", [held_out, in_section])
def test_a_training_subject_under_another_id_is_refused_with_both_ids(subject, refused, use):
    renamed = {**subject, "subject": "BraTS2021_09999"}
    record = {"subjects": [subject["subject"]], "fingerprints": fingerprints([subject])}
    with refused(found=f"BraTS2021_09999 has the images of {subject['subject']}", where="model.pt", do="leave"):
        use({"test": [renamed]}, "test", record, "model.pt")


def test_weights_of_synthetic_subjects_alone_know_the_images_of_their_parents(subject, refused):
    made = {
        "subject": "Synthetic_0",
        "image": ["gone.nii.gz"],
        "derived_from": [subject["subject"]],
        "parent_fingerprints": {subject["subject"]: subject["fingerprint"]},
    }
    record = {"subjects": ["Synthetic_0", subject["subject"]], "fingerprints": fingerprints([made])}
    with refused(found=f"BraTS2021_09999 has the images of {subject['subject']}"):
        held_out({"test": [{**subject, "subject": "BraTS2021_09999"}]}, "test", record, "model.pt")


def test_another_subject_passes_and_weights_without_fingerprints_are_named_in_the_log(subject, tmp_path, caplog):
    other = index(tmp_path / "data", validation=0, test=1)["test"][0]
    record = {"subjects": [subject["subject"]], "fingerprints": fingerprints([subject])}
    assert held_out({"test": [other]}, "test", record, "model.pt") == [other]
    with caplog.at_level(logging.WARNING):
        held_out({"test": [other]}, "test", {"subjects": [subject["subject"]]}, "model.pt")
    assert "model.pt records no fingerprints" in caplog.text


def test_two_ids_with_the_same_images_are_named_by_the_index(tmp_path, make):
    make.brats2021(tmp_path / "a", 3)
    make.brats(tmp_path / "b", ["BraTS2021_00007"])
    assert any("BraTS2021_00007 has the same images as BraTS2021_00000" in t for t in index(tmp_path)["warnings"])
