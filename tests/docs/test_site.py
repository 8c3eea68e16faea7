"""The website: it builds strictly, loads nothing from elsewhere, and its generated parts are complete."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

import mrsynth
from mrsynth.__main__ import COMMANDS
from mrsynth.settings import described

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")
ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (ROOT / "bundles").iterdir() if (path / "docs" / "README.md").is_file())
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr  # the build itself refuses pages that load from another host
    return folder


def text_of(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_page_of_a_bundle_has_a_row_with_the_help_of_each_setting(site, bundle):
    page = text_of(site / "bundles" / bundle / "index.html")
    settings = described(str(ROOT / "bundles" / bundle))
    used = {
        name
        for file in (ROOT / "bundles" / bundle / "configs").glob("*.json")
        if file.name not in ("metadata.json", "settings.json")
        for name in json.loads(file.read_text(encoding="utf-8"))
    }
    missing = [
        name for name in sorted(used & set(settings)) if f"\n{name}\n" not in page or settings[name].help not in page
    ]
    assert not missing


def test_the_reference_has_every_public_symbol_and_every_command(site):
    rooms = {name: getattr(mrsynth, name) for name in dir(mrsynth) if hasattr(getattr(mrsynth, name), "__all__")}
    missing = []
    for name, room in rooms.items():
        page = (site / "reference" / name / "index.html").read_text(encoding="utf-8")
        paths = {symbol: (f"mrsynth.{name}.{symbol}", f"mrsynth.{name}.{symbol}.{symbol}") for symbol in room.__all__}
        missing += [either[0] for either in paths.values() if not any(f'id="{path}"' in page for path in either)]
    assert rooms and not missing
    page = text_of(site / "reference" / "command-line" / "index.html")
    assert all(f"mrsynth {command} - " in page for command in COMMANDS)
