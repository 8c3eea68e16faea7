"""What making subjects in several processes promises: each once, and a failure that stops all and leaves nothing."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest

from mrsynth.errors import UserError
from mrsynth.files import atomic_folder
from mrsynth.phantom.pool import make_all

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The children import the writers below by this module's name."""
    monkeypatch.syspath_prepend(ROOT)


def write(folder: Path, index: int) -> None:
    (folder / f"{index} by {os.getpid()}").touch()


def write_for_long(folder: Path, index: int, error: Exception) -> None:
    """The first is a minute in the middle of its folder; meanwhile the second fails."""
    if index == 0:
        with atomic_folder(folder / "first") as temporary:
            (temporary / "begun").touch()
            time.sleep(60)
    while not list(folder.glob(".tmp-first-*/begun")):
        time.sleep(0.01)
    raise error


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_each_is_made_once_by_as_many_processes_as_were_asked_for(tmp_path, workers):
    make_all(partial(write, tmp_path), [1, 4, 5], workers, "making")
    made = [path.name.split(" by ") for path in tmp_path.iterdir()]
    assert sorted(index for index, _ in made) == ["1", "4", "5"]
    assert len({process for _, process in made}) <= min(workers, 3)
    assert (str(os.getpid()) in {process for _, process in made}) == (workers == 1)


def test_nothing_to_make(tmp_path):
    make_all(partial(write, tmp_path), [], None, "making")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("a voxel", "none", "the folder", "look elsewhere"), "look elsewhere"),
        (OSError("broken"), "broken"),
    ],
)
def test_one_that_fails_stops_the_others_which_leave_nothing_that_is_read(tmp_path, error, message):
    began = time.monotonic()
    with pytest.raises(type(error), match=message):
        make_all(partial(write_for_long, tmp_path, error=error), [0, 1], 2, "making")
    assert time.monotonic() - began < 50
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".tmp-")]
