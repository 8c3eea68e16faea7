"""tumor3d's inference.json: subjects with the recipient's geometry, resumable to the byte, and refusals."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from mrsynth.conventions import PHANTOM_PREFIX, SEQUENCES
from mrsynth.files import sha256
from mrsynth.manifest import check_lineage, index, load_datalist
from mrsynth.synthesis import parents_in
from mrsynth.training import save_weights
from mrsynth.transforms.geometry import as_array

KINDS = (*SEQUENCES, "seg")


@pytest.fixture(scope="module")
def synthesize(tiny_run, bundle_workflow):
    """Run ``inference.json`` in this process; gives the folder of the subjects."""

    def run(output: Path, **options) -> Path:
        with bundle_workflow("tumor3d", "inference", output_dir=str(output), **{**tiny_run.options, **options}) as made:
            made.run()
        return output / "synthetic"

    return run


@pytest.fixture(scope="module")
def four(synthesize, tmp_path_factory) -> Path:
    """Four synthetic subjects on the native grid; read-only."""
    return synthesize(tmp_path_factory.mktemp("four"), count=4)


def subjects(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def volume(folder: Path, kind: str) -> nib.Nifti1Image:
    return nib.load(folder / f"{folder.name}_{kind}.nii.gz")


def sidecar(folder: Path) -> dict:
    return json.loads((folder / f"{folder.name}.json").read_text())


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_geometry_and_brain_are_the_recipients(four, tiny_run):
    assert len(subjects(four)) == 4
    for folder in subjects(four):
        recipient = tiny_run.dataset / sidecar(folder)["recipient"]
        images = np.stack([np.asarray(volume(folder, kind).dataobj) for kind in SEQUENCES])
        brain = np.stack([np.asarray(volume(recipient, kind).dataobj) for kind in SEQUENCES]).any(axis=0)
        for kind in KINDS:
            assert volume(folder, kind).shape == volume(recipient, kind).shape
            assert np.array_equal(volume(folder, kind).affine, volume(recipient, kind).affine)
        assert images.dtype == np.int16 and images.max() <= 1000
        assert np.array_equal((images != 0).all(axis=0), brain) and not images[:, ~brain].any()


def test_the_label_is_the_donors_in_the_brain(four, tiny_run):
    for folder in subjects(four):
        facts, label = sidecar(folder), np.asarray(volume(folder, "seg").dataobj)
        donor = np.asarray(volume(tiny_run.dataset / facts["donor"], "seg").dataobj)
        image = np.asarray(volume(folder, "t1").dataobj)
        assert label.any() and not label[image == 0].any()
        assert set(np.unique(label)) <= set(np.unique(donor))
        assert facts["recipient"] != facts["donor"] and facts["transplant"]["kept"] >= 0.8


def test_parents_are_training_subjects_and_the_lineage_is_complete(four, tiny_run):
    items = load_datalist(four / "datalist.json")["training"]
    record = next(iter(json.loads((tiny_run.output / "models" / "model.json").read_text()).values()))
    pairs = {(sidecar(f)["recipient"], sidecar(f)["donor"]) for f in subjects(four)}
    assert len(items) == len(pairs) == 4
    for item in items:
        assert set(item["derived_from"]) == set(record["subjects"])
        assert {parent for pair in pairs for parent in pair} <= set(record["subjects"])
    held_out = [{"subject": i, "image": f"{i}.nii.gz"} for i in record["subjects"][:1]]
    with pytest.raises(ValueError, match="is made from"):  # whoever tests on a parent is told
        check_lineage({"training": items, "test": held_out})


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(four, synthesize, tmp_path):
    assert contents(synthesize(tmp_path / "again", count=4)) == contents(four)
    other = synthesize(tmp_path / "other", count=4, seed=1)
    pairs = [[(sidecar(f)["recipient"], sidecar(f)["donor"]) for f in subjects(g)] for g in (four, other)]
    assert pairs[0] != pairs[1]


def test_what_is_there_is_not_made_again(four, synthesize, tmp_path):
    folder = synthesize(tmp_path, count=2)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*_*") if path.is_file()}
    shutil.rmtree(subjects(folder)[0])
    (folder / ".tmp-killed").mkdir()
    assert contents(synthesize(tmp_path, count=4)) == contents(four)
    kept = [path for path in before if subjects(folder)[1] in path.parents]
    assert len(kept) == 6 and all(path.stat().st_mtime_ns == before[path] for path in kept)


def test_a_killed_run_goes_on_where_it_stopped(four, start_bundle, synthesize, tiny_run, tmp_path):
    options = [f"--{k}={v}" for k, v in {**tiny_run.options, "output_dir": tmp_path, "count": 4}.items()]
    process = start_bundle("tumor3d", *options, config="inference", run_id="synthesize")
    folder = tmp_path / "synthetic"
    while process.poll() is None and not (folder.is_dir() and len(list(folder.glob("Synthetic_*"))) >= 1):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert contents(synthesize(tmp_path, count=4)) == contents(four)


def test_on_the_training_grid(synthesize, tmp_path):
    (folder,) = subjects(synthesize(tmp_path, count=1, grid="training"))
    label, image = np.asarray(volume(folder, "seg").dataobj), np.asarray(volume(folder, "flair").dataobj)
    assert image.shape == label.shape == (16, 16, 16)
    assert label.any() and not label[image == 0].any() and image.dtype == np.int16
    assert sidecar(folder)["made_by"]["grid"] == "training"


def test_settings_come_from_the_weights_and_contradictions_are_refused(synthesize, tmp_path):
    with pytest.raises(Exception) as caught:
        synthesize(tmp_path, count=1, feature_maps=8)
    assert "'feature_maps': 4" in str(root(caught.value))
    (folder,) = subjects(synthesize(tmp_path, count=1, min_kept=0.1))  # free: it does not concern the network
    settings = sidecar(folder)["made_by"]["settings"]
    assert settings["spatial_size"] == [16, 16, 16] and settings["min_kept"] == 0.1


def root(error: BaseException) -> BaseException:
    from mrsynth.errors import user_error_in

    return user_error_in(error) or error


def test_other_weights_do_not_go_on_in_the_same_folder(synthesize, tiny_run, tmp_path, bundle_workflow):
    synthesize(tmp_path, count=1)
    models = tmp_path / "models"
    with bundle_workflow("tumor3d", "inference", **tiny_run.options) as made:
        network, record = made.parser.get_parsed_content("network_def"), made.parser.get_parsed_content("record")
        with torch.no_grad():
            next(network.parameters()).add_(1)
        save_weights(network, models / "model.pt", {k: record[k] for k in ("subjects", "settings")})
    with pytest.raises(Exception) as caught:
        synthesize(tmp_path, count=1, weights=str(models / "model.pt"))
    assert "weights" in root(caught.value).found and "move this folder away" in root(caught.value).do


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "/nowhere/model.pt"}, "python -m monai.bundle run training"),
        ({"section": "test"}, "are not"),
        ({"count": 1000}, "from 1 to 20"),
        ({"grid": "coarse"}, "coarse"),
        ({"device": "cuda:99"}, "cuda:99"),
    ],
)
def test_refusals(synthesize, tmp_path, options, said):
    with pytest.raises(Exception) as caught:
        synthesize(tmp_path / "out", **options)
    assert said in str(root(caught.value))
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_phantoms_are_refused_for_weights_of_a_dataset_and_the_reverse(synthesize, tiny_run, tmp_path, refused, brats):
    items = [brats[1](tiny_run.dataset, path.name) for path in sorted(tiny_run.dataset.iterdir())[:2]]
    phantoms = [{**item, "subject": f"{PHANTOM_PREFIX}{number:05d}"} for number, item in enumerate(items)]
    datalist = tmp_path / "list.json"
    datalist.write_text(json.dumps({"training": phantoms, "validation": [], "test": []}))
    with pytest.raises(Exception) as caught:
        synthesize(tmp_path / "out", datalist=str(datalist), dataset_dir="")
    assert "on which the weights were trained" in str(root(caught.value))
    assert not list((tmp_path / "out").rglob("*.nii.gz"))
    with refused(expected="phantoms", found="subjects of a dataset", do="--datalist"):
        parents_in({"training": items}, "training", {"subjects": [item["subject"] for item in phantoms]})


def test_without_weights_the_command_says_what_to_type_and_fails(start_bundle, tiny_run, tmp_path):
    options = [f"--dataset_dir={tiny_run.dataset}", f"--output_dir={tmp_path / 'out'}", "--device=cpu"]
    process = start_bundle("tumor3d", *options, config="inference", run_id="synthesize")
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0 and "Traceback" not in said
    assert "train first:" in said and "run training --config_file" in said


def test_the_workflow_has_the_properties_of_a_bundle(bundle_workflow, tiny_run, tmp_path):
    with bundle_workflow("tumor3d", "inference", output_dir=str(tmp_path), **tiny_run.options) as made:
        assert made.check_properties() == []
        assert len(made.dataset) == made.parser["count"] and len(made.dataset_data) == 5


def test_a_label_drawn_by_a_person_comes_back_on_its_own_grid(bundle_workflow, four, tiny_run, tmp_path):
    """As MONAI Label does it: a file with a semantic label in, four sequences on the same grid out."""
    folder = subjects(four)[0]
    brain, seg = (np.asarray(volume(folder, kind).dataobj) for kind in ("t1", "seg"))
    drawn = np.where(seg > 0, 1 + seg, np.where(brain > 0, 7, 0)).astype(np.uint8)
    nib.save(nib.Nifti1Image(drawn, volume(folder, "seg").affine), tmp_path / "drawn.nii.gz")
    with bundle_workflow("tumor3d", "inference", **tiny_run.options) as made:
        made.parser.get_parsed_content("record")
        network = made.network_def.eval()
        data = made.preprocessing({"image": str(tmp_path / "drawn.nii.gz")})
        with torch.no_grad():
            data["pred"] = made.inferer(data["image"][None], network)[0]
        pred = made.postprocessing(data)["pred"]
    assert tuple(pred.shape) == (4, *drawn.shape) and pred.dtype == torch.int16
    assert np.allclose(pred.affine, volume(folder, "seg").affine)
    assert np.array_equal((as_array(pred) != 0).all(axis=0), drawn > 0)


def test_indexing_a_synthetic_folder_would_lose_the_parents_and_is_refused(four, refused):
    with refused(found="synthetic", do="datalist.json"):
        index(four, use_cache=False)
