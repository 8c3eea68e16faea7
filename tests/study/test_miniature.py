"""The shipped study itself at its smallest: a real segmenter, real synthetic subjects, by MONAI's command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

OPTIONS = {
    "rows": "['Real','Real + copy-paste']",
    "segmenters": "{'unet3d': {'bundle': 'bundles/unet3d', 'options': '@unet3d_options'}}",
    "unet3d_options": "{'patch_size': [16,16,16], 'filters': [4,8,8], 'iterations_per_epoch': 2, 'batch_size': 2, "
    "'validate_every': 9, 'montage_every': 9, 'device': 'cpu', 'amp': 'none'}",
    "spatial_size": "[16,16,16]",
    "split": "{'seed': 0, 'validation': 1, 'test': 2}",
    "max_iterations": "2",
    "parallel": "1",
}


def run(output: Path, dataset: Path) -> str:
    """Run the study; what it printed."""
    given = OPTIONS | {"dataset_dir": str(dataset), "output_dir": str(output)}
    command = [sys.executable, "-m", "monai.bundle", "run", "study", "--config_file"]
    command += [str(ROOT / "bundles" / "tumor3d" / "configs" / "study.json")]
    command += [word for key, value in given.items() for word in (f"--{key}", value)]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, timeout=300)
    assert made.returncode == 0, made.stdout[-4000:]
    return made.stdout


@pytest.mark.slow
def test_the_shipped_study_runs_once(subjects_dir, tmp_path):
    said = run(tmp_path, subjects_dir)
    assert "[5 of 5]" in said  # a synthesis, two trainings, two evaluations
    page, table = (tmp_path / "study.html").read_text(), (tmp_path / "table.md").read_bytes()
    assert "unet3d, grid generator" in page and "16 x 16 x 16 voxels" in page
    assert "Doncenco" not in table.decode()  # figures of another segmenter
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("done.json")}
    assert len(before) == 5
    assert "5 of 5 steps are complete from before" in run(tmp_path, subjects_dir)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("done.json")} == before
    assert (tmp_path / "table.md").read_bytes() == table
