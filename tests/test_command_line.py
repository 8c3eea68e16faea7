"""``python -m mrsynth``: phantoms are made and indexed, and a mistake ends with its message alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mrsynth.settings import settings_table


def mrsynth(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mrsynth", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_phantoms_are_made_indexed_and_split(tmp_path):
    made = mrsynth("phantom", "--subjects", 5, "--out", tmp_path / "cohort", "--spacing", 4)
    assert made.returncode == 0, made.stderr
    indexed = mrsynth("index", "--root", tmp_path / "cohort", "--out", tmp_path / "list.json")
    assert indexed.returncode == 0, indexed.stderr
    datalist = json.loads((tmp_path / "list.json").read_text())
    assert datalist["dataset"] == "phantom"
    assert sum(len(datalist[section]) for section in ("training", "validation", "test")) == 5
    assert "training" in indexed.stdout


def test_a_mistake_ends_with_its_message_and_no_traceback(tmp_path):
    ended = mrsynth("index", "--root", tmp_path / "nowhere", "--out", tmp_path / "list.json")
    assert ended.returncode == 1
    assert "expected:" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "list.json").exists()


@pytest.mark.parametrize("option", [["--label", "false"], ["--label=FALSE"]])
def test_false_in_any_case_is_taken_as_meant(tmp_path, make_brain, brats, option):
    for seed in range(3):
        (brats[0](tmp_path / "data", f"Case_{seed}", make_brain(seed)) / f"Case_{seed}_seg.nii.gz").unlink()
    indexed = mrsynth("index", "--root", tmp_path / "data", "--test", 1, *option)
    assert indexed.returncode == 0, indexed.stderr


def test_without_a_command_it_lists_them():
    said = mrsynth()
    assert said.returncode == 0
    assert all(f"\n  {name} " in said.stdout for name in ("compare", "index", "patches", "phantom", "settings"))


@pytest.mark.slow
def test_settings_prints_the_table_of_a_bundle():
    printed = mrsynth("settings", "bundles/brain2d")
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.strip() == settings_table("bundles/brain2d").strip()
    refused = mrsynth("settings", "bundles")
    assert refused.returncode == 1 and "pass for instance bundles/brain2d" in refused.stderr


def test_the_package_lists_its_rooms():
    import mrsynth as package

    rooms = {path.parent.name for path in Path(package.__file__).parent.glob("*/__init__.py")}
    assert rooms <= set(dir(package))
    assert all(f"``{room}``" in package.__doc__ for room in rooms)
