"""Images from disk, and their comparison from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mrsynth.files import write_json
from mrsynth.images import compare, read_images, read_volumes
from mrsynth.training import save_weights
from mrsynth.transforms import write_nifti
from tests.conftest import ROOT, brain, entry, scripts_of, write_brats
from tests.metrics.test_features import SMALL, small_network


def write(folder: Path, count: int, size: int = 32, seed: int = 0, mode: str = "L") -> Path:
    """A folder of smooth pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        small = random.integers(0, 256, (4, 4) if mode == "L" else (4, 4, 3), dtype=np.uint8)
        Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR).save(folder / f"{number}.png")
    return folder


def test_pictures_are_read_in_natural_order_from_black_to_white(tmp_path):
    write(tmp_path / "a", 12)
    images = read_images(tmp_path / "a")
    assert len(images) == 12 and images[0].shape == (1, 32, 32)
    tenth = np.asarray(Image.open(tmp_path / "a" / "10.png"), dtype=np.float32) / 127.5 - 1
    assert np.allclose(images[10][0], tenth)
    assert read_images(write(tmp_path / "b", 2, mode="RGB"))[0].shape == (3, 32, 32)


def test_arrays_hold_many_images_and_can_be_resized(tmp_path):
    stack = np.random.default_rng(0).uniform(-1, 1, (5, 2, 20, 20)).astype(np.float32)
    np.save(tmp_path / "many.npy", stack)
    images = read_images(tmp_path)
    assert len(images) == 5 and np.allclose(images[3], stack[3])
    assert read_images(tmp_path, size=[10, 8])[0].shape == (2, 10, 8)


def test_stacks_of_any_number_are_read_once_and_leave_nothing_behind(tmp_path, home):
    stacks = np.random.default_rng(0).uniform(-1, 1, (3, 8, 12, 70)).astype(np.float32)
    for number, stack in enumerate(stacks):
        write_nifti(tmp_path / f"{number}.nii.gz", stack, np.eye(4))
    before = set(home.rglob("*"))
    images = read_images(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    assert len(images) == 210
    for number in (0, 69, 70, 139, 209):
        assert np.array_equal(images[number][0], stacks[number // 70, :, :, number % 70].T)
    assert set(home.rglob("*")) == before


DEEP = np.arange(64).reshape(8, 8) * 65


@pytest.mark.parametrize(
    ("pixels", "ending", "value_range"),
    [
        (DEEP.astype(np.uint16), "png", [0, 4095]),
        (DEEP.astype(np.int32) - 1000, "tif", [-1000, 3095]),
        ((DEEP / 4095).astype(np.float32), "tif", [0.0, 1.0]),
    ],
)
def test_pictures_of_more_than_8_bits_keep_every_level_of_the_range_that_is_given(
    tmp_path, refused, pixels, ending, value_range
):
    Image.fromarray(pixels).save(tmp_path / f"x.{ending}")
    found = read_images(tmp_path, value_range=value_range)[0]
    assert np.allclose(found[0], DEEP / 4095 * 2 - 1, atol=1e-6) and len(found.unique()) == 64
    for wrong in (None, [0.5, 0.7], [1, 0]):
        with refused(expected="more than 8 bits", found="values from", where="x.", do="--value_range"):
            read_images(tmp_path, value_range=wrong)


def test_slices_of_subjects_are_cut_once_and_have_all_sequences(subjects_dir, tmp_path):
    items = [entry(subjects_dir, f"BraTS2021_{i:05d}") for i in range(2)]
    write_json(tmp_path / "d.json", {"training": items, "validation": [], "test": []})
    images = read_images(tmp_path / "d.json", size=[16, 16])
    assert images[0].shape == (4, 16, 16) and len(images) > 10
    assert torch.equal(read_images(tmp_path / "d.json", size=[16, 16], sequences=["flair"])[0][0], images[0][3])


@pytest.mark.parametrize(
    ("make", "fragments"),
    [
        (lambda folder: None, {"found": "none"}),
        (lambda folder: (write(folder, 1), write(folder / "b", 1, size=16)), {"expected": "one size", "found": "16"}),
        (lambda folder: (folder / "x.png").write_text("no picture"), {"expected": "picture", "where": "x.png"}),
        (lambda folder: np.save(folder / "x.npy", np.full((2, 8, 8), 300.0)), {"found": "300", "where": "x.npy"}),
        (lambda folder: (folder / "x.npy").write_bytes(b"junk"), {"expected": "array", "where": "x.npy"}),
        (lambda folder: np.save(folder / "x.npy", np.full((2, 8, 8), np.nan)), {"found": "nan", "where": "x.npy"}),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, refused, make, fragments):
    make(tmp_path)
    with refused(**fragments):
        read_images(tmp_path)[0]


def test_a_datalist_of_subjects_needs_a_size_and_of_nothing_is_refused(subjects_dir, tmp_path, refused):
    items = [entry(subjects_dir, "BraTS2021_00000")]
    write_json(tmp_path / "d.json", {"training": items, "validation": [], "test": []})
    with refused(where="size"):
        read_images(tmp_path / "d.json")
    write_json(tmp_path / "e.json", {"training": [], "validation": [], "test": []})
    with refused(found="none"):
        read_images(tmp_path / "e.json")


@pytest.mark.slow
def test_two_folders_are_compared_by_one_command(tmp_path):
    write(tmp_path / "real", 50, seed=1)
    write(tmp_path / "fake", 25, seed=2)
    command = [sys.executable, "-m", "mrsynth", "compare", str(tmp_path / "real"), str(tmp_path / "fake")]
    command += ["--draws", "2", "--out", str(tmp_path / "out"), "--device", "cpu"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr[-3000:]
    for word in ("Fréchet", "efficientnet_lite0", "half of real", "noise", "25 images"):
        assert word in ended.stdout
    made = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert made["measures"]["c2st"]["noise"]["mean"] > 0.8
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 1000
    failed = subprocess.run([*command[:4], str(tmp_path / "none"), str(tmp_path)], capture_output=True, text=True)
    assert failed.returncode == 1 and "Cannot go on" in failed.stderr


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of twenty subjects, and a datalist of ten without labels whose sequences are in another order."""
    folder = tmp_path_factory.mktemp("volumes")
    for number in range(30):
        write_brats(folder / ("real" if number < 20 else "fake"), f"BraTS2021_{number:05d}", brain(number))
    items = [entry(folder / "fake", f"BraTS2021_{number:05d}") for number in range(20, 30)]
    items = [{"subject": item["subject"], "image": item["image"][::-1]} for item in items]
    write_json(folder / "fake.json", {"training": items, "validation": [], "test": []})
    return folder / "real", folder / "fake.json"


def test_subjects_become_volumes_of_one_grid_with_the_background_at_exactly_minus_one(volumes, refused):
    folder, datalist = volumes
    own, coarse = (read_volumes(folder, size) for size in ([24, 24, 20], [12, 12, 10]))
    assert len(own) == len(coarse) == 20 and own[0].shape == (4, 24, 24, 20) and coarse[0].shape == (4, 12, 12, 10)
    outside = brain(0).tissue == 0
    assert (own[0][:, outside] == -1).all() and own[0].max() == 1
    assert (coarse[0] == -1).all(0).float().mean() == pytest.approx(outside.mean(), abs=0.1)
    assert len(read_volumes(datalist, [12, 12, 10])) == 10
    with refused(expected="size", found="none"):
        read_volumes(folder, None)
    write_json(datalist.with_name("none.json"), {"training": [], "validation": [], "test": []})
    with refused(expected="subjects", found="none"):
        read_volumes(datalist.with_name("none.json"), [12, 12, 10])


def test_volumes_are_compared_by_the_encoder_of_a_trained_segmenter(volumes, tmp_path):
    with scripts_of("unet3d") as scripts:
        record = {"subjects": ["A"], "settings": SMALL["unet3d"]}
        save_weights(small_network("unet3d", scripts), tmp_path / "run" / "models" / "model.pt", record)
    given = {"features": "segmenter", "weights": tmp_path / "run", "bundle": ROOT / "bundles" / "unet3d"}
    found = compare(*volumes, out=tmp_path / "out", size=[24, 24, 20], draws=2, device="cpu", **given)
    assert found["features"].startswith("segmenter unet3d") and found["count"] == 10
    frechet = {pair: value["mean"] for pair, value in found["measures"]["frechet"].items()}
    assert frechet["half of real"] < frechet["synthetic"] and frechet["half of real"] < frechet["noise"]
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 3000
