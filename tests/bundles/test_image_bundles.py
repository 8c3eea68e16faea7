"""The bundles that make images: each trained on tiny subjects, killed, resumed, used, evaluated, in two processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import pytest
import torch

from mrsynth.errors import user_error_in
from mrsynth.phantom import make_breast_cohort
from tests.bundles.interruption import finish, killed, read, unlike
from tests.bundles.two_processes import torchrun
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SMALL = {
    "brain2d": {"slices": "[36,113]", "batch_size": "8", "width": "0.05", "latent_size": "4"},
    "flair2d": {"best": "8", "batch_size": "8", "width": "0.02", "latent_size": "4"},
    "breast2d": {"grid": "[256,256,32]", "healthy": "6", "batch_size": "8", "width": "0.02", "latent_size": "4"}
    | {"validation_images": "10"},
}
"""What makes each small: thirteen or eight slices of each of the four training subjects."""

OVERLAYS = {
    "brain2d": ("wgan", "gradient_penalty", "paper"),
    "flair2d": ("paper", "paper resize_convolution"),
    "breast2d": ("wgan", "gradient_penalty", "paper"),
}
RUN = {
    "max_epochs": "3",
    "validate_every": "3",
    "validation_images": "6",
    "montage_every": "3",
    "device": "cpu",
    "ema_momentum": "0.5",
}
PAPER = {
    "brain2d": {"grade": "None", "num_workers": "0"},
    "breast2d": {"num_workers": "0"},
}
"""What the paper's overlay sets and a tiny run must not, besides what makes it small."""


class Images(NamedTuple):
    """A bundle, and the folder that its training wrote."""

    name: str
    output: Path


def config(name: str, *files: str) -> str:
    return str([str(ROOT / "bundles" / name / "configs" / f"{file}.json") for file in files])


def options(values: dict) -> list[str]:
    return [str(part) for key, value in values.items() for part in (f"--{key}", value)]


@pytest.fixture(scope="session", params=SMALL)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def breasts(tmp_path_factory) -> Path:
    """Eight small examinations."""
    return make_breast_cohort(tmp_path_factory.mktemp("breasts") / "cohort", subjects=8, matrix=128)


@pytest.fixture(scope="session")
def data(name: str, request) -> Path:
    """What the bundle is trained on."""
    return request.getfixturevalue("breasts" if name == "breast2d" else "subjects_dir")


@pytest.fixture(scope="session")
def train(start_bundle: Callable, data: Path, name: str) -> Callable:
    """Start training into a folder."""

    def start(output: Path, resume: bool = False, changes: dict | None = None, **environment: str):
        values = {"dataset_dir": data, "output_dir": output} | RUN | SMALL[name]
        values |= (changes or {}) | ({"resume": "true"} if resume else {})
        return start_bundle(name, *options(values), **environment)

    return start


@pytest.fixture(scope="session")
def trained(train: Callable, name: str, tmp_path_factory) -> Images:
    """Each bundle, trained for three epochs."""
    output = tmp_path_factory.mktemp(f"tiny_{name}")
    said = finish(train(output))
    assert "val_frechet" in said and "synthesize" in said
    return Images(name, output)


def test_a_killed_run_resumes_to_the_same_bytes(trained, train, tmp_path):
    output = tmp_path / "out"
    killed(train, tmp_path, output, "checkpoint 2", resume=False)
    assert read(output)["run"]["epoch"] == 1
    assert "Resumed after epoch 1 of 3" in finish(train(output, resume=True, changes={"num_workers": "2"}))
    assert not unlike(read(output), read(trained.output))
    weights = [sorted((folder / "models").glob("model*.pt")) for folder in (output, trained.output)]
    assert len(weights[0]) == len(weights[1]) == (4 if trained.name == "breast2d" else 1)
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*weights, strict=True))


def test_it_leaves_a_picture_of_real_and_synthetic_images(trained):
    assert (trained.output / "logs" / "montage" / "epoch_00003.png").stat().st_size > 3000


def test_stacks_come_out_with_the_training_subjects_as_parents(trained, bundle_workflow, tmp_path):
    weights = str(trained.output / "models" / "model.pt")
    with bundle_workflow(
        trained.name, "inference", output_dir=str(tmp_path), weights=weights, count=5, stack=3, device="cpu"
    ) as made:
        made.run()
    datalist = json.loads((tmp_path / "synthetic" / "datalist.json").read_text())
    subjects = json.loads((trained.output / "models" / "model.json").read_text())
    (record,) = subjects.values()
    assert [item["images"] for item in datalist["training"]] == [3, 2] * (3 if trained.name == "breast2d" else 1)
    assert all(item["derived_from"] == record["subjects"] for item in datalist["training"])
    voxels = nib.load(tmp_path / "synthetic" / datalist["training"][0]["image"]).get_fdata()
    metadata = json.loads((ROOT / "bundles" / trained.name / "configs" / "metadata.json").read_text(encoding="utf-8"))
    image = metadata["network_data_format"]["outputs"]["pred"]
    channels = (image["num_channels"],) if image["num_channels"] > 1 else ()
    assert voxels.shape == (*image["spatial_shape"], 3, *channels) and abs(voxels).max() <= 1 and voxels.std() > 0


def evaluating(trained: Images, output: Path) -> dict:
    """Options of an evaluation that takes seconds."""
    weights = str(trained.output / "models" / "model.pt")
    return {"weights": weights, "output_dir": str(output), "count": 20, "draws": 2, "device": "cpu"}


@pytest.mark.parametrize("name", ["flair2d", "breast2d"], indirect=True)
def test_an_evaluation_on_too_few_real_images_is_refused(trained, bundle_workflow, data, tmp_path):
    given = evaluating(trained, tmp_path) | {"dataset_dir": str(data), "section": "validation"}
    with pytest.raises(RuntimeError) as caught, bundle_workflow(trained.name, "evaluate", **given) as made:
        made.run()
    assert "at least 20 real images" in str(caught.value.__cause__)
    assert not (tmp_path / "evaluation").exists()


@pytest.mark.parametrize("name", ["brain2d", "flair2d"], indirect=True)
def test_an_evaluation_stands_between_anchors_and_is_on_subjects_never_seen(
    trained, bundle_workflow, make_brain, brats, tmp_path
):
    write, entry = brats
    unseen = [write(tmp_path / "unseen", f"BraTS2021_{number:05d}", make_brain(number)).name for number in (20, 21, 22)]
    datalist = tmp_path / "datalist.json"
    items = [entry(tmp_path / "unseen", subject) for subject in unseen]
    for item in items:
        del item["label"]  # an evaluation of images needs none
    datalist.write_text(json.dumps({"training": [], "validation": [], "test": items}))
    with bundle_workflow(trained.name, "evaluate", datalist=str(datalist), **evaluating(trained, tmp_path)) as made:
        made.run()
    found = json.loads((tmp_path / "evaluation" / "realism.json").read_text())
    frechet = found["classes"]["image"]["measures"]["frechet"]
    assert frechet["half of real"]["mean"] < frechet["synthetic"]["mean"]
    (record,) = json.loads((trained.output / "models" / "model.json").read_text()).values()
    assert found["subjects"] and not set(found["subjects"]) & set(record["subjects"])
    assert (tmp_path / "evaluation" / "contact_sheet.png").stat().st_size > 3000


def test_every_overlay_trains(name, bundle_workflow, data, tmp_path):
    for overlay in OVERLAYS[name]:
        changes = RUN | SMALL[name] | (PAPER.get(name, {}) if overlay.startswith("paper") else {})
        unused = ["ema_momentum"] if overlay.startswith("paper") else []  # the papers average no weights
        values = {key: _parsed(value) for key, value in changes.items() if key not in unused}
        values |= {"max_epochs": 1, "validate_every": 0, "montage_every": 2}
        values |= {"dataset_dir": str(data), "output_dir": str(tmp_path / overlay)}
        with bundle_workflow(name, ("train", *overlay.split()), **values) as made:
            made.run()
        weights = torch.load(tmp_path / overlay / "models" / "model.pt", weights_only=True)
        assert all(torch.isfinite(value).all() for value in weights.values())


@pytest.mark.parametrize("name", ["brain2d", "flair2d"], indirect=True)
def test_subjects_without_labels_train(name, bundle_workflow, make_brain, brats, tmp_path):
    for seed in range(4):
        folder = brats[0](tmp_path / "data", f"Case_{seed:05d}", make_brain(seed))
        (folder / f"{folder.name}_seg.nii.gz").unlink()
    values = {key: _parsed(value) for key, value in (RUN | SMALL[name]).items()}
    values |= {"max_epochs": 1, "validate_every": 0, "montage_every": 0}
    values |= {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out")}
    with bundle_workflow(name, ("train",), **values) as made:
        made.run()
    assert (tmp_path / "out" / "models" / "model.pt").is_file()


@pytest.mark.parametrize("name", ["brain2d"], indirect=True)
def test_a_changed_game_is_refused_when_a_run_is_resumed(name, bundle_workflow, data, tmp_path):
    values = {key: _parsed(value) for key, value in (RUN | SMALL[name]).items()}
    values |= {"max_epochs": 1, "validate_every": 0, "montage_every": 0}
    values |= {"dataset_dir": str(data), "output_dir": str(tmp_path)}
    with bundle_workflow(name, ("train", "wgan"), **values) as made:
        made.run()
    for change, part in (
        ({"n_critic": 1}, "schedule"),
        ({"clip": 10.0}, "constraint"),
        ({"learning_rate": 0.001}, "generator_optimizer"),
    ):
        with (
            pytest.raises(RuntimeError) as caught,
            bundle_workflow(name, ("train", "wgan"), **values, **change, resume=True) as made,
        ):
            made.run()
        found = user_error_in(caught.value)
        assert found is not None and part in found.expected and str(*change.values()) in found.found
    with bundle_workflow(name, ("train",), **values, resume=True) as made, pytest.raises(RuntimeError) as caught:
        made.run()  # without the overlay
    found = user_error_in(caught.value)
    assert found is not None and found.where.endswith("checkpoint.pt")


def _parsed(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return None if value == "None" else value


def test_two_processes_train_and_one_writes(name, data, tmp_path):
    values = {"dataset_dir": data, "output_dir": tmp_path / "out"} | RUN | SMALL[name]
    values |= {"batch_size": "4", "max_epochs": "1"}
    files = config(name, "train", "multi_gpu_train")
    torchrun("-m", "monai.bundle", "run", "training", "--config_file", files, *options(values), folder=ROOT)
    assert read(tmp_path / "out")["run"]["epoch"] == 1
