"""The examples run from start to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
def test_the_notebook_runs_and_prints_what_is_stored_in_it(tmp_path):
    notebook = nbformat.read(EXAMPLES / "transplant.ipynb", as_version=4)
    stored = printed(notebook)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert printed(notebook) == stored
    assert sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in outputs(cell)) == 4


@pytest.mark.slow
def test_the_comparison_ranks_a_blurred_cohort_between_the_real_one_and_noise(tmp_path):
    ended = subprocess.run(
        [sys.executable, EXAMPLES / "compare_folders.py", "--out", tmp_path / "comparison"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    frechet = {pair: values["mean"] for pair, values in result["measures"]["frechet"].items()}
    assert frechet["half of real"] < frechet["synthetic"] < frechet["noise"]
    assert f"Fréchet distance {frechet['synthetic']:.1f}" in ended.stdout


def test_the_readme_and_a_page_link_each_example():
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    pages = [*EXAMPLES.parent.glob("docs/**/*.md"), *EXAMPLES.parent.glob("bundles/*/docs/README.md")]
    linked = "".join(page.read_text(encoding="utf-8") for page in pages)
    for example in EXAMPLES.iterdir():
        if example.suffix in (".py", ".ipynb"):
            assert f"](examples/{example.name})" in readme and f"examples/{example.name})" in linked, example.name


def outputs(cell) -> list:
    return cell.get("outputs", [])


def printed(notebook) -> list[str]:
    """The values and printed lines of all cells, without progress bars."""
    every = [output for cell in notebook.cells for output in outputs(cell)]
    values = [output["data"]["text/plain"] for output in every if output["output_type"] == "execute_result"]
    return values + [output["text"] for output in every if output.get("name") == "stdout"]
