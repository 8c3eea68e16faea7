"""Volumes whose background is not zero: found, brought to zero, or refused, by the index and the loader alike."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest
import torch

from mrsynth.manifest import index
from mrsynth.manifest.background import NoBackground, zero_background
from mrsynth.manifest.check import read_volume
from mrsynth.transforms import BrainMaskd, LoadSubjectd


def z_scored(volume):
    return ((volume - volume.mean()) / volume.std()).astype(np.float32)


BACKGROUNDS = {
    "z-scored over the whole volume": z_scored,
    "NaN": lambda volume: np.where(volume == 0, np.nan, volume).astype(np.float32),
    "-1024": lambda volume: np.where(volume == 0, -1024, volume).astype(np.int16),
}


@pytest.mark.parametrize("change", BACKGROUNDS.values(), ids=BACKGROUNDS)
def test_any_constant_background_gives_the_brain_of_the_zero_one(tmp_path, make, make_brain, brats, change):
    write, entry = brats
    for i in range(3):
        subject = make_brain(i)
        write(tmp_path, f"BraTS2021_{i:05d}", subject)
    plain = BrainMaskd()(LoadSubjectd()(entry(tmp_path, "BraTS2021_00001")))
    for name in entry(tmp_path, "BraTS2021_00001")["image"]:
        file = nib.load(name)
        changed = change(np.asarray(file.dataobj))
        nib.save(nib.Nifti1Image(changed, file.affine), name)
    assert index(tmp_path)["skipped"] == []
    loaded = BrainMaskd()(LoadSubjectd()(entry(tmp_path, "BraTS2021_00001")))
    assert torch.equal(loaded["brain"], plain["brain"])
    assert torch.isfinite(loaded["image"]).all() and (loaded["image"][:, loaded["brain"][0] == 0] == 0).all()


def test_a_zero_background_is_left_as_it_is(make):
    volume = make.brain()
    assert zero_background(volume) is volume


def test_a_background_that_was_interpolated_is_found(make):
    volume = z_scored(make.brain())
    volume[::2] = np.nextafter(volume[::2], np.float32(0))
    assert np.array_equal(zero_background(volume) != 0, make.brain() != 0)


def test_a_head_with_noise_around_it_is_refused_by_index_and_loader(tmp_path, make, refused):
    folder = make.brats2021(tmp_path)[0]
    noise = np.random.default_rng(0).integers(1, 30, (8, 8, 8)).astype(np.int16)
    noise[3:6, 3:6, 3:6] = 1000
    with pytest.raises(NoBackground, match="no constant background"):
        zero_background(noise)
    make.save(folder / f"{folder.name}_t1.nii.gz", noise)
    with refused(found="no constant background", do="--skip_bad"):
        index(tmp_path)
    image = [str(folder / f"{folder.name}_{kind}.nii.gz") for kind in ("t1", "t1ce", "t2", "flair")]
    with refused(found="no constant background", where="_t1.nii.gz", do="strip the skull"):
        LoadSubjectd("image")({"image": image})


def test_a_volume_stored_with_a_fourth_axis_of_one_is_three_dimensional(tmp_path, make):
    for folder in make.brats2021(tmp_path):
        make.save(folder / f"{folder.name}_t2.nii.gz", make.brain(9)[..., None])
    item = index(tmp_path)["training"][0]
    loaded = LoadSubjectd("image")({"image": item["image"]})["image"]
    assert loaded.shape == (4, 8, 8, 8)
    np.testing.assert_array_equal(loaded[2].numpy(), make.brain(9))


def test_sform_and_qform_that_disagree_are_named_once_and_the_sform_is_used(tmp_path, make):
    file = nib.Nifti1Image(make.brain(), make.affine)
    shifted = make.affine.copy()
    for millimeters, name in ((0.5, "near.nii.gz"), (7.0, "far.nii.gz")):
        shifted[0, 3] = millimeters
        file.set_sform(make.affine, code=1)
        file.set_qform(shifted, code=1)
        nib.save(file, tmp_path / name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        read_volume(tmp_path / "near.nii.gz")
        for _ in range(2):
            np.testing.assert_array_equal(read_volume(tmp_path / "far.nii.gz")[1], make.affine)
    (said,) = [str(warning.message) for warning in caught]
    assert "far.nii.gz" in said and "7.0 mm" in said and "the sform is used" in said
