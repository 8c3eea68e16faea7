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
from mrsynth.images import read_images
from tests.conftest import entry


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
