"""``mrsynth.load``: what it makes is what the bundles write, with several bundles in one process."""

from __future__ import annotations

import json
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import mrsynth

pytestmark = pytest.mark.slow

RUN = {"max_epochs": 1, "validate_every": 0, "montage_every": 0, "device": "cpu", "amp": "none"}
SMALL = {
    "brain2d": {"slices": "[36,113]", "batch_size": 8, "width": 0.05, "latent_size": 4, "condition": "tumor"},
    "unet3d": {"patch_size": "[16,16,16]", "filters": "[4,8,8]", "iterations_per_epoch": 2, "batch_size": 2},
}


@pytest.fixture(scope="module")
def trained(start_bundle, subjects_dir, tmp_path_factory):
    """The ``output_dir`` of a generator and of a segmenter, each trained for an epoch."""
    folders = {}
    for name, small in SMALL.items():
        folders[name] = tmp_path_factory.mktemp(name)
        options = {"dataset_dir": subjects_dir, "output_dir": folders[name]} | RUN | small
        process = start_bundle(name, *[str(part) for k, v in options.items() for part in (f"--{k}", v)])
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said[-4000:]
    return folders


@pytest.mark.parametrize("order", [("brain2d", "unet3d"), ("unet3d", "brain2d")])
def test_two_bundles_in_one_process_give_what_they_write(
    order, trained, bundle_workflow, subjects_dir, brats, tmp_path
):
    models = {name: mrsynth.load(trained[name], device="cpu") for name in order}
    assert "scripts" not in sys.modules
    subject = subjects_dir / "BraTS2021_00000"
    images = models["brain2d"].sample(3, seed=7)
    label = models["unet3d"].predict(subject, amp="none")
    assert torch.equal(images, models["brain2d"].sample(3, seed=7))

    weights = {name: str(folder / "models" / "model.pt") for name, folder in trained.items()}
    with bundle_workflow(
        "brain2d", "inference", weights=weights["brain2d"], output_dir=str(tmp_path), count=3, seed=7, device="cpu"
    ) as run:
        run.run()
    stacks = sorted((tmp_path / "synthetic").glob("*.nii.gz"))
    written = np.concatenate(
        [nib.load(file).get_fdata(dtype=np.float32).transpose(2, 1, 0)[:, None] for file in stacks]
    )
    assert np.array_equal(images.numpy(), written)
    assert images.meta["classes"] == ["no tumor"] * 3 + ["tumor"] * 3
    assert torch.equal(models["brain2d"].sample(3, seed=7, condition="tumor"), images[3:])

    item = {k: v for k, v in brats[1](subjects_dir, subject.name).items() if k != "label"}
    datalist = {"training": [], "validation": [], "test": [item]}
    with bundle_workflow(
        "unet3d",
        "inference",
        weights=weights["unet3d"],
        datalist=datalist,
        output_dir=str(tmp_path),
        amp="none",
        device="cpu",
    ) as run:
        run.run()
    file = nib.load(tmp_path / "segmentations" / f"{subject.name}_seg.nii.gz")
    assert np.array_equal(label[0].numpy(), file.get_fdata())
    assert np.allclose(label.affine, file.affine)


def test_an_array_is_segmented_as_its_files_are(trained, make_brain, subjects_dir, brats):
    model = mrsynth.load(trained["unet3d"] / "models" / "model.pt", device="cpu")
    brain = make_brain(0)
    array = MetaTensor(torch.from_numpy(brain.image), affine=torch.from_numpy(brain.affine))
    item = brats[1](subjects_dir, "BraTS2021_00000")
    by_file = model.predict(item["image"])
    assert by_file.shape == (1, *brain.label.shape)
    assert torch.equal(model.predict(array), by_file) and torch.equal(model.predict(item), by_file)


def test_a_model_says_what_it_is(trained):
    model = mrsynth.load(trained["brain2d"], device="cpu")
    record = next(iter(json.loads((trained["brain2d"] / "models" / "model.json").read_text()).values()))
    assert model.subjects == record["subjects"] and model.settings["latent_size"] == 4
    assert "brain2d" in repr(model) and f"{len(model.subjects)} subjects" in repr(model)
    assert model.sample(1).meta["provenance"]["tumor"]["training_subjects"] == model.subjects


def test_subjects_carry_their_descent(tiny_run, bundle_workflow, tmp_path):
    model = mrsynth.load(tiny_run.output, device="cpu")
    first, second = model.sample(2, seed=3)
    assert set(first["derived_from"]) == set(model.subjects)
    with bundle_workflow(
        "tumor3d",
        "inference",
        **{**tiny_run.options, "dataset_dir": ""},
        datalist=str(tiny_run.output / "datalist.json"),
        output_dir=str(tmp_path),
        count=2,
        seed=3,
    ) as run:
        run.run()
    written = tmp_path / "synthetic" / second["subject"]
    for number, kind in enumerate(("t1", "t1ce", "t2", "flair")):
        file = nib.load(written / f"{written.name}_{kind}.nii.gz")
        assert np.array_equal(second["image"][number].numpy(), file.get_fdata())
    assert np.array_equal(second["label"][0].numpy(), nib.load(written / f"{written.name}_seg.nii.gz").get_fdata())


def test_weights_without_a_bundle_and_unknown_settings_are_refused(trained, tmp_path, refused):
    with refused(where="model.pt"):
        mrsynth.load(tmp_path)
    (tmp_path / "model.pt").write_bytes((trained["brain2d"] / "models" / "model.pt").read_bytes())
    with refused(do="bundle="):
        mrsynth.load(tmp_path / "model.pt")
    model = mrsynth.load(trained["brain2d"], device="cpu")
    with refused(found="cuont"):
        model.sample(1, cuont=2)
    with refused(found="glioma"):
        model.sample(1, condition="glioma")


def test_the_package_names_load():
    assert "load" in dir(mrsynth)
