"""What a cohort on disk promises: BraTS's layout, real sizes, one complete folder whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrsynth.errors import UserError
from mrsynth.files import sha256
from mrsynth.phantom import cohort as module
from mrsynth.phantom import default_cohort, make_cohort, make_subject

PARTS = ("t1", "t1ce", "t2", "flair", "seg")


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*.nii.gz"))}


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".tmp-*")]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort") / "data", subjects=6, seed=3, spacing=2, workers=2)


def test_layout(cohort):
    assert sorted(os.listdir(cohort)) == [*(f"Phantom_{index:05d}" for index in range(6)), "cohort.json"]
    for index in range(6):
        name = f"Phantom_{index:05d}"
        assert sorted(os.listdir(cohort / name)) == sorted(f"{name}_{part}.nii.gz" for part in PARTS)
    assert json.loads((cohort / "cohort.json").read_text())["subjects"] == 6


def test_files_hold_what_make_subject_makes(cohort):
    image, label, affine = make_subject(3, 5, 2)
    for part, expected in zip(PARTS, [*image, label], strict=True):
        nifti = nib.load(cohort / f"Phantom_00005/Phantom_00005_{part}.nii.gz")
        np.testing.assert_array_equal(np.asarray(nifti.dataobj), expected)
        np.testing.assert_array_equal(nifti.affine, affine)


def test_header_is_that_of_brats(tmp_path):
    folder = make_cohort(tmp_path / "data", subjects=1, spacing=1)
    for part in PARTS:
        header = nib.load(folder / f"Phantom_00000/Phantom_00000_{part}.nii.gz").header
        assert header.get_data_shape() == (240, 240, 155)
        assert header.get_data_dtype() == (np.uint8 if part == "seg" else np.int16)
        assert header.get_zooms() == (1, 1, 1)
        assert int(header["qform_code"]) == int(header["sform_code"]) == 1
        assert int(header["xyzt_units"]) == 2
        expected = [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]
        np.testing.assert_array_equal(header.get_sform(), expected)
        np.testing.assert_array_equal(header.get_qform(), expected)
        assert nib.aff2axcodes(header.get_best_affine()) == ("L", "P", "S")


def test_sizes_are_those_of_real_subjects(cohort):
    wholes = []
    for index in range(6):
        name = f"Phantom_{index:05d}"
        t1, seg = (np.asarray(nib.load(cohort / name / f"{name}_{part}.nii.gz").dataobj) for part in ("t1", "seg"))
        where = np.argwhere(t1 > 0)
        box = (where.max(0) - where.min(0) + 1) * 2
        assert 1270 <= len(where) * 8 / 1000 <= 1730, name
        # a box on a 2 mm grid can be a voxel larger than on the 1 mm grid
        for length, (low, high) in zip(box, ((128, 145), (161, 182), (129, 146)), strict=True):
            assert low <= length <= high + 1, (name, box)
        wholes.append((seg > 0).sum() * 8 / 1000)
    assert min(wholes) >= 30 and max(wholes) <= 231
    assert max(wholes) > 1.5 * min(wholes)


def test_worker_count_does_not_matter(tmp_path, cohort):
    """The fixture was made by two children, this one in this process."""
    alone = make_cohort(tmp_path / "alone", subjects=1, seed=3, spacing=2, workers=1)
    theirs = contents(cohort)
    assert contents(alone) == {name: theirs[name] for name in contents(alone)}


def test_extended_and_completed_without_touching_what_is_there(tmp_path, monkeypatch):
    made = []

    def subject(seed, index, spacing):
        made.append(index)
        return np.full((4, 2, 2, 2), index, np.int16), np.zeros((2, 2, 2), np.uint8), np.eye(4)

    monkeypatch.setattr(module, "BRAINS", replace(module.BRAINS, make=subject))

    def make(subjects: int) -> tuple[dict[str, str], list[int]]:
        made.clear()
        folder = make_cohort(tmp_path / "data", subjects=subjects, spacing=4, workers=1)
        assert json.loads((folder / "cohort.json").read_text())["subjects"] == subjects
        assert [path for path in tmp_path.rglob("*") if path.name.startswith(".")] == []
        return contents(folder), list(made)

    before, _ = make(2)
    stamp = (tmp_path / "data/Phantom_00001/Phantom_00001_t1.nii.gz").stat().st_mtime_ns
    after, indices = make(4)
    assert indices == [2, 3] and before.items() <= after.items() and len(after) == 20
    (tmp_path / "data/Phantom_00002/Phantom_00002_seg.nii.gz").unlink()
    assert make(4) == (after, [2])
    assert make(4) == (after, [])
    assert (tmp_path / "data/Phantom_00001/Phantom_00001_t1.nii.gz").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "wrong",
    [{"subjects": 0}, {"subjects": -2}, {"subjects": 1.5}, {"seed": -1}, {"spacing": 2.5}, {"workers": 0}],
)
def test_refuses_parameters(tmp_path, wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        make_cohort(tmp_path / "data", **({"subjects": 1, "spacing": 4} | wrong))
    assert not list(tmp_path.iterdir())


def test_refuses_a_folder_in_use(tmp_path, cohort):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("irreplaceable")
    (tmp_path / "file").write_text("a file")
    for folder, found in ((tmp_path / "mine", "other files"), (tmp_path / "file", "a file")):
        with pytest.raises(UserError, match=found):
            make_cohort(folder, subjects=1, spacing=4)
    for other, found in (({"seed": 4}, "seed 3 instead of 4"), ({"subjects": 5}, "6 subjects, more than the 5")):
        with pytest.raises(UserError, match=found):
            make_cohort(cohort, **({"subjects": 6, "seed": 3, "spacing": 2} | other))
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_refuses_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="file that can be written"):
        make_cohort(tmp_path / "file" / "data", subjects=1, spacing=4)


def test_failure_keeps_what_is_whole_and_the_next_call_completes_it(tmp_path, monkeypatch):
    def fail(seed, index, spacing):
        if index:
            raise OSError(28, "No space left on device")
        return np.zeros((4, 2, 2, 2), np.int16), np.zeros((2, 2, 2), np.uint8), np.eye(4)

    monkeypatch.setattr(module, "BRAINS", replace(module.BRAINS, make=fail))
    monkeypatch.setattr(module, "make_all", lambda write, indices, *_: [write(index) for index in indices])
    with pytest.raises(OSError, match="space"):
        make_cohort(tmp_path / "data", subjects=2, spacing=4, workers=1)
    assert sorted(os.listdir(tmp_path / "data")) == ["Phantom_00000", "cohort.json"]
    monkeypatch.undo()
    assert len(contents(make_cohort(tmp_path / "data", subjects=2, spacing=4, workers=1))) == 10


DEFAULT = "from mrsynth.phantom import default_cohort; print(default_cohort({subjects}, seed=1, spacing=4))"


def start(home: Path, subjects: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", DEFAULT.format(subjects=subjects)],
        env=os.environ | {"MRSYNTH_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_two_processes_get_one_complete_cohort(tmp_path, monkeypatch):
    runs = [start(tmp_path, 2) for _ in range(2)]
    answers = [Path(run.communicate(timeout=120)[0].strip()) for run in runs]
    assert answers[0] == answers[1] and [run.returncode for run in runs] == [0, 0]
    assert len(contents(answers[0])) == 10
    assert not hidden(tmp_path)
    # and a third uses it as it stands
    stamps = {path: path.stat().st_mtime_ns for path in answers[0].rglob("*")}
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path))
    assert default_cohort(2, seed=1, spacing=4) == answers[0]
    assert stamps == {path: path.stat().st_mtime_ns for path in answers[0].rglob("*")}


@pytest.mark.slow
def test_killed_run_leaves_nothing_that_is_used(tmp_path, monkeypatch):
    run = start(tmp_path, 2)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not hidden(tmp_path):
        time.sleep(0.05)
    time.sleep(0.5)  # it is at work
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()
    subjects = [path for path in (tmp_path / "phantom").glob("*/Phantom_*")]
    assert all(len(list(path.iterdir())) == 5 for path in subjects)
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path))
    folder = default_cohort(2, seed=1, spacing=4)
    assert len(contents(folder)) == 10
    assert not hidden(tmp_path)


def test_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path / "home"))
    with pytest.raises(UserError, match="MRSYNTH_HOME"):
        default_cohort(1, spacing=4)
