"""tumor3d: copy-paste without weights, tumors inpainted into the recipient's MRI, and further discriminators."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import user_error_in
from mrsynth.files import sha256
from mrsynth.manifest import load_datalist

COPY_PASTE = ("inference", "copy_paste")


@pytest.fixture(scope="module")
def synthesize(tiny_run, bundle_workflow):
    """Run ``inference.json``, alone or with copy_paste.json over it; gives the folders of the subjects."""

    def run(output: Path, config: tuple[str, ...] = ("inference",), **options) -> list[Path]:
        options = {**tiny_run.options, "output_dir": str(output), "count": 3, **options}
        if config == COPY_PASTE:
            options.pop("weights")
        with bundle_workflow("tumor3d", config, **options) as made:
            made.run()
        return sorted(path for path in (output / "synthetic").iterdir() if path.is_dir())

    return run


@pytest.fixture(scope="module")
def pasted(synthesize, tmp_path_factory) -> list[Path]:
    """Three subjects on the native grid; read-only."""
    return synthesize(tmp_path_factory.mktemp("pasted"), COPY_PASTE)


@pytest.fixture(scope="module")
def whole(synthesize, tmp_path_factory) -> list[Path]:
    """The generator's subjects of the same pairs; read-only."""
    return synthesize(tmp_path_factory.mktemp("whole"))


def image(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(nib.load(folder / f"{folder.name}_{s}.nii.gz").dataobj) for s in SEQUENCES])


def label(folder: Path) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{folder.name}_seg.nii.gz").dataobj)


def sidecar(folder: Path) -> dict:
    return json.loads((folder / f"{folder.name}.json").read_text())


def pairs(folders: list[Path]) -> list[tuple[str, str]]:
    return [(sidecar(f)["recipient"], sidecar(f)["donor"]) for f in folders]


def digests(folders: list[Path]) -> list[str]:
    return [sha256(path) for folder in folders for path in sorted(folder.iterdir())]


def test_copy_paste_is_the_recipient_and_the_donors_tumor(pasted, whole, tiny_run):
    for folder, made in zip(pasted, whole, strict=True):
        recipient = tiny_run.dataset / sidecar(folder)["recipient"]
        own, voxels = image(recipient), image(folder)
        brain, transplanted = own.any(axis=0), label(made) > 0  # the generator's label is the donor's tumor
        assert voxels.dtype == np.int16
        assert not voxels[:, ~brain].any() and voxels[:, brain].min() >= 1
        untouched = ~ndimage.binary_dilation(transplanted, iterations=2) | (label(recipient) > 0) & ~transplanted
        assert np.array_equal(voxels[:, untouched & brain], own[:, untouched & brain].clip(1))
        assert (voxels != own).any(axis=0)[transplanted].mean() > 0.9
        assert np.array_equal(label(folder), np.where(transplanted, label(made), label(recipient)))
        for kind in (*SEQUENCES, "seg"):
            theirs, mine = (nib.load(f / f"{f.name}_{kind}.nii.gz") for f in (recipient, folder))
            assert np.array_equal(theirs.affine, mine.affine)


def test_pairs_are_the_generators_and_the_lineage_is_the_two_parents(pasted, whole):
    assert pairs(pasted) == pairs(whole)
    items = load_datalist(pasted[0].parent / "datalist.json")["training"]
    assert [tuple(item["derived_from"]) for item in items] == pairs(pasted)
    for folder in pasted:
        settings = sidecar(folder)["made_by"]["settings"]
        assert settings["edge"] == 2.0 and "copy-paste" in settings["image"] and "own" in settings["label"]
        assert "recipient's own scale" in sidecar(folder)["intensities"]["written"]


def test_the_same_seed_gives_the_same_bytes(pasted, synthesize, tmp_path):
    synthesize(tmp_path, COPY_PASTE, count=1)  # goes on from there
    assert digests(synthesize(tmp_path, COPY_PASTE)) == digests(pasted)


def test_copy_paste_on_the_training_grid(pasted, synthesize, tmp_path):
    folders = synthesize(tmp_path, COPY_PASTE, grid="training", spatial_size=[16, 24, 16], crop="brain")
    assert pairs(folders) == pairs(pasted)
    for folder, native in zip(folders, pasted, strict=True):
        voxels, where = image(folder), label(folder)
        brain = voxels.any(axis=0)
        assert voxels.shape == (4, 16, 24, 16) and voxels.dtype == np.int16
        assert where.any() and not where[~brain].any() and voxels[:, brain].min() >= 1
        share = (where > 0).sum() / brain.sum()
        assert share == pytest.approx((label(native) > 0).sum() / image(native).any(axis=0).sum(), rel=0.3)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"edge": -1}, "edge: a number, at least 0"), ({"grid": "coarse"}, "coarse"), ({"count": 1000}, "from 1 to 20")],
)
def test_copy_paste_refuses(synthesize, tmp_path, options, said):
    with pytest.raises(Exception) as caught:
        synthesize(tmp_path, COPY_PASTE, **options)
    assert said in str(user_error_in(caught.value))


@pytest.mark.parametrize("grid", ["native", "training"])
@pytest.mark.parametrize("own_tumor", ["replace", "keep"])
def test_the_inpainted_tumor_is_the_generators_and_the_rest_the_recipients(
    synthesize, tiny_run, tmp_path, grid, own_tumor
):
    whole = synthesize(tmp_path / "whole", grid=grid)
    options = {"compose": "tumor", "own_tumor": own_tumor, "blend": 3.0, "grid": grid}
    for folder, made in zip(synthesize(tmp_path / "inpainted", **options), whole, strict=True):
        voxels, generated, transplanted = image(folder), image(made), label(made) > 0
        assert np.array_equal(voxels.any(axis=0), generated.any(axis=0))
        assert np.array_equal(voxels[:, transplanted], generated[:, transplanted])
        settings = sidecar(folder)["made_by"]["settings"]
        assert (settings["compose"], settings["own_tumor"], settings["blend"]) == ("tumor", own_tumor, 3.0)
        assert sidecar(folder)["training_subjects"]  # the weights took part
        if own_tumor == "replace":
            assert np.array_equal(label(folder), label(made))
        else:
            assert np.array_equal(label(folder)[transplanted], label(made)[transplanted])
        if grid == "training":
            continue
        recipient = tiny_run.dataset / sidecar(folder)["recipient"]
        own = label(recipient) > 0
        changed = transplanted | own if own_tumor == "replace" else transplanted
        far = ~ndimage.binary_dilation(changed, iterations=4) & voxels.any(axis=0)
        if own_tumor == "replace":
            assert np.array_equal(voxels[:, own], generated[:, own])
        else:
            assert np.array_equal(label(folder), np.where(transplanted, label(made), label(recipient)))
            far |= own & ~transplanted
        for mine, theirs in zip(voxels, image(recipient), strict=True):
            inner = far & (mine > 1) & (mine < 1000)  # a straight line from one scale to the other, and clipped
            fit = np.polyfit(theirs[inner], mine[inner], 1)
            expected = np.polyval(fit, theirs[far]).clip(1, 1000)
            assert fit[0] > 0 and np.abs(expected - mine[far]).max() < 1.5 and inner.sum() > 0.5 * far.sum()


def test_variety_changes_the_tumor_alone_and_is_recorded(synthesize, whole, tmp_path):
    for folder, made in zip(synthesize(tmp_path, variety=0.2, count=2), whole, strict=False):
        changed = (image(folder) != image(made)).any(axis=0)
        assert changed[label(made) > 0].mean() > 0.9 and np.array_equal(label(folder), label(made))
        assert not changed[~ndimage.binary_dilation(label(made) > 0, iterations=12)].any()
        assert sidecar(folder)["made_by"]["settings"]["variety"] == 0.2
        assert "variety" not in sidecar(made)["made_by"]["settings"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compose": "head"}, "'head'"),
        ({"own_tumor": "keep"}, "--compose tumor"),
        ({"compose": "tumor", "own_tumor": "forget"}, "'forget'"),
        ({"compose": "tumor", "blend": -1}, "blend: a number, at least 0"),
        ({"variety": 7}, "0 to 1"),
    ],
)
def test_inpainting_refuses(synthesize, tmp_path, options, said):
    with pytest.raises(Exception) as caught:
        synthesize(tmp_path, **options)
    assert said in str(user_error_in(caught.value))
    assert not list(tmp_path.rglob("*.nii.gz"))


SMALL = {
    "spatial_size": [16, 16, 16],
    "feature_maps": 4,
    "discriminator_feature_maps": 4,
    "max_epochs": 1,
    "device": "cpu",
    "amp": "none",
}


def train(bundle_workflow, tiny_run, output: Path, *overlays: str, **options) -> dict:
    """Run train.json with overlays; gives the checkpoint."""
    options = {**SMALL, "output_dir": str(output), "dataset_dir": str(tiny_run.dataset), **options}
    with bundle_workflow("tumor3d", ("train", *overlays), **options) as run:
        run.run()
    return torch.load(output / "models" / "checkpoint.pt", weights_only=True)


@pytest.mark.slow
def test_the_local_discriminator_trains_is_logged_saved_and_resumed(bundle_workflow, tiny_run, tmp_path):
    overlays = ("local_discriminator", "feature_matching")
    options = {"local_size": [8, 8, 8], "local_weight": 0.5, "feature_weight": 2.0}
    once = train(bundle_workflow, tiny_run, tmp_path / "once", *overlays, max_epochs=2, **options)
    train(bundle_workflow, tiny_run, tmp_path / "twice", *overlays, **options)
    twice = train(bundle_workflow, tiny_run, tmp_path / "twice", *overlays, max_epochs=2, resume=True, **options)
    discriminators = [content["objects"]["discriminator"] for content in (once, twice)]
    assert (
        any(name.startswith("local.") for name in discriminators[0])
        and discriminators[0].keys() == discriminators[1].keys()
    )
    assert all(torch.equal(discriminators[0][name], discriminators[1][name]) for name in discriminators[0])
    history = (tmp_path / "once" / "logs" / "history.csv").read_text()
    assert all(f",{name}," in history for name in ("local_discriminator_real", "local_adversarial", "feature_matching"))
    record = next(iter(json.loads((tmp_path / "once" / "models" / "model.json").read_text()).values()))
    assert record["settings"]["local_size"] == [8, 8, 8] and record["settings"]["feature_weight"] == 2.0
    assert "FeatureMatching" in [term["class"] for term in record["hyperparameters"]["terms"]]


def test_feature_matching_alone_trains_and_the_thesis_which_knows_no_truth_refuses_it(
    bundle_workflow, tiny_run, tmp_path
):
    content = train(bundle_workflow, tiny_run, tmp_path / "ours", "feature_matching")
    assert not any(name.startswith("local.") for name in content["objects"]["discriminator"])
    assert ",feature_matching," in (tmp_path / "ours" / "logs" / "history.csv").read_text()
    options = {"crop": "none", "split": {"seed": 0, "validation": 0, "test": 2}}
    with pytest.raises(Exception) as caught:
        train(bundle_workflow, tiny_run, tmp_path / "thesis", "paper", "feature_matching", max_epochs=2, **options)
    assert "knows the truth" in str(user_error_in(caught.value))


def test_the_thesis_with_a_local_discriminator_trains(bundle_workflow, tiny_run, tmp_path):
    options = {"crop": "none", "local_size": [16, 16, 8], "split": {"seed": 0, "validation": 0, "test": 2}}
    content = train(bundle_workflow, tiny_run, tmp_path, "paper", "local_discriminator", max_epochs=2, **options)
    assert any(name.startswith("local.") for name in content["objects"]["discriminator"])


@pytest.mark.parametrize("size", [[24, 8, 8], [4, 4, 4], 8])
def test_a_crop_that_does_not_fit_is_refused_at_once(bundle_workflow, tiny_run, tmp_path, size):
    with pytest.raises(Exception) as caught:
        train(bundle_workflow, tiny_run, tmp_path, "local_discriminator", local_size=size)
    assert "local_size" in str(user_error_in(caught.value))


@pytest.mark.parametrize(("condition", "encoding"), [("tissue", "one_hot"), ("mask", "one_hot"), ("tissue", "values")])
def test_the_tumor_is_found_in_every_condition(tumor3d, condition, encoding):
    from mrsynth.transforms import condition_values, encode

    values = condition_values(condition)
    semantic = torch.tensor([[0, *[v for v in values if v]] * 2], dtype=torch.uint8).reshape(1, -1, 1, 1)
    encoded = encode(semantic, values, encoding == "one_hot")[None]
    found = tumor3d.preprocessing.tumor_finder(condition, encoding)(encoded)
    assert torch.equal(found[0], torch.isin(semantic[0], torch.tensor([2, 3, 5], dtype=torch.uint8)))
