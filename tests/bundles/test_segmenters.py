"""What every segmenter bundle does: train, stop and go on, evaluate, segment, serve, refuse."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import user_error_in
from mrsynth.files import sha256
from mrsynth.manifest import load_datalist
from mrsynth.transforms.geometry import as_array
from tests.bundles.conftest import PAPER, RUN, SEGMENTERS, Segmenter
from tests.bundles.interruption import finish, killed, read, unlike
from tests.bundles.two_processes import left_by, torchrun
from tests.conftest import ROOT


def literal(options: dict[str, str]) -> dict:
    """Options of a command line as a workflow takes them."""
    return {key: json.loads(value) if value[0] in "[0123456789" else value for key, value in options.items()}


@pytest.fixture
def train(segmenter: Segmenter, bundle_workflow: Callable, tmp_path: Path) -> Callable:
    """Train the segmenter in this process, for two iterations; gives the output folder."""

    def run(config: str | tuple[str, ...] = "train", **changes) -> Path:
        options = {"dataset_dir": str(segmenter.run.dataset), "output_dir": str(tmp_path / "out")}
        options |= literal({**segmenter.small, **RUN, "max_iterations": "2"}) | changes
        with bundle_workflow(segmenter.name, config, **options) as made:
            made.run()
        return Path(options["output_dir"])

    return run


@pytest.fixture
def use(segmenter: Segmenter, bundle_workflow: Callable, tmp_path: Path) -> Callable:
    """Run ``evaluate`` or ``inference`` with the session's weights in this process; gives the output folder."""

    def run(config: str, **changes) -> Path:
        options = {"output_dir": str(tmp_path / "out"), **segmenter.run.options, **changes}
        with bundle_workflow(segmenter.name, config, **options) as made:
            made.run()
        return Path(options["output_dir"])

    return run


def record_of(weights: Path) -> dict:
    return json.loads(weights.with_suffix(".json").read_text())[sha256(weights)]


def parts(segmenter: Segmenter) -> dict[str, list[dict]]:
    return load_datalist(segmenter.run.output / "datalist.json")


def ids(items: list[dict]) -> list[str]:
    return [item["subject"] for item in items]


def written(path: Path, content: dict) -> str:
    path.write_text(json.dumps(content))
    return str(path)


# training


def test_what_a_run_leaves(segmenter):
    output, made = segmenter.run.output, parts(segmenter)
    assert [len(made[part]) for part in ("training", "validation", "test")] == [4, 1, 1]
    record = record_of(segmenter.weights)
    assert record["subjects"] == sorted(ids(made["training"]))
    assert record["settings"]["iterations"] == 5 and "best_val_mean_dice" in record["metrics"]
    rows = list(csv.DictReader((output / "logs" / "history.csv").open()))
    assert max(int(row["iteration"]) for row in rows) == 5
    assert {int(row["epoch"]) for row in rows} == {1, 2, 3}
    for name in ("checkpoint.pt", "model.pt", "model.json"):
        assert (output / "models" / name).is_file()
    assert (output / "logs" / "curves.png").is_file() and (output / "logs" / "montage" / "epoch_00003.png").is_file()
    assert not list(output.rglob(".tmp-*"))


def test_the_weights_are_bare_and_fit_the_network(segmenter, bundle_workflow):
    state = torch.load(segmenter.weights, weights_only=True)
    with bundle_workflow(segmenter.name, "inference", **segmenter.run.options) as made:
        network = made.parser.get_parsed_content("network_def")
        network.load_state_dict(state)
    assert all(isinstance(value, torch.Tensor) for value in state.values())


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(segmenter, train_segmenter, tmp_path):
    output = tmp_path / "out"

    def start(output: Path, resume: bool, **environment):
        return train_segmenter(segmenter.name, output, resume, {"num_workers": "1"}, **environment)

    killed(start, tmp_path, output, "step 4", resume=False)  # the second of the second epoch
    assert read(output)["run"]["epoch"] == 1
    said = finish(start(output, resume=True))
    assert "Resumed after epoch 1 of 3" in said and not list(output.rglob(".tmp-*"))
    assert unlike(read(output), read(segmenter.run.output)) == []
    assert record_of(output / "models" / "model.pt") == record_of(segmenter.weights)
    for name in ("models/checkpoint.pt", "models/model.pt", "logs/history.csv"):
        assert (output / name).read_bytes() == (segmenter.run.output / name).read_bytes(), name


def test_the_states_are_those_of_a_run_that_has_learned(segmenter):
    """Lest the comparison above be one of nothing with nothing."""
    content = read(segmenter.run.output)
    assert content["run"]["epoch"] == 2 and {"network", "optimizer", "scheduler"} <= set(content["objects"])
    moments = content["objects"]["optimizer"]["state"].values()
    tensors = [value for state in moments for value in state.values() if torch.is_tensor(value) and value.numel() > 1]
    assert tensors and all(value.abs().sum() > 0 for value in tensors)


@pytest.mark.parametrize(
    "changes",
    [
        {"cache": "disk", "augmentation": "none", "crop": "none"},
        {"cache": "none", "spatial_size": [20, 24, 20], "crop": [2, 18], "interpolation": "nearest"},
    ],
    ids=["disk", "grid"],
)
def test_what_a_user_may_combine_trains(train, changes):
    output = train(**changes)
    settings = record_of(output / "models" / "model.pt")["settings"]
    assert all(settings[key] == value for key, value in changes.items() if key in settings)


def test_synthetic_subjects_train_with_their_parents_on_record(train, segmenter, tmp_path):
    real = parts(segmenter)
    synthetic = {**real["training"][0], "subject": "Synthetic_00001", "derived_from": [*ids(real["training"][:2]), "Z"]}
    synthetic["image"] = [str(tmp_path / Path(path).name) for path in real["training"][0]["image"]]
    for ours, theirs in zip(synthetic["image"], real["training"][0]["image"], strict=True):
        Path(ours).symlink_to(theirs)
    content = {**real, "training": [*real["training"][:2], synthetic]}
    output = train(datalist=written(tmp_path / "list.json", content), synthetic_share=0.5)
    record = record_of(output / "models" / "model.pt")
    assert set(record["subjects"]) == {"Synthetic_00001", "Z", *ids(real["training"][:2])}
    assert record["settings"]["synthetic_share"] == 0.5


def test_a_subject_made_of_nobody_is_no_synthetic_one(segmenter, bundle_workflow, tmp_path):
    real = parts(segmenter)
    first, second, third = real["training"][:3]
    training = [first, {**second, "derived_from": []}, {**third, "derived_from": [first["subject"]]}]
    datalist = written(tmp_path / "list.json", {**real, "training": training})
    options = literal({**segmenter.small, **RUN}) | {"datalist": datalist, "output_dir": str(tmp_path / "out")}
    with bundle_workflow(segmenter.name, "train", **options, synthetic_share=0.5) as made:
        sampler = made.parser.get_parsed_content("train#sampler")
    assert sorted(who.tolist() for who, _ in sampler.groups) == [[0, 1], [2]]


def test_fine_tuning_goes_on_from_the_weights_and_keeps_their_subjects(train, segmenter, bundle_workflow, tmp_path):
    real = parts(segmenter)
    first = {**real["training"][0], "patient": "P"}
    content = {**real, "training": [first]}
    output = train(
        datalist=written(tmp_path / "list.json", content), initial_weights=str(segmenter.weights), learning_rate=1e-9
    )
    record = record_of(output / "models" / "model.pt")
    assert record["subjects"] == sorted(ids(real["training"])) and record["patients"] == {first["subject"]: "P"}
    before, after = (torch.load(p, weights_only=True) for p in (segmenter.weights, output / "models" / "model.pt"))
    with bundle_workflow(segmenter.name, "inference", **segmenter.run.options) as made:
        learned = [name for name, _ in made.network_def.named_parameters()]
    assert learned and all(torch.allclose(before[key], after[key], atol=1e-6) for key in learned)


@pytest.mark.slow
def test_what_the_command_line_gives_holds_to_the_end(segmenter, train_segmenter, use, tmp_path):
    given = {"cache": "disk", "synthetic_share": "0.5", "interpolation": "nearest", "max_iterations": "1"}
    options = given | {"spatial_size": "[20,24,20]", "initial_weights": str(segmenter.weights)}
    said = finish(train_segmenter(segmenter.name, tmp_path / "tuned", changes=options))
    weights = tmp_path / "tuned" / "models" / "model.pt"
    assert "Made:" in said and record_of(weights)["subjects"] == sorted(ids(parts(segmenter)["training"]))
    folder = use("evaluate", weights=str(weights), grid="training") / "evaluation"
    settings = json.loads((folder / "metrics.json").read_text())["settings"]
    assert settings["interpolation"] == "nearest" and settings["spatial_size"] == [20, 24, 20]


PURPOSES = {"train", "inference", "evaluate", "metadata", "multi_gpu_train"}
"""Config files that are no overlays of a training in one process."""


def test_every_overlay_trains_and_its_weights_are_evaluated(train, use, segmenter, tmp_path):
    files = {path.stem for path in (ROOT / "bundles" / segmenter.name / "configs").glob("*.json")}
    assert "paper" in files and (segmenter.name != "deepmedic" or "two_pathways" in files)
    for overlay in sorted(files - PURPOSES):
        extra = {"num_workers": 0, "cache": "none", **PAPER[segmenter.name]} if overlay == "paper" else {}
        output = train(("train", overlay), output_dir=str(tmp_path / overlay), **extra)
        weights = output / "models" / "model.pt"
        use("evaluate", weights=str(weights), output_dir=str(output), section="test")
        assert (output / "evaluation" / "metrics.json").is_file()
        if overlay == "two_pathways":
            assert record_of(weights)["settings"]["factors"] == [1, 3]
            names = torch.load(weights, weights_only=True)
            assert {name.split(".")[1] for name in names if name.startswith("pathways.")} == {"0", "1"}


# two processes

TOGETHER = '''
"""One iteration on four subjects shared by two processes, then a run of the bundle; the optimizer stands still."""
import json, os, sys
import torch
from monai.bundle import run
from mrsynth.training import SegmentationTrainer, rank, start

sys.path.insert(0, sys.argv[1])
from step import cross_entropy, four, network

start()
share = {key: value[2 * rank() : 2 * rank() + 2] for key, value in four().items()}
net = network()
SegmentationTrainer("cpu", 1, [share], net, torch.optim.SGD(net.parameters(), lr=0.0), cross_entropy).run()
torch.save([p.grad for p in net.parameters()], f"{sys.argv[1]}/gradients{rank()}.pt")
run(run_id="training", **json.loads(sys.argv[2]))
sys.stdout.flush()
os._exit(0)  # now and then torch's threads abort while Python shuts down, which is not what is tested here
'''

STEP = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(4, 6, 3, padding=1), nn.InstanceNorm3d(6, affine=True), nn.Conv3d(6, 4, 1))

def four():
    noise = torch.Generator().manual_seed(1)
    draw = lambda c: torch.rand(4, c, 4, 4, 4, generator=noise)
    return {"image": draw(4), "label": (4 * draw(1)).to(torch.uint8)}

def cross_entropy(logits, label):
    return nn.functional.cross_entropy(logits, label[:, 0].long())
"""


@pytest.fixture(scope="module")
def together(segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run of three epochs in two processes, each of which left what it held, and what they said."""
    output = tmp_path_factory.mktemp("together")
    configs = ROOT / "bundles" / segmenter.name / "configs"
    steps = json.loads((configs / "multi_gpu_train.json").read_text())["run"]
    # a batch's statistics are each process's own
    leave = "'network': dict(@network.named_parameters()), 'drawn': [list(d) for d in @train#sampler]"
    leave = f"$torch.save({{{leave}}}, '{output}/rank%d.pt' % mrsynth.training.rank())"
    (output / "look.json").write_text(json.dumps({"run": [*steps[:-1], leave, steps[-1]]}))
    (output / "step.py").write_text(STEP)
    (output / "together.py").write_text(TOGETHER)
    names = [str(configs / "train.json"), str(configs / "multi_gpu_train.json"), str(output / "look.json")]
    options = {"config_file": names, "dataset_dir": str(segmenter.run.dataset), "output_dir": str(output)}
    options |= literal({**segmenter.small, **RUN}) | {"max_iterations": None, "max_epochs": 3}
    options.pop("device")
    return output, torchrun("together.py", str(output), json.dumps(options), folder=output)


@pytest.mark.slow
def test_the_gradient_of_two_processes_is_that_of_the_whole_batch(together):
    made: dict = {}
    exec(STEP, made)
    network, batch = made["network"](), made["four"]()
    made["cross_entropy"](network(batch["image"]), batch["label"]).backward()
    for rank in (0, 1):
        found = torch.load(together[0] / f"gradients{rank}.pt", weights_only=True)
        for gradient, parameter in zip(found, network.parameters(), strict=True):
            assert (gradient - parameter.grad).norm() <= 1e-6 * parameter.grad.norm().clamp(min=1)
        assert max(gradient.norm() for gradient in found) > 0.01


@pytest.mark.slow
def test_two_processes_share_the_patches_and_end_with_equal_weights(together):
    first, second = (left_by(together[0], rank) for rank in (0, 1))
    assert all(torch.equal(first["network"][key], value) for key, value in second["network"].items())
    assert len(first["drawn"]) == len(second["drawn"]) > 0
    drawn = [tuple(draw) for draw in first["drawn"] + second["drawn"]]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.slow
def test_one_process_writes_for_both_and_the_learning_rate_comes_to_its_end(together):
    output, said = together
    checkpoint = read(output)
    assert said.count("Made:") == 1 and checkpoint["run"]["epoch"] == 3
    network = checkpoint["objects"]["network"]
    assert all(torch.equal(network[key], value) for key, value in left_by(output, 1)["network"].items())
    scheduler = checkpoint["objects"]["scheduler"]
    steps = 3 * checkpoint["run"]["epoch_length"]
    assert scheduler["last_epoch"] == steps == checkpoint["run"]["settings"]["iterations"]
    assert checkpoint["run"]["epoch_length"] == 1  # each takes half of an epoch's patches


# evaluation


def test_evaluation_scores_the_subjects_that_were_held_out(use, segmenter, capsys):
    folder = use("evaluate") / "evaluation"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["subjects"] == ids(parts(segmenter)["test"]) and metrics["grid"] == "native"
    assert metrics["weights"]["sha256"] == sha256(segmenter.weights)
    rows = list(csv.DictReader((folder / "per_subject.csv").open()))
    assert [row["region"] for row in rows] == ["WT", "TC", "ET"]
    assert list(rows[0]) == ["subject", "region", "dice", "hd95", "sensitivity", "precision"]
    assert [p.name for p in (folder / "pictures").iterdir()] == [f"{metrics['subjects'][0]}.png"]
    assert "1 held-out subjects, native grid" in capsys.readouterr().out


def test_evaluation_and_inference_take_the_training_s_datalist_by_default(segmenter, bundle_workflow, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(segmenter.run.output, output)
    for config in ("evaluate", "inference"):
        with bundle_workflow(segmenter.name, config, output_dir=str(output), device="cpu") as made:
            made.run()
    (subject,) = ids(parts(segmenter)["test"])
    assert json.loads((output / "evaluation" / "metrics.json").read_text())["subjects"] == [subject]
    assert [path.name for path in (output / "segmentations").iterdir()] == [f"{subject}_seg.nii.gz"]


def test_phantoms_are_refused_for_weights_of_a_dataset(use, segmenter, tmp_path):
    (subject,) = parts(segmenter)["test"]
    phantom = {**subject, "subject": "Phantom_00000"}
    datalist = written(tmp_path / "list.json", {"training": [], "validation": [], "test": [phantom]})
    for config in ("evaluate", "inference"):
        with pytest.raises(RuntimeError) as caught:
            use(config, datalist=datalist)
        assert "on which the weights were trained" in str(user_error_in(caught.value))
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_a_training_subject_under_another_id_is_refused(use, segmenter, tmp_path):
    """Recompressed and renamed, as BraTS 2020's subjects are in 2021's release."""
    seen = parts(segmenter)["training"][0]
    files = [tmp_path / f"BraTS2021_77777_{number}.nii.gz" for number in range(4)]
    for name, file in zip(seen["image"], files, strict=True):
        nib.save(nib.Nifti1Image(np.asarray(nib.load(name).dataobj), nib.load(name).affine), file)
    renamed = {"image": [str(file) for file in files], "label": seen["label"], "subject": "BraTS2021_77777"}
    datalist = written(tmp_path / "list.json", {"training": [], "validation": [], "test": [renamed]})
    with pytest.raises(RuntimeError) as caught:
        use("evaluate", datalist=datalist)
    assert "under another id" in str(user_error_in(caught.value)) and seen["subject"] in str(
        user_error_in(caught.value)
    )


def test_evaluation_again_says_the_same_and_the_training_grid_is_another(use, tmp_path):
    one, other, third = (use("evaluate", output_dir=str(tmp_path / n), grid=g) for n, g in
                         (("1", "training"), ("2", "training"), ("3", "native")))  # fmt: skip
    for name in ("metrics.json", "per_subject.csv"):
        assert (one / "evaluation" / name).read_bytes() == (other / "evaluation" / name).read_bytes()
    grids = [json.loads((f / "evaluation" / "metrics.json").read_text())["grid"] for f in (one, third)]
    assert grids == ["training", "native"]


# inference


def test_labels_are_written_on_the_grid_of_the_files(use, segmenter):
    output = use("inference")
    (subject,) = parts(segmenter)["test"]
    (path,) = (output / "segmentations").iterdir()
    made, image = nib.load(path), nib.load(subject["image"][0])
    assert path.name == f"{subject['subject']}_seg.nii.gz" and made.shape == image.shape
    assert np.array_equal(made.affine, image.affine) and made.get_data_dtype() == np.uint8
    assert set(np.unique(np.asarray(made.dataobj))) <= {0, 1, 2, 4}


def test_subjects_without_labels_are_segmented_alike(use, segmenter, tmp_path):
    (subject,) = parts(segmenter)["test"]
    bare = {"subject": subject["subject"], "image": subject["image"]}
    content = {"training": [], "validation": [], "test": [bare]}
    paths = [use("inference", output_dir=str(tmp_path / "labeled")) / "segmentations"]
    datalist = written(tmp_path / "list.json", content)
    paths.append(use("inference", output_dir=str(tmp_path / "bare"), datalist=datalist) / "segmentations")
    first, second = (next(path.iterdir()).read_bytes() for path in paths)
    assert first == second


def test_a_server_gets_for_one_4d_file_what_the_command_writes_for_four(use, segmenter, bundle_workflow, tmp_path):
    """As MONAI Label does it: lists of transforms, the raw weights, its own keys beside ``image``."""
    (subject,) = parts(segmenter)["test"]
    volumes = [nib.load(path) for path in subject["image"]]
    assert len(volumes) == len(SEQUENCES)
    file = tmp_path / "four.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([np.asarray(v.dataobj) for v in volumes], axis=-1), volumes[0].affine), file)
    with bundle_workflow(segmenter.name, "inference", **segmenter.run.options) as made:
        network = made.network_def
        network.load_state_dict(torch.load(segmenter.weights, weights_only=True))
        network.eval()
        data = {"image": str(file), "image_path": str(file), "device": "cpu", "result_compress": False}
        for step in made.preprocessing.transforms:
            data = step(data)
        with torch.no_grad():
            data["pred"] = made.inferer(data["image"][None], network)[0]
        for step in made.postprocessing.transforms:
            data = step(data)
    # by these it restores the geometry
    assert tuple(data["image"].meta["spatial_shape"]) == data["pred"].shape[1:] == volumes[0].shape
    assert np.allclose(data["pred"].affine, volumes[0].affine)
    (path,) = (use("inference") / "segmentations").iterdir()
    assert np.array_equal(as_array(data["pred"])[0], np.asarray(nib.load(path).dataobj))


def test_the_workflow_has_the_properties_of_a_bundle(segmenter, bundle_workflow):
    with bundle_workflow(segmenter.name, "inference", **segmenter.run.options) as made:
        assert made.check_properties() == []
        assert len(made.dataset) == len(made.dataset_data) == 1


def test_inference_and_evaluation_agree_with_training_on_settings(segmenter):
    configs = ROOT / "bundles" / segmenter.name / "configs"
    training, inference, evaluation = (
        json.loads((configs / f"{name}.json").read_text()) for name in ("train", "inference", "evaluate")
    )
    shared = set(inference) & set(evaluation) - {"evaluate", "segment", "run"}
    assert all(inference[key] == evaluation[key] for key in shared)
    assert set(segmenter.small) <= set(training)


# refusals

USED = [
    ({"weights": "/nowhere/model.pt"}, "run training --config_file"),
    ({"section": "tests"}, "'tests'"),
    ({"split": {"test": 0}}, "none in section 'test'"),
    ({"spatial_size": [8, 8, 8]}, "the weights were trained with: {'spatial_size': None}"),
    ({"crop": "none"}, "the weights were trained with: {'crop': 'brain'}"),
    ({"grid": "coarse"}, "coarse"),
    ({"device": "cuda:99"}, "cuda:99"),
]


@pytest.mark.parametrize("config", ["evaluate", "inference"])
@pytest.mark.parametrize(("options", "said"), USED, ids=[next(iter(options)) for options, _ in USED])
def test_what_cannot_be_used_is_refused(use, tmp_path, config, options, said):
    with pytest.raises(Exception) as caught:
        use(config, **options)
    assert said in str(user_error_in(caught.value))
    assert not list((tmp_path / "out").rglob("*.*"))


def test_subjects_that_the_weights_have_seen_are_not_evaluated(use):
    with pytest.raises(Exception) as caught:
        use("evaluate", section="training")
    assert "the weights have not seen" in str(user_error_in(caught.value))


TRAINED = [
    ({"max_iterations": 0}, "max_iterations: a whole number, at least 1"),
    ({"max_epochs": 0, "max_iterations": None}, "max_epochs: a whole number, at least 1"),
    ({"augmentation": "strong"}, "'strong'"),
    ({"cache": "ram"}, "'ram'"),
    ({"crop": [0, 99]}, "inside the volume"),
    ({"synthetic_share": 2}, "synthetic_share: a number, at least 0 and at most 1"),
    ({"initial_weights": "/nowhere/model.pt"}, "/nowhere/model.pt"),
    ({"device": "cuda:99"}, "cuda:99"),
    ({"dataset_dir": "/nowhere"}, "/nowhere"),
]


@pytest.mark.parametrize(("options", "said"), TRAINED, ids=[next(iter(options)) for options, _ in TRAINED])
def test_what_cannot_be_trained_is_refused(train, tmp_path, options, said):
    with pytest.raises(Exception) as caught:
        train(**options)
    assert said in str(user_error_in(caught.value))
    assert not list((tmp_path / "out").rglob("*.pt"))


def without_a_label(real: dict) -> dict:
    first, *rest = real["training"]
    return {**real, "training": [{k: v for k, v in first.items() if k != "label"}, *rest]}


def a_synthetic_test_subject(real: dict) -> dict:
    return {**real, "test": [{**real["test"][0], "derived_from": ["Z"]}]}


def nobody_to_train_on(real: dict) -> dict:
    return {**real, "training": []}


LISTS = [
    (without_a_label, "files of image and label"),
    (a_synthetic_test_subject, "is synthetic"),
    (nobody_to_train_on, "at least one training subject"),
]


@pytest.mark.parametrize(("change", "said"), LISTS, ids=[change.__name__ for change, _ in LISTS])
def test_a_datalist_that_cannot_be_trained_on_is_refused(train, segmenter, tmp_path, change, said):
    with pytest.raises(Exception) as caught:
        train(datalist=written(tmp_path / "list.json", change(parts(segmenter))))
    assert said in str(user_error_in(caught.value))
    assert not list((tmp_path / "out").rglob("*.pt"))


def test_fine_tuning_with_weights_that_saw_the_test_subject_is_refused(train, segmenter, tmp_path):
    real = parts(segmenter)
    seen, *others = real["training"]
    content = {"training": others, "validation": [], "test": [seen]}
    with pytest.raises(Exception) as caught:
        train(datalist=written(tmp_path / "list.json", content), initial_weights=str(segmenter.weights))
    error = user_error_in(caught.value)
    assert "have not seen" in error.expected and seen["subject"] in error.found


def test_resuming_with_other_settings_is_refused(train):
    output = train(max_iterations=2)
    with pytest.raises(Exception) as caught:
        train(max_iterations=2, seed=1, resume=True, output_dir=str(output))
    assert "'seed': 0" in str(user_error_in(caught.value))


def test_a_refusal_on_the_command_line_is_one_message(subjects_dir, start_bundle, tmp_path):
    options = [f"--dataset_dir={subjects_dir}", f"--output_dir={tmp_path}", "--device=cpu"]
    process = start_bundle("unet3d", *options, config="evaluate", run_id="evaluate")
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0 and "Traceback" not in said
    assert said.count("Cannot go on:") == 1 and "train first:" in said


def test_every_segmenter_of_the_project_is_tested_here():
    configs = (ROOT / "bundles").glob("*/configs/inference.json")
    assert {c.parents[1].name for c in configs if "segment" in json.loads(c.read_text())} == set(SEGMENTERS)
