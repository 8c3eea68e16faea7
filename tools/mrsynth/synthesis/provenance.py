"""How a synthetic set was made: recorded beside each part, and checked before a folder is continued."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrsynth.errors import UserError
from mrsynth.files import unwritable
from mrsynth.manifest import load_datalist, write_datalist
from mrsynth.versions import NETWORKS, versions


class Recipe:
    """Everything that determines a synthetic set: SHA-256 of the weights, seed, settings.

    Attributes:
        content: plain values, as JSON returns them.
        tag: six digits that depend on the content.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content: dict[str, Any] = json.loads(json.dumps(content))
        self.tag = digest(self.content)[:6]

    def read(self, sidecar: Path, folder: Path) -> dict[str, Any]:
        """Content of a sidecar, whose ``made_by`` must be this recipe.

        Args:
            sidecar: the file.
            folder: folder of the set, which an error names.

        Raises:
            UserError: the file cannot be read, or has another recipe.
        """
        expected = "a folder that is empty, or that the same weights, data, seed and settings have begun to fill"
        do = "move this folder away, or give another output_dir (and the weights by --weights)"
        name = sidecar.stem
        try:
            content = json.loads(sidecar.read_text(encoding="utf-8"))
            made_by = content["made_by"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(expected, f"{name}, without a sidecar that can be read", folder, do) from error
        if made_by != self.content:
            raise UserError(expected, f"{name}, made by {_difference(made_by, self.content)}", folder, do)
        return content

    def write_datalist(
        self, folder: Path, name: str, items: Sequence[Mapping[str, Any]], **facts: Any
    ) -> tuple[Path, dict[str, Any]]:
        """Write ``datalist.json`` of a complete set and read it back; returns content and path.

        Args:
            folder: folder of the set.
            name: name of the set.
            items: synthetic items; all of them are for training.
            facts: further entries.
        """
        datalist = {"name": name, "made_by": {**self.content, "versions": versions(NETWORKS)}, **facts}
        datalist |= {"training": list(items), "validation": [], "test": []}
        path = folder / "datalist.json"
        write_datalist(path, datalist)
        load_datalist(path)
        return path, datalist


def cleared(folder: Path) -> list[Path]:
    """Content of ``folder``, which is made if it does not exist; unfinished parts of a killed process are removed.

    Raises:
        UserError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(folder.iterdir())
        for entry in entries:
            if entry.name.startswith(".tmp-"):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    except OSError as error:
        raise unwritable(folder, error) from error
    return [entry for entry in entries if not entry.name.startswith(".tmp-")]


def digest(content: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _difference(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """The differences of another recipe from this one, in words."""
    flat = [{**{k: v for k, v in r.items() if k != "settings"}, **r.get("settings", {})} for r in (theirs, mine)]
    keys = [key for key in {**flat[0], **flat[1]} if flat[0].get(key) != flat[1].get(key)]
    return ", ".join(f"{key} {flat[0].get(key)} instead of {flat[1].get(key)}" for key in keys)
