"""breast2d on stores of several kinds: which one it evaluates on, what it takes from it, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrsynth.errors import user_error_in
from mrsynth.patches import CLASSES, SEQUENCES, SUBTRACTION, cut_patches, read_store
from tests.conftest import ROOT, scripts_of
from tests.patches.conftest import write_cohort

BOXES = {1: np.s_[20:26, 25:31, 0:8], 2: np.s_[70:76, 20:26, 0:8]}
"""A lesion in each breast, on all eight slices."""

CUT = {"size": (96, 96, 8), "healthy": 8, "validation": 0, "test": 3, "workers": 1, "seed": 1}
SMALL = {"width": 0.02, "latent_size": 4, "batch_size": 8, "max_epochs": 1, "validate_every": 0, "montage_every": 2}
SMALL |= {"device": "cpu"}


@pytest.fixture(scope="module")
def data() -> Iterator[object]:
    """The module ``scripts.data`` of the bundle."""
    with scripts_of("breast2d") as scripts:
        yield scripts.data


@pytest.fixture(scope="module")
def women(tmp_path_factory) -> Path:
    """Six women, each with 24 patches: eight of each class."""
    return write_cohort(tmp_path_factory.mktemp("six"), {n: {1: "benign", 2: "malignant"} for n in "ABCDEF"}, BOXES)


@pytest.fixture(scope="module")
def store(women, tmp_path_factory) -> Path:
    return cut_patches(women, tmp_path_factory.mktemp("cut") / "store", **CUT).parent


@pytest.fixture(scope="module")
def public(tmp_path_factory) -> Path:
    """A store without T2 and without benign lesions, as of public sets."""
    women = write_cohort(tmp_path_factory.mktemp("public"), {n: {2: "malignant"} for n in "PQ"}, BOXES)
    options = CUT | {"test": 1, "sequences": SEQUENCES[1:4], "classes": ("healthy", "malignant")}
    return cut_patches(women, tmp_path_factory.mktemp("cut") / "public", **options).parent


@pytest.fixture(scope="module")
def trained(bundle_workflow, store, tmp_path_factory) -> Path:
    """The folder of a training on ``store``."""
    output = tmp_path_factory.mktemp("trained")
    with bundle_workflow("breast2d", "train", patches=str(store), output_dir=str(output), **SMALL) as made:
        made.run()
    return output


def settings_of(output: Path) -> dict:
    (record,) = json.loads((output / "models" / "model.json").read_text()).values()
    return record["settings"]


@pytest.mark.slow
def test_evaluation_takes_the_store_of_the_training(trained, store, bundle_workflow):
    with bundle_workflow(
        "breast2d",
        "evaluate",
        output_dir=str(trained),
        count=20,
        draws=2,
        device="cpu",
        classifier_iterations=40,
    ) as made:
        made.run()
    found = json.loads((trained / "evaluation" / "realism.json").read_text())
    assert found["subjects"] == read_store(store)["subjects"]["test"] and not (trained / "patches").exists()
    assert list(found["classes"]) == list(CLASSES)
    for of_class in found["classes"].values():
        frechet = of_class["measures"]["frechet"]
        assert frechet["half of real"]["mean"] < frechet["synthetic"]["mean"] and frechet["noise"]["mean"] > 0
        assert of_class["draws"] == 2 and of_class["real"] == 24 and "0, 1, 2" in of_class["features"]
    score = found["classification_accuracy"]
    assert score["chance"] == pytest.approx(1 / 3) and np.shape(score["fake"]["confusion"]) == (3, 3)
    assert score["real"]["accuracy"]["mean"] > score["chance"]


def test_weights_record_what_the_store_was_cut_with(trained, store):
    settings, index = settings_of(trained), read_store(store)
    assert (settings["grid"], settings["healthy"]) == ([96, 96, 8], 8)
    assert settings["split"] == index["split"] and settings["store"] == index["sha256"]
    assert settings["channels"] == [*SEQUENCES, SUBTRACTION] and settings["classes"] == list(CLASSES)


def test_the_store_of_a_training_moves_with_it(data, store, tmp_path):
    shutil.copytree(store, tmp_path / "run" / "patches")
    data.remember(tmp_path / "run" / "patches" / "index.json", tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    weights = tmp_path / "moved" / "models" / "model.pt"
    settings = data.describe(store / "index.json")
    assert data.evaluated(None, None, tmp_path, weights, settings) == tmp_path / "moved" / "patches" / "index.json"


def test_a_training_goes_on_with_its_store(data, trained, store):
    assert data.store(None, None, trained, [96, 96, 8], 8, {}, resume=True) == store / "index.json"


def test_another_store_must_be_asked_for(data, trained, store, women, tmp_path, refused):
    weights, settings = trained / "models" / "model.pt", settings_of(trained)
    other = cut_patches(women, tmp_path / "other", **CUT | {"test": 2})
    data.remember(other, tmp_path)  # as if the training's had been cut anew
    with refused(expected=settings["store"], do="--patches"):
        data.evaluated(None, None, tmp_path, tmp_path / "models" / "model.pt", settings)
    assert data.evaluated(None, other.parent, tmp_path, weights, settings) == other
    shutil.rmtree(other.parent)
    with refused(found="no such store", do="--patches"):
        data.evaluated(None, None, tmp_path, tmp_path / "models" / "model.pt", settings)
    with refused(found="no record of its path"):
        data.evaluated(None, None, tmp_path, tmp_path / "elsewhere" / "model.pt", settings)


def test_another_cohort_is_cut_alike_and_in_a_folder_of_its_own(data, trained, store, women, tmp_path, refused):
    weights, settings = trained / "models" / "model.pt", settings_of(trained)
    index = data.evaluated(women, None, tmp_path, weights, settings)
    assert index == tmp_path / "patches" / "index.json" and read_store(index)["sha256"] == settings["store"]
    before = index.read_bytes()
    others = write_cohort(tmp_path / "others", {n: {1: "benign", 2: "malignant"} for n in "XYZUVW"}, BOXES)
    with refused(found="the store of six", do="another --output_dir"):
        data.evaluated(others, None, tmp_path, weights, settings)
    with refused(found="healthy 8 instead of 9", do="another --output_dir"):
        data.store(women, None, tmp_path, [96, 96, 8], 9, settings["split"])
    assert index.read_bytes() == before


def test_a_store_of_other_channels_is_refused_for_evaluation(data, trained, public, tmp_path, refused):
    with refused(expected="'benign'", found="t1_post2", do="these settings"):
        data.evaluated(None, public, tmp_path, trained / "models" / "model.pt", settings_of(trained))


def test_a_set_with_fewer_sequences_and_classes(public, bundle_workflow, tmp_path):
    with bundle_workflow("breast2d", "train", patches=str(public), output_dir=str(tmp_path), **SMALL) as made:
        made.run()
        assert made.parser.get_parsed_content("seen") == [0, 1, 3]  # T1 pre, post 1, their subtraction
    with bundle_workflow("breast2d", "inference", output_dir=str(tmp_path), count=2, device="cpu") as made:
        made.run()
    made = json.loads((tmp_path / "synthetic" / "datalist.json").read_text())
    sidecar = json.loads((tmp_path / "synthetic" / f"{made['training'][0]['subject']}.json").read_text())
    assert sidecar["channels"] == ["T1 pre", "post 1", "post 2", "post 1 - pre"]
    assert {item["class"] for item in made["training"]} == {"healthy", "malignant"}
    assert nib.load(tmp_path / "synthetic" / made["training"][0]["image"]).shape == (64, 64, 2, 4)


def test_settings_that_contradict_the_store(data, public, women, tmp_path, refused):
    index = public / "index.json"
    data.describe(index, ["malignant", "healthy"], SEQUENCES[1:4])
    with refused(expected="benign", found="healthy, malignant", do="--classes"):
        data.describe(index, CLASSES)
    with refused(expected="t2", found="t1_post2", do="--sequences"):
        data.describe(index, None, SEQUENCES)
    channels = read_store(public)["channels"]
    for wanted in ([0, 1, 4], [0, 1]):
        with refused(expected="0 T1 pre", found=str(wanted), where="features_channels"):
            data.seen_channels(channels, wanted)
    assert data.seen_channels(channels, [2, 2, 2]) == [2, 2, 2]
    with refused(expected="two classes", found="malignant"):
        lesions = write_cohort(tmp_path / "data", {"P": {2: "malignant"}}, BOXES)
        data.describe(cut_patches(lesions, tmp_path / "one", **CUT | {"test": 0, "healthy": 0, "classes": "malignant"}))
    with refused(expected="(64, 64)", do="--patch"):
        data.describe(cut_patches(women, tmp_path / "small", **CUT | {"patch": 32}))


def test_the_paper_s_training_without_data_is_refused(data, bundle_workflow, tmp_path, refused):
    for resume in (False, True):
        with refused(expected="examinations", found="neither", do="--dataset_dir DIR"):
            data.store(None, None, tmp_path, [96, 96, 8], 8, {}, resume=resume)
    options = {"output_dir": str(tmp_path), "device": "cpu"}
    with pytest.raises(RuntimeError) as caught, bundle_workflow("breast2d", ("train", "paper"), **options) as made:
        made.run()
    assert "--dataset_dir DIR" in str(user_error_in(caught.value))
    assert not list(tmp_path.rglob("*.pt"))


def test_no_store_and_no_patch_of_a_class(data, tmp_path, refused):
    with refused(found="no readable index.json", do="mrsynth patches"):
        data.store(None, tmp_path, tmp_path, [96, 96, 8], 8, {})
    malignant = write_cohort(tmp_path / "data", {n: {2: "malignant"} for n in "AB"}, BOXES)
    with refused(found="none of benign", do="--classes"):
        data.store(malignant, None, tmp_path, [96, 96, 8], 8, {"validation": 0, "test": 0})
    index = data.store(malignant, None, tmp_path, [96, 96, 8], 8, {"test": 0}, ["healthy", "malignant"], SEQUENCES[1:3])
    assert data.describe(index)["channels"] == ["t1_pre", "t1_post1", SUBTRACTION]


def test_the_metadata_names_the_channels_as_the_bundle_does(data):
    metadata = json.loads((ROOT / "bundles" / "breast2d" / "configs" / "metadata.json").read_text())
    named = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(named.values()) == data.titles([*SEQUENCES, SUBTRACTION])


def test_the_experiments_of_the_paper_are_of_one_store(women, bundle_workflow, tmp_path):
    options = {"dataset_dir": str(women), "output_dir": str(tmp_path), "grid": [96, 96, 8], "healthy": 8}
    options["split"] = {"seed": 1, "validation": 0, "test": 3}
    with bundle_workflow("breast2d", "experiments", **options) as made:
        steps = {step.name: step for step in made.parser.get_parsed_content("runner").steps()}
    kinds = ("train", "evaluate", "synthesize")
    assert list(steps) == [f"{game}: {kind}" for game in ("DCGAN", "WGAN") for kind in kinds]
    index = str(tmp_path / "patches" / "index.json")
    for game in ("DCGAN", "WGAN"):
        assert steps[f"{game}: train"].options["patches"] == steps[f"{game}: evaluate"].options["patches"] == index
    assert read_store(index)["counts"]["test"] == {"healthy": 24, "benign": 24, "malignant": 24}
