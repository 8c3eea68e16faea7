"""The page on the architecture says which room may import which; the code does as it says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import mrsynth

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(mrsynth.__file__).parent
SIDE_BY_SIDE = {("training", "settings"), ("settings", "training")}


def imports(room: str) -> set[str]:
    """The other rooms that a room's modules import, also within functions."""
    found = set()
    for file in (PACKAGE / room).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if names == ["mrsynth"]:
                names = [f"mrsynth.{alias.name}" for alias in node.names]
            found |= {name.split(".")[1] for name in names if name.startswith("mrsynth.")}
    return found - {room}


def test_rooms_import_only_from_the_levels_below():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", page, re.MULTILINE)
    level = {room: int(number) for number, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}
    assert set(level) == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    drawing = (ROOT / "docs" / "img" / "rooms.svg").read_text(encoding="utf-8")
    assert all(f">{room}<" in drawing for room in level)
    for room in level:
        for other in imports(room) & set(level):
            assert level[other] > level[room] or (room, other) in SIDE_BY_SIDE, f"{room} imports {other}"


def test_no_room_imports_a_bundle():
    for file in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(from|import) scripts", file.read_text(encoding="utf-8"), re.MULTILINE), file
