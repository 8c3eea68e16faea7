"""Subjects from disk, in every form that a datalist can name."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from mrsynth.transforms import LoadSubjectd, map_labels, read_volume

SEQUENCES = ("t1", "t1ce", "t2", "flair")


@pytest.fixture
def subject(make_brain, brats, tmp_path):
    """A subject on disk: (what it is, its datalist entry)."""
    write, entry = brats
    made = make_brain(0)
    write(tmp_path, "BraTS2021_00000", made)
    return made, entry(tmp_path, "BraTS2021_00000")


def check(loaded: dict, made) -> None:
    np.testing.assert_array_equal(loaded["image"].numpy(), made.image)
    np.testing.assert_array_equal(loaded["label"].numpy()[0], made.label)
    for key in ("image", "label"):
        np.testing.assert_allclose(loaded[key].affine, made.affine, atol=1e-5)
    assert loaded["image"].dtype == torch.int16 and loaded["label"].dtype == torch.uint8


def test_four_compressed_files(subject):
    made, entry = subject
    check(LoadSubjectd()(entry), made)


def test_four_plain_files(subject):
    made, entry = subject
    files = [*entry["image"], entry["label"]]
    plain = [name.removesuffix(".gz") for name in files]
    for old, new in zip(files, plain, strict=True):
        nib.save(nib.load(old), new)
    check(LoadSubjectd()({"image": plain[:4], "label": plain[4]}), made)


def test_metaimages_as_in_2015(subject, tmp_path):
    made, entry = subject
    files = []
    for index, name in enumerate([*entry["image"], entry["label"]]):
        files.append(str(tmp_path / f"VSD.{index}.mha"))
        sitk.WriteImage(sitk.ReadImage(name), files[-1])
    check(LoadSubjectd()({"image": files[:4], "label": files[4]}), made)


def test_one_4d_file_whose_channels_stand_in_another_order(subject, tmp_path):
    made, entry = subject
    order = ["flair", "t1", "t1ce", "t2"]  # the Decathlon's
    stack = np.stack([made.image[SEQUENCES.index(name)] for name in order], axis=-1)
    nib.save(nib.Nifti1Image(stack, made.affine), tmp_path / "BRATS_001.nii.gz")
    channels = [order.index(name) for name in SEQUENCES]
    item = {"image": str(tmp_path / "BRATS_001.nii.gz"), "label": entry["label"], "channels": channels}
    check(LoadSubjectd()(item), made)


def test_enhancing_tumor_written_as_3_becomes_4(subject, tmp_path):
    made, entry = subject
    as_2023 = np.where(made.label == 4, 3, made.label)
    nib.save(nib.Nifti1Image(as_2023, made.affine), tmp_path / "seg.nii.gz")
    item = {**entry, "label": str(tmp_path / "seg.nii.gz"), "label_map": {0: 0, 1: 1, 2: 2, 3: 4}}
    check(LoadSubjectd()(item), made)


def test_labels_stored_as_floats_are_read(subject, tmp_path):
    made, entry = subject
    nib.save(nib.Nifti1Image(made.label.astype(np.float32), made.affine), tmp_path / "seg.nii.gz")
    check(LoadSubjectd()({**entry, "label": str(tmp_path / "seg.nii.gz")}), made)


def test_other_values_of_an_item_pass_through(subject):
    _, entry = subject
    assert LoadSubjectd()({**entry, "grade": "HGG"})["grade"] == "HGG"


def test_an_image_alone_is_enough_if_told(subject):
    made, entry = subject
    loaded = LoadSubjectd("image")({"image": entry["image"]})
    np.testing.assert_array_equal(loaded["image"].numpy(), made.image)


@pytest.mark.parametrize("damage", ["cut in half", "cut at its end", "a bad byte", "empty", "text"])
def test_a_damaged_file_is_refused(subject, refused, damage):
    _, entry = subject
    name = entry["image"][2]
    with open(name, "rb") as stream:
        data = stream.read()
    middle = len(data) // 2
    broken = {
        "cut in half": data[:middle],
        "cut at its end": data[:-4],
        "a bad byte": data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :],
        "empty": b"",
        "text": b"<html>not found</html>",
    }[damage]
    with open(name, "wb") as stream:
        stream.write(broken)
    with refused(expected="readable image", where=name, do="fetch the file again"):
        LoadSubjectd()(entry)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha"])
def test_a_missing_file_is_refused(tmp_path, refused, ending):
    with refused(where=f"gone{ending}"):
        read_volume(tmp_path / f"gone{ending}")


def test_an_unknown_label_value_is_refused(subject, tmp_path, refused):
    made, entry = subject
    nib.save(nib.Nifti1Image(made.label + np.uint8(3) * (made.label == 4), made.affine), tmp_path / "seg.nii.gz")
    with refused(expected="[0, 1, 2, 4]", found="7", where="seg.nii.gz", do="dataset"):
        LoadSubjectd()({**entry, "label": str(tmp_path / "seg.nii.gz")})


@pytest.mark.parametrize("value", [-1, 3, 255, 300, 65537, 1.5, np.nan])
def test_no_value_slips_through_the_label_map(refused, value):
    label = np.zeros((3, 3, 3), np.float32)
    label[1, 1, 1] = value
    with refused(expected="[0, 1, 2, 4]", where="here"):
        map_labels(label, None, "here")


@pytest.mark.parametrize("change", ["shifted", "another shape"])
def test_a_file_on_another_grid_is_refused(subject, tmp_path, refused, change):
    made, entry = subject
    affine, label = made.affine.copy(), made.label
    if change == "shifted":
        affine[0, 3] += 6
    else:
        label = label[:, :, :-1]
    nib.save(nib.Nifti1Image(label, affine), tmp_path / "seg.nii.gz")
    with refused(expected="(24, 24, 20)", where="seg.nii.gz", do="leave the subject out"):
        LoadSubjectd()({**entry, "label": str(tmp_path / "seg.nii.gz")})


def test_a_wrong_number_of_sequences_is_refused(subject, refused):
    _, entry = subject
    with refused(expected="4 sequences", found="3 channels", do="channels"):
        LoadSubjectd()({**entry, "image": entry["image"][:3]})


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("slope", [1.0, 0.5])
@pytest.mark.parametrize("form", ["four files", "one 4D file"])
def test_either_byte_order_and_scaled_values_are_read(subject, tmp_path, order, slope, form):
    made, _ = subject

    def save(array, name):
        nifti = nib.Nifti1Image(array.astype(np.int16), made.affine, nib.Nifti1Header(endianness=order))
        nifti.header.set_data_dtype(np.dtype(np.int16).newbyteorder(order))
        nifti.header.set_slope_inter(slope, 0)
        nib.save(nifti, tmp_path / name)
        return str(tmp_path / name)

    image = made.image
    if form == "one 4D file":
        item = {"image": save(np.moveaxis(image, 0, -1), "x.nii.gz")}
    else:
        item = {"image": [save(volume, f"{i}.nii.gz") for i, volume in enumerate(image)]}
    loaded = LoadSubjectd("image")(item)["image"]
    np.testing.assert_allclose(loaded.numpy(), image * slope)
    loaded += 1  # and what is read may be written to
